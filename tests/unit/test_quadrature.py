"""Quadrature of p(x | z) p(z) against closed forms, other integrals, and itself."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _models import build, by_names
from _oracles import JointOnly, Problem

from aevb.distributions import FAMILIES, ContinuousBernoulli, Normal
from aevb.errors import UnavailableError
from aevb.evaluate import _quadrature, has_quadrature, quadrature_log_likelihood
from aevb.models import (
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    ContinuousBernoulliLikelihood,
    Decoder,
    FlowPrior,
    GaussianLikelihood,
    MixturePrior,
    Mlp,
    StandardPrior,
    tie,
)


def linear(latent_dim: int, scale: float, num_rows: int = 30) -> Problem:
    """A linear-Gaussian model with noise of this size, and rows of it: the posterior's scale is about the noise's."""
    p = Problem.make(data_dim=5, latent_dim=latent_dim, num_rows=1, seed=latent_dim)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(num_rows, latent_dim)) @ p.weight.T + p.mean + scale * rng.normal(size=(num_rows, 5))
    return Problem(p.weight, p.mean, scale, rows)


# --- exact values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.1, 0.003])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_linear_gaussian_models(latent_dim, scale, x64):
    """Posteriors as wide as the prior, and so narrow that the first grid has no point within ten sigmas of most."""
    p = linear(latent_dim, scale)
    found = quadrature_log_likelihood(p.generative(), p.rows, tolerance=1e-6)
    np.testing.assert_allclose(found.log_likelihood, p.log_marginal(), atol=1e-5)
    assert np.all(found.error < 2e-6 + 1e-3 * (scale < 0.5))  # with what dropped cells could have held at most
    assert np.all(np.abs(found.log_likelihood - p.log_marginal()) <= found.error + 1e-9)
    some = quadrature_log_likelihood(p.generative(), p.rows, tolerance=0.1)
    assert np.all(np.abs(some.log_likelihood - p.log_marginal()) <= some.error + 1e-9)


def test_in_single_precision():
    p = linear(2, 0.3)
    found = quadrature_log_likelihood(p.generative(), p.rows.astype(np.float32))
    np.testing.assert_allclose(found.log_likelihood, p.log_marginal(), atol=1e-3)
    # Negative control: half a cell's width of the wrong size, log 2 / 2, would be seen.
    assert np.abs(found.log_likelihood + 0.5 * np.log(2) - p.log_marginal()).min() > 0.3


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_probabilities_of_all_images_sum_to_one(latent_dim, x64):
    generative = jax.tree.map(lambda w: 3 * w, Decoder(6, latent_dim, Mlp((5,)), key=jax.random.key(3)))
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.uint8)
    found = quadrature_log_likelihood(generative, every, tolerance=1e-8)
    np.testing.assert_allclose(np.exp(found.log_likelihood).sum(), 1.0, atol=1e-7)


class Peaks(AbstractPriorLikelihood):
    """p(x | z) = N(x_1; sin 3 z_1, s^2) N(x_2; z_2^2, s^2): in z up to six narrow, unequal peaks."""

    scale: float
    family: str = "normal"

    def prior(self):
        return FAMILIES[self.family].standard(2)

    def likelihood(self, z):
        return Normal(jnp.stack([jnp.sin(3 * z[0]), z[1] ** 2]), self.scale).to_event(1)

    def exact(self, x):
        """A product of two integrals in one dimension, each on two million points."""
        z = np.linspace(-9, 9, 2_000_001)
        log_step = np.log(z[1] - z[0])
        return sum(
            scipy.special.logsumexp(log_normal(x[i], mean, self.scale) + log_normal(z, 0.0, 1.0)) + log_step
            for i, mean in ((0, np.sin(3 * z)), (1, z**2))
        )


def log_normal(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)


@pytest.mark.parametrize("scale", [0.3, 0.01])
def test_many_narrow_peaks(scale, x64):
    rows = np.array([[0.5, 1.0], [-0.9, 0.3], [0.0, 2.5]])
    generative = Peaks(scale)
    found = quadrature_log_likelihood(generative, rows)
    exact = np.array([generative.exact(x) for x in rows])
    np.testing.assert_allclose(found.log_likelihood, exact, atol=1e-3)
    # Negative control: one of the eight peaks of the first row left out is more than a hundredth of the smallest.
    assert found.error.max() < 3e-3


LEGENDRE = np.polynomial.legendre.leggauss(200)


@pytest.mark.parametrize(
    "family",
    ["gamma", "pareto", "uniform", "von-mises", "dirichlet", "cauchy", "laplace"],
)
def test_priors_on_every_support(family, x64):
    """Against adaptive integration in one dimension, of a likelihood that is not even."""
    size = 2 if family == "dirichlet" else 1
    kind = FAMILIES[family]

    class Wave(AbstractPriorLikelihood):
        def prior(self):
            return kind.standard(size)

        def likelihood(self, z):
            return Normal(jnp.stack([jnp.tanh(2 * z[0] - 1), 1 / (1 + z[0] ** 2)]), 0.3).to_event(1)

    x = np.array([0.4, 0.5])
    low, high = kind.edges

    nodes = [a for a in (-10.0, -3.0, -1.0, 0.0, 0.5, 1.0, 3.0, 10.0) if low < a < high]
    ends = [low, *nodes, high]

    @jax.jit
    @jax.vmap
    def log_joint(z):
        return Wave().log_joint(jnp.asarray(x), jnp.stack([z, 1 - z][:size]))

    total = 0.0
    for a, b in itertools.pairwise(ends):
        # Gauss-Legendre, 200 points a piece; the infinite pieces by z = a +- t / (1 - t).
        t, w = 0.5 * (LEGENDRE[0] + 1), 0.5 * LEGENDRE[1]
        if np.isinf(b):
            z, w = a + t / (1 - t), w / (1 - t) ** 2
        elif np.isinf(a):
            z, w = b - t / (1 - t), w / (1 - t) ** 2
        else:
            z, w = a + (b - a) * t, (b - a) * w
        total += float(np.sum(w * np.exp(np.asarray(log_joint(jnp.asarray(z))))))
    found = quadrature_log_likelihood(Wave(), x[None])
    np.testing.assert_allclose(found.log_likelihood, np.log(total), atol=1e-3)
    assert found.error[0] < 3e-3


# --- learned priors, and other likelihoods: a dense sum over the plane ------------------------------------------------


def dense(generative, rows):
    axis = np.linspace(-9, 9, 601)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))

    def of_row(x):
        values = jax.lax.map(lambda z: generative.log_joint(x, z), grid, batch_size=8192)
        return jax.scipy.special.logsumexp(values) + 2 * jnp.log(axis[1] - axis[0])

    return np.asarray(jax.jit(lambda rows: jax.lax.map(of_row, rows))(jnp.asarray(rows, float)))


def prior_of(kind):
    key = jax.random.key(5)
    if kind == "mixture":
        prior = MixturePrior(2, 5, key=key)
        return jax.tree.map(lambda leaf: leaf - 1.0 if leaf.ndim == 2 else leaf, prior)  # scales below 1
    if kind == "flow":
        return jax.tree.map(lambda w: 2 * w, FlowPrior(2, steps=2, hidden=(8,), key=key))
    return StandardPrior(2)


@pytest.mark.parametrize("kind", ["normal", "mixture", "flow"])
def test_learned_priors(kind, x64):
    generative = Decoder(4, 2, Mlp((6,)), GaussianLikelihood(), prior=prior_of(kind), key=jax.random.key(1))
    rows = np.random.default_rng(0).normal(size=(5, 4))
    found = quadrature_log_likelihood(generative, rows)
    np.testing.assert_allclose(found.log_likelihood, dense(generative, rows), atol=1e-3)


def test_a_prior_made_of_posteriors(x64):
    pair = build(
        by_names(4, 2, (6,), "tanh", "gaussian", prior="vamp", prior_components=7),
        pseudo_inputs=jnp.asarray(np.random.default_rng(1).normal(size=(7, 4))),
        key=jax.random.key(0),
    )
    generative = tie(*pair)
    rows = np.random.default_rng(0).normal(size=(3, 4))
    found = quadrature_log_likelihood(generative, rows)
    np.testing.assert_allclose(found.log_likelihood, dense(generative, rows), atol=1e-3)


class Grey(AbstractPriorLikelihood):
    """A continuous Bernoulli, by its own class or by another name: as a product of matrices, and one by one."""

    kind: type

    def prior(self):
        return Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)

    def likelihood(self, z):
        return self.kind(jnp.array([[2.0, -1.0, 0.5], [1.0, 1.5, -3.0]]) @ jnp.tile(z, 2)[:3] * 2 + 0.3).to_event(1)


class OtherName(ContinuousBernoulli):
    pass


def test_both_ways_through_the_likelihood_are_the_same(x64):
    rows = np.random.default_rng(0).uniform(size=(4, 2))
    product, one_by_one = (quadrature_log_likelihood(Grey(kind), rows) for kind in (ContinuousBernoulli, OtherName))
    np.testing.assert_allclose(product.log_likelihood, one_by_one.log_likelihood, atol=1e-9)
    np.testing.assert_allclose(product.log_likelihood, dense(Grey(ContinuousBernoulli), rows), atol=1e-3)


class Bump(AbstractPriorLikelihood):
    """Two latents; one datum x = a step up and a step down in z_1, 0.06 apart, with noise of 0.05."""

    def prior(self):
        return Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return Normal(self.mean(z[:1], jnp), 0.05).to_event(1)

    def mean(self, z, of=np):
        return 0.5 * (of.tanh(100 * (z - 0.97)) - of.tanh(100 * (z - 1.03)))


class Here(AbstractRecognitionModel):
    """q(z | x) = N(loc, 0.01^2)."""

    loc: jax.Array

    def posterior(self, x):
        return Normal(self.loc, 0.01).to_event(1)


def test_what_the_grid_steps_over_is_told_where_the_encoder_knows_it():
    """Half-way up the bump two strips of 0.01 hold all of p(x); the first grid's 64 points a side have none there."""
    z = np.linspace(-9, 9, 2_000_001)
    rows = np.array([[0.4975], [0.0]], np.float32)
    exact = [
        scipy.special.logsumexp(log_normal(x, Bump().mean(z), 0.05) + log_normal(z, 0.0, 1.0)) + np.log(z[1] - z[0])
        for x in rows[:, 0]
    ]
    alone = quadrature_log_likelihood(Bump(), rows)
    wrong = np.abs(alone.log_likelihood - exact)
    assert wrong[0] > 5 > 0.01 > alone.error[0]  # what the grid cannot know
    told = quadrature_log_likelihood(Bump(), rows, Here(jnp.array([0.98, 0.0])))
    assert told.error[0] > 5
    assert told.error[1] == alone.error[1]  # no fuss without need


