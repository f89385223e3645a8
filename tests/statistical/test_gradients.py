"""Gradients of the bound, float64, every coordinate: of fixed noise by differences, of angles in the mean."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _models import build, by_names
from jax.flatten_util import ravel_pytree

from aevb.estimators import SgvbA, SgvbB, StickingTheLanding, minibatch_bound
from aevb.models import Decoder, GaussianLikelihood, Mlp, tie

pytestmark = pytest.mark.usefixtures("x64")

N, D, J = 4, 3, 2
CASES = {
    "bernoulli": {"likelihood": "bernoulli"},
    "grey": {"likelihood": "bernoulli", "grey": True},
    "gaussian": {"likelihood": "gaussian"},
    "gaussian-sigmoid": {"likelihood": "gaussian", "sigmoid_mean": True},
    "two-layers-softplus": {"likelihood": "bernoulli", "hidden": (4, 3), "activation": "softplus"},
    "no-hidden-layer": {"likelihood": "gaussian", "hidden": ()},
}


def rows_for(case: str) -> jax.Array:
    rng = np.random.default_rng(0)
    grey = rng.uniform(size=(N, D))
    return jnp.asarray({"bernoulli": grey > 0.5, "two-layers-softplus": grey > 0.5}.get(case, grey), float)


def bound_and_parameters(case: str, estimator, *, broken: bool = False):
    options = {"hidden": (4,), "activation": "tanh"} | CASES[case]
    generative, recognition = build(by_names(D, J, **options), key=jax.random.key(3))
    params, static = eqx.partition((generative, recognition), eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    # Biases start at zero, a special point; move everything off it.
    flat = flat + 0.1 * jax.random.normal(jax.random.key(4), flat.shape)
    keys = jax.random.split(jax.random.key(5), N)
    rows = rows_for(case)

    def bound(flat):
        params = unravel(flat)
        if broken:  # planted defect: the encoder's scale gets no gradient
            params = eqx.tree_at(
                lambda p: p[1].maps["raw_scale"], params, jax.lax.stop_gradient(params[1].maps["raw_scale"])
            )
        return minibatch_bound(estimator, keys, *eqx.combine(params, static), rows, N)[0]

    return bound, flat


def largest_relative_error(case: str, estimator, *, broken: bool = False) -> float:
    bound, flat = bound_and_parameters(case, estimator, broken=broken)

    @jax.jit
    def both(flat):
        steps = 1e-5 * jnp.concatenate([jnp.eye(len(flat)), -jnp.eye(len(flat))])
        up, down = jnp.split(jax.vmap(lambda e: bound(flat + e))(steps), 2)
        return (up - down) / 2e-5, jax.grad(bound)(flat)

    difference, gradient = both(flat)
    assert flat.dtype == jnp.float64
    assert np.count_nonzero(difference) > 0.9 * len(flat)
    return float(jnp.max(jnp.abs(gradient - difference)) / jnp.max(jnp.abs(difference)))


SGVB_B_ONLY = {"two-layers-softplus", "no-hidden-layer"}
PAIRS = [(c, e) for c in CASES for e in (SgvbA(2), SgvbB(2)) if isinstance(e, SgvbB) or c not in SGVB_B_ONLY]


@pytest.mark.parametrize(("case", "estimator"), PAIRS, ids=str)
def test_reverse_mode_is_the_derivative(case, estimator):
    assert largest_relative_error(case, estimator) < 1e-8


@pytest.mark.parametrize("estimator", [SgvbB()], ids=repr)
def test_a_missing_gradient_is_seen(estimator):
    assert largest_relative_error("bernoulli", estimator, broken=True) > 1e-4


# --- angles: the circle is cut at +-pi, and a function that jumps there has a gradient that no path knows of ----------


@pytest.mark.parametrize("prior", ["von-mises", "vamp", "normal"])
@pytest.mark.parametrize("estimator", [SgvbA(), StickingTheLanding()], ids=repr)
def test_gradients_on_a_circle_against_quadrature(estimator, prior):
    """Of a decoder of the angle itself the encoder's gradient is biased, and can be of the wrong sign."""
    off, planted = (largest_z_score_on_the_circle(estimator, prior, angles=angles) for angles in (True, False))
    assert off < 5
    assert planted > 8


def largest_z_score_on_the_circle(estimator, prior, *, angles):
    architecture = by_names(
        3, 1, (4,), "tanh", "gaussian", posterior="von-mises", prior=prior, prior_components=2 if prior == "vamp" else 0
    )
    generative, recognition = build(architecture, key=jax.random.key(3))
    if not angles:
        generative = Decoder(
            3, 1, Mlp((4,)), GaussianLikelihood(), prior=generative.latent_prior, key=jax.random.key(3)
        )
    params, static = eqx.partition((generative, recognition), eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    flat = flat + 0.5 * jax.random.normal(jax.random.key(4), flat.shape)
    x = jnp.array([1.0, -1.0, 0.5])
    # The middles of 4,000 equal cells: of a smooth periodic function the sum is exact to rounding.
    cells = 4000
    grid = (jnp.arange(cells) + 0.5) * (2 * jnp.pi / cells) - jnp.pi

    def models(flat):
        generative, recognition = eqx.combine(unravel(flat), static)
        return tie(generative, recognition), recognition

    def exact(flat):
        generative, recognition = models(flat)
        log_q = jax.vmap(lambda z: recognition.posterior(x).log_prob(z[None]))(grid)
        log_p = jax.vmap(lambda z: generative.log_joint(x, z[None]))(grid)
        return jnp.sum(jnp.exp(log_q) * (log_p - log_q)) * (2 * jnp.pi / cells)

    def drawn(flat, key):
        return minibatch_bound(estimator, key[None], *models(flat), x[None], 1)[0]

    keys = jax.random.split(jax.random.key(5), 20_000)
    gradients = jax.jit(jax.vmap(jax.grad(drawn), (None, 0)))(flat, keys)
    error = jnp.mean(gradients, 0) - jax.jit(jax.grad(exact))(flat)
    noise = jnp.std(gradients, 0) / np.sqrt(len(keys))
    moved = noise > 1e-12
    assert float(jnp.max(jnp.abs(jnp.where(moved, 0.0, error)))) < 1e-6
    return float(jnp.max(jnp.abs(jnp.where(moved, error / jnp.where(moved, noise, 1.0), 0.0))))
