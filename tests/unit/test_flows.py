"""Flows: both directions undo each other, log-determinants and densities against what they must be by definition."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb.distributions import Normal, rsample_and_log_prob
from aevb.models import AbstractFlow, CouplingFlow, FlowDistribution, InverseAutoregressiveFlow, MaskedNetwork

KINDS = {"iaf": InverseAutoregressiveFlow, "coupling": CouplingFlow}
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}
C = 3


def make(
    kind: str, latent_dim: int, context_dim: int = C, steps: int = 3, move: float = 0.5, **options
) -> AbstractFlow:
    """A flow moved off its initial parameters, so that it is far from the identity."""
    options = {"hidden": (9,)} | options
    return jiggled(KINDS[kind](latent_dim, context_dim, steps=steps, key=jax.random.key(0), **options), move)


def jiggled(module: eqx.Module, move: float) -> eqx.Module:
    leaves, tree = jax.tree.flatten(module)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    dtype = jnp.result_type(float)
    moved = [v.astype(dtype) + move * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def points(num: int, latent_dim: int, scale: float = 1.0) -> jax.Array:
    return jnp.asarray(scale * np.random.default_rng(2).normal(size=(num, latent_dim)), float)


def context(size: int = C) -> jax.Array:
    return jnp.linspace(-1.0, 1.0, size)


both_flows = pytest.mark.parametrize("kind", list(KINDS))


@pytest.mark.parametrize("latent_dim", [1, 4])
@both_flows
def test_each_direction_undoes_the_other(kind, latent_dim, precision):
    flow, eps = make(kind, latent_dim), points(20, latent_dim)
    forward = jax.jit(jax.vmap(lambda v: flow.forward(v, context())))
    inverse = jax.jit(jax.vmap(lambda v: flow.inverse(v, context())))
    z, log_det = forward(eps)
    assert z.dtype == log_det.dtype == precision
    assert float(jnp.max(jnp.abs(z - eps))) > 0.1  # it is not the identity
    back, log_det_back = inverse(z)
    np.testing.assert_allclose(back, eps, atol=TOLERANCE[precision])
    np.testing.assert_allclose(log_det_back, log_det, atol=TOLERANCE[precision])
    other, _ = inverse(eps)
    np.testing.assert_allclose(forward(other)[0], eps, atol=5 * TOLERANCE[precision])


@pytest.mark.parametrize("latent_dim", [1, 4])
@both_flows
def test_the_log_determinant_is_the_jacobians(kind, latent_dim, precision):
    # Narrow hidden layers, so that an autoregressive flow has its direct weights.
    flow = make(kind, latent_dim, hidden=(3,))

    @jax.jit
    @jax.vmap
    def all_of_it(v):
        jacobian = jax.jacobian(lambda e: flow.forward(e, context())[0])(v)
        return flow.forward(v, context())[1], *jnp.linalg.slogdet(jacobian)[::-1]

    ours, exact, sign = all_of_it(points(20, latent_dim))
    np.testing.assert_allclose(ours, exact, atol=TOLERANCE[precision])
    assert np.all(sign == 1)
    assert np.ptp(np.asarray(exact)) > 1e-3 or latent_dim == 1  # it depends on the point


@both_flows
def test_the_log_determinant_of_the_inverse_is_the_forwards(kind, x64):
    flow = make(kind, 3)

    @jax.jit
    @jax.vmap
    def all_of_it(z):
        return flow.inverse(z, context())[1], jnp.linalg.slogdet(jax.jacfwd(lambda z: flow.inverse(z, context())[0])(z))

    ours, (sign, exact) = all_of_it(points(10, 3))
    np.testing.assert_allclose(ours, -exact, atol=1e-9)
    assert np.all(sign == 1)


@pytest.mark.parametrize("hidden", [(), (1,), (3,), (6,), (7, 5, 9), (7, 2, 9)])
@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_an_autoregressive_output_sees_what_stands_before_it_and_all_of_that(latent_dim, hidden):
    """Also with fewer hidden units than J, where inputs from the last hidden degree on were seen by no output."""
    network = jiggled(MaskedNetwork(latent_dim, C, hidden, key=jax.random.key(0)), 0.5)
    before = np.tril(np.ones((latent_dim, latent_dim), bool), k=-1)
    for part in (0, 1):
        of_z, of_context = jax.jit(jax.jacobian(lambda z, c, part=part: network(z, c)[part], argnums=(0, 1)))(
            jnp.linspace(-0.5, 0.5, latent_dim), context()
        )
        assert ((np.asarray(of_z) != 0) == before).all()
        assert (np.asarray(of_context) != 0).all()


@pytest.mark.parametrize(("steps", "triangular"), [(1, True), (2, False)])
def test_reversed_steps_let_every_dimension_see_each_other(steps, triangular):
    flow = make("iaf", 4, steps=steps)
    jacobian = np.asarray(jax.jacobian(lambda e: flow.forward(e, context())[0])(jnp.ones(4)))
    assert jacobian[np.tril_indices(4)].all()
    assert (not np.triu(jacobian, 1).any()) == triangular


def test_a_coupling_holds_half_and_the_next_layer_holds_the_other_half():
    eps = points(1, 5)[0]
    one = make("coupling", 5, steps=1).forward(eps, context())[0]
    assert np.array_equal(np.asarray(one == eps), [True, False, True, False, True])
    two = make("coupling", 5, steps=2).forward(eps, context())[0]
    assert not np.asarray(two == eps).any()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@both_flows
def test_extreme_inputs_stay_finite(kind, activation, precision):
    flow = make(kind, 4, activation=activation)
    # Every coordinate huge in either direction, and mixed with ordinary ones.
    signs = jnp.array([[1.0, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 0, 1], [0, 0, 0, -1]])
    scales = jnp.repeat(jnp.array([1e2, 1e4, 1e6]), len(signs))

    @jax.jit
    @jax.vmap
    def all_of_it(v, scale):
        def total(flow, v, direction):
            z, log_det = getattr(flow, direction)(v, scale * context())
            return jnp.sum(jnp.tanh(z)) + log_det, (z, log_det)

        gradient = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
        return gradient(flow, v, "forward"), gradient(flow, v, "inverse")

    for leaf in jax.tree.leaves(all_of_it(scales[:, None] * jnp.tile(signs, (3, 1)), scales)):
        assert np.isfinite(leaf).all()


@both_flows
def test_a_flow_of_one_dimension_is_affine(kind, x64):
    flow = make(kind, 1)
    z, log_det = jax.vmap(lambda v: flow.forward(v, context()))(jnp.array([[-2.0], [0.0], [1.0], [7.0]]))
    slope = float(z[2, 0] - z[1, 0])
    np.testing.assert_allclose(z[:, 0], z[1, 0] + slope * np.array([-2.0, 0.0, 1.0, 7.0]), rtol=1e-12)
    np.testing.assert_allclose(log_det, np.log(slope), rtol=1e-10)
    other = flow.forward(jnp.array([1.0]), -context())[0]
    assert abs(float(other[0] - z[2, 0])) > 1e-3  # the context steers it


@both_flows
def test_a_new_flow_is_near_the_identity(kind):
    eps = points(50, 4)
    flow = make(kind, 4, steps=2, move=0.0)
    z, log_det = jax.jit(jax.vmap(lambda v: flow.forward(v, context())))(eps)
    assert float(jnp.max(jnp.abs(z - eps) / (1 + jnp.abs(eps)))) < 0.15
    assert float(jnp.max(jnp.abs(log_det))) < 0.5
    # Not the identity itself: every parameter that can matter has a gradient.
    gradient = jax.jit(jax.grad(lambda f: jnp.sum(jnp.sin(jax.vmap(lambda v: f.forward(v, context())[0])(eps)))))(flow)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient))


@both_flows
def test_gradients_against_central_differences(kind, x64):
    flow, z = make(kind, 3), points(1, 3)[0]
    params, tree = jax.flatten_util.ravel_pytree(flow)

    for direction in ("forward", "inverse"):

        @jax.jit
        def value(params, z, direction=direction):
            out, log_det = getattr(tree(params), direction)(z, context())
            return jnp.sum(jnp.sin(out)) + log_det

        gradients = jax.jit(jax.grad(value, argnums=(0, 1)))(params, z)
        rng = np.random.default_rng(0)
        for argnum, at in enumerate((params, z)):
            way = jnp.asarray(rng.normal(size=at.shape))
            ahead, behind = [value(*((params + s * way, z) if argnum == 0 else (params, z + s * way))) for s in STEP]
            numeric = (ahead - behind) / (STEP[0] - STEP[1])
            np.testing.assert_allclose(jnp.vdot(gradients[argnum], way), numeric, rtol=1e-6, atol=1e-7)


STEP = (1e-6, -1e-6)


@pytest.mark.parametrize("latent_dim", [1, 2])
@both_flows
def test_a_flows_density_integrates_to_one(kind, latent_dim, x64):
    flow = make(kind, latent_dim, move=0.3)
    loc, scale = jnp.full(latent_dim, 0.4), jnp.full(latent_dim, 0.7)
    axis = np.linspace(-25, 25, 401)
    grid = np.stack(np.meshgrid(*[axis] * latent_dim), axis=-1).reshape(-1, latent_dim)

    @jax.jit
    @jax.vmap
    def density(z):
        return jnp.exp(FlowDistribution(Normal(loc, scale).to_event(1), flow, context()).log_prob(z))

    p = np.asarray(density(jnp.asarray(grid)))
    cell = (axis[1] - axis[0]) ** latent_dim
    np.testing.assert_allclose(p.sum() * cell, 1.0, atol=1e-3)
    # And it is the density of the samples: two moments of both, at 5 sigma.
    q = FlowDistribution(Normal(loc, scale).to_event(1), flow, context())
    z, log_q = jax.jit(lambda key: rsample_and_log_prob(q, key, (40_000,)))(jax.random.key(0))
    np.testing.assert_allclose(np.exp(log_q[:50]), density(z[:50]), rtol=1e-7)
    for power in (1, 2):
        draws = np.asarray(z[:, 0]) ** power
        exact = (grid[:, 0] ** power * p).sum() * cell
        assert abs(draws.mean() - exact) < 5 * draws.std() / np.sqrt(len(draws)) + 1e-3


@both_flows
def test_jit_and_vmap_change_nothing(kind):
    flow, eps = make(kind, 3), points(4, 3)
    for direction in ("forward", "inverse"):
        method = getattr(flow, direction)
        eager = [method(v, context()) for v in eps[:2]]
        mapped = jax.jit(jax.vmap(lambda v, method=method: method(v, context())))(eps)
        for i, (z, log_det) in enumerate(eager):
            np.testing.assert_allclose(mapped[0][i], z, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(mapped[1][i], log_det, rtol=1e-4, atol=1e-5)


@both_flows
def test_a_flow_without_context(kind):
    flow, eps = make(kind, 3, context_dim=0), points(1, 3)[0]
    np.testing.assert_allclose(flow.inverse(flow.forward(eps)[0])[0], eps, atol=1e-4)
    with pytest.raises(ValueError, match="a context of 0 numbers, got 3"):
        flow.forward(eps, context())
    with pytest.raises(ValueError, match="a context of 3 numbers, got 0"):
        make(kind, 3).inverse(eps)


@both_flows
def test_sizes_are_checked(kind):
    with pytest.raises(ValueError, match="steps >= 1"):
        KINDS[kind](2, 0, steps=0, hidden=(3,), key=jax.random.key(0))
    with pytest.raises(ValueError, match="latent_dim >= 1"):
        KINDS[kind](0, 0, steps=1, hidden=(3,), key=jax.random.key(0))


def test_masked_weights_get_no_gradient():
    network = MaskedNetwork(4, 2, (8,), key=jax.random.key(0))
    gradient = eqx.filter_grad(lambda n: jnp.sum(n(jnp.ones(4), jnp.ones(2))[0]))(network)
    for layer, mask in zip(gradient.layers, network.masks(), strict=True):
        assert not np.asarray(layer.weight)[~mask].any()