def test_outside_of_the_likelihoods_support():
    generative = Decoder(4, 1, Mlp((3,)), ContinuousBernoulliLikelihood(), key=jax.random.key(0))
    rows = np.array([[1.5, 0.3, 0.2, 0.1], [-1.0, 0.2, 0.3, 0.4], [1.0, 0.2, 0.3, 0.0]], np.float32)
    found = quadrature_log_likelihood(generative, rows)
    np.testing.assert_array_equal(np.isneginf(found.log_likelihood), [True, True, False])


class Ruler(AbstractPriorLikelihood):
    """x = z + noise, so narrow that in single precision there are few numbers across it."""

    scale: jax.Array

    def prior(self):
        return Normal(jnp.zeros(1), 1.0).to_event(1)

    def likelihood(self, z):
        return Normal(z, self.scale).to_event(1)


def test_the_error_knows_of_rounding():
    rows = np.array([[0.9], [3.1234], [1.7], [0.1]], np.float32)
    for scale in (1e-4, 1e-5, 1e-6):
        found = quadrature_log_likelihood(Ruler(jnp.float32(scale)), rows)
        exact = log_normal(rows[:, 0].astype(float), 0.0, np.hypot(1.0, scale))
        assert np.all(np.abs(found.log_likelihood - exact) <= found.error)
    wide = quadrature_log_likelihood(Ruler(jnp.float32(1e-2)), rows)
    assert np.all(wide.error < 2e-3)  # and makes no fuss without need


# --- how it goes about it ---------------------------------------------------------------------------------------------


def test_parts_of_the_rows_give_what_the_whole_gives(x64, monkeypatch):
    p = linear(2, 0.1, num_rows=45)
    whole = quadrature_log_likelihood(p.generative(), p.rows)
    monkeypatch.setattr(_quadrature, "_BLOCK", 20)
    parts = quadrature_log_likelihood(p.generative(), p.rows)
    np.testing.assert_allclose(parts.log_likelihood, whole.log_likelihood, atol=1e-9)
    one = quadrature_log_likelihood(p.generative(), p.rows[44:])
    np.testing.assert_allclose(one.log_likelihood, whole.log_likelihood[44:], atol=1e-9)


def test_a_row_that_is_not_resolved_says_so(x64, monkeypatch):
    """Too few levels for its narrow posterior; and a row far outside of the prior, beyond the grid."""
    p = linear(2, 0.003, num_rows=5)
    monkeypatch.setattr(_quadrature, "_MOST_LEVELS", 3)
    found = quadrature_log_likelihood(p.generative(), p.rows)
    true = np.abs(found.log_likelihood - p.log_marginal())
    assert true.max() > 0.01
    assert np.all(found.error >= true)
    monkeypatch.undo()
    p = linear(1, 0.6, num_rows=1)
    far = Problem(p.weight, p.mean, p.scale, 40.0 * p.weight.T + p.mean)  # the posterior is at z = 35, 35 sigmas out
    found = quadrature_log_likelihood(far.generative(), far.rows)
    assert np.abs(found.log_likelihood - far.log_marginal()) > 0.1
    assert found.error[0] >= np.abs(found.log_likelihood - far.log_marginal())[0]


def test_a_likelihood_of_zero_is_minus_infinity():
    class Nowhere(AbstractPriorLikelihood):
        def prior(self):
            return Normal(jnp.zeros(1), jnp.ones(1)).to_event(1)

        def likelihood(self, z):
            return FAMILIES["uniform"].make(low=z, width=jnp.ones(1))

    found = quadrature_log_likelihood(Nowhere(), np.array([[np.inf]], np.float32))
    assert np.isneginf(found.log_likelihood[0])


def test_what_it_is_not_for():
    with pytest.raises(UnavailableError, match="one or two latent dimensions and this model has 3"):
        quadrature_log_likelihood(Decoder(4, 3, Mlp((3,)), key=jax.random.key(0)), np.zeros((2, 4)))
    p = linear(1, 0.5, num_rows=2)
    assert not has_quadrature(JointOnly(p.generative()))
    with pytest.raises(UnavailableError, match="JointOnly has log_joint"):
        quadrature_log_likelihood(JointOnly(p.generative()), p.rows)
    with pytest.raises(ValueError, match="tolerance"):
        quadrature_log_likelihood(p.generative(), p.rows, tolerance=0.0)
    with pytest.raises(ValueError, match="0 rows"):
        quadrature_log_likelihood(p.generative(), p.rows[:0])


def test_a_fault_of_the_users_model_is_no_answer():
    """Only "this model has no such thing" may send "auto" elsewhere; any other error is a bug and is shown."""

    class Broken(AbstractPriorLikelihood):
        def prior(self):
            return Normal(jnp.zeros(1), jnp.ones(1) + "1").to_event(1)

        def likelihood(self, z):
            return Normal(z, 1.0).to_event(1)

    with pytest.raises(TypeError):
        has_quadrature(Broken())
