"""The map between R^k and the support of a distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb.distributions import FAMILIES, Dirichlet, MixtureSameFamily, MultivariateNormal, Normal, Reparameterized
from aevb.models import Mixture
from aevb.samplers import support_within, unconstrained

KEY = jax.random.key(0)


def full_covariance():
    return MultivariateNormal(jnp.zeros(3), scale_tril=jnp.eye(3))


def mixture():
    return Mixture(jnp.log(jnp.full(2, 0.5)), lambda a: dist.Gamma(a, 1.0).to_event(1), jnp.full((2, 3), 2.0))


def composed():
    return Reparameterized(
        Normal(jnp.zeros(3), jnp.ones(3)).to_event(1), jnp.exp, inverse=jnp.log, support=dist.constraints.positive
    )


def negative():
    flip = dist.transforms.AffineTransform(1.0, -2.0, domain=dist.constraints.positive)
    return dist.TransformedDistribution(dist.Gamma(jnp.full(3, 2.0), 1.0), flip).to_event(1)


def number():
    return dist.Beta(2.0, 3.0)


def sparse():
    return Dirichlet(jnp.full(4, 0.05))


MADE = {
    **{name: (lambda f=family: f.standard(3)) for name, family in FAMILIES.items()},
    **{f.__name__: f for f in (full_covariance, mixture, composed, negative, number, sparse)},
}


FAMILIES_ON_R = {name: family.support == "real" for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", [n for n in MADE if n != "full_covariance" and not FAMILIES_ON_R.get(n)])
def test_there_and_back_with_the_jacobians_determinant(name, x64):
    q = MADE[name]()
    shape = {"dirichlet": (2,), "sparse": (3,), "number": ()}.get(name, (3,))

    @jax.jit
    @jax.vmap
    def everything(u):
        to = unconstrained(q)
        return to.forward(u), to.inverse(to.forward(u)), to.log_det(u), jax.jacfwd(to.forward)(u)

    u = np.random.default_rng(0).normal(size=(50, *shape)) * 3
    z, back, log_det, jacobian = (np.asarray(a) for a in everything(u))
    assert np.all(q.support(z))
    assert log_det.shape == (50,)
    np.testing.assert_allclose(back, u, rtol=1e-7, atol=1e-7)
    k = math.prod(shape)
    square = jacobian.reshape(50, -1, k)[:, :k]  # a simplex has J - 1 free numbers
    np.testing.assert_allclose(log_det, np.linalg.slogdet(square)[1], rtol=1e-7, atol=1e-7)
    assert np.ptp(log_det) > 1.0


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.support != "real"])
def test_the_density_of_u_integrates_to_one(name, x64):
    q = FAMILIES[name].standard(2 if name == "dirichlet" else 1)
    to = unconstrained(q)
    u = jnp.linspace(-60.0, 60.0, 24_001)
    density = jnp.exp(jax.vmap(lambda u: q.log_prob(to.forward(u)) + to.log_det(u))(u[:, None]))
    assert abs(float(jnp.sum(density)) * 0.005 - 1.0) < 1e-4


@pytest.mark.parametrize("name", [*(n for n, real in FAMILIES_ON_R.items() if real), "full_covariance"])
def test_real_latents_are_left_alone(name):
    to, u = unconstrained(MADE[name]()), jnp.array([1.0, -2.0, 3.0])
    assert to.forward(u) is u
    assert to.inverse(u) is u
    assert to.log_det(u) == 0.0


@pytest.mark.parametrize(
    "q",
    [dist.Uniform(-3.0, 5.0), dist.Beta(2.0, 2.0), dist.Gamma(2.0, 1.0), dist.Pareto(1.0, 2.0)],
    ids=lambda q: type(q).__name__,  # not its text, which holds an address
)
def test_an_edge_comes_out_finite(q):
    low = jnp.asarray(getattr(q.support, "lower_bound", 0.0), jnp.float32)
    high = jnp.asarray(getattr(q.support, "upper_bound", jnp.inf), jnp.float32)
    to = unconstrained(q)
    for edge in (low, high):
        assert jnp.isfinite(to.inverse(edge))
        assert jnp.isfinite(to.log_det(to.inverse(edge)))
        assert jnp.isfinite(jax.grad(to.log_det)(to.inverse(edge)))


def test_a_simplex_keeps_the_digits_of_a_small_remainder():
    """NumPyro's stick-breaking finds what is left as 1 - sum, which float32 cannot tell from zero here."""
    z = jnp.array([0.9, 0.1 - 3e-9, 2e-9, 1e-9], jnp.float32)
    np.testing.assert_allclose(unconstrained(sparse()).forward(unconstrained(sparse()).inverse(z)), z, rtol=1e-5)
    theirs = dist.biject_to(dist.constraints.simplex)
    assert not np.allclose(theirs(theirs.inv(z)), z, rtol=0.1, atol=0)


def test_the_middle_of_the_simplex_is_zero():
    np.testing.assert_allclose(unconstrained(Dirichlet(jnp.ones(5))).forward(jnp.zeros(4)), 0.2, rtol=1e-6)


class NoSupport(dist.Distribution):
    def __init__(self):
        super().__init__((), (2,))


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (dist.Bernoulli(jnp.zeros(3)).to_event(1), "Bernoulli.*discrete"),
        (dist.Poisson(2.0), "Poisson.*discrete"),
        (NoSupport(), "NoSupport.*no known"),
        (dist.ProjectedNormal(jnp.ones(3)), "ProjectedNormal.*R\\^k"),
    ],
)
def test_what_has_no_path_is_refused(q, message):
    with pytest.raises(TypeError, match=message):
        unconstrained(q)


def vector(q):
    return q.to_event(1)


@pytest.mark.parametrize(
    ("q", "p", "expected"),
    [
        (Normal(jnp.zeros(2), 1.0), dist.Cauchy(jnp.zeros(2), 1.0), (True, True)),
        (dist.Gamma(jnp.ones(2), 1.0), Normal(jnp.zeros(2), 1.0), (True, False)),
        (dist.Gamma(jnp.ones(2), 1.0), dist.LogNormal(jnp.zeros(2), 1.0), (True, True)),
        (dist.Beta(jnp.ones(2), 1.0), dist.Uniform(jnp.zeros(2), 1.0), (True, True)),
        (dist.Uniform(jnp.array([0.0, 0.1]), 1.0), dist.Beta(jnp.ones(2), 1.0), (True, False)),
        (dist.VonMises(jnp.zeros(2), 1.0), dist.Uniform(jnp.full(2, -math.pi), math.pi), (True, True)),
        (dist.Pareto(jnp.full(2, 1.0), 1.0), dist.Gamma(jnp.ones(2), 1.0), (True, False)),
        (dist.Beta(jnp.ones(2), 1.0), dist.Gamma(jnp.ones(2), 1.0), (True, False)),  # the upper edges alone tell
        (dist.Gamma(jnp.ones(2), 1.0), dist.Gamma(jnp.ones(3), 1.0), (False, False)),
    ],
)
def test_support_within(q, p, expected):
    q, p = vector(q), vector(p)
    assert (support_within(q, p), support_within(p, q)) == expected


def test_support_within_of_other_sets():
    simplex, plane = Dirichlet(jnp.ones(3)), vector(Normal(jnp.zeros(3), 1.0))
    assert support_within(simplex, sparse()) is False  # of another dimension
    assert support_within(simplex, Dirichlet(jnp.full(3, 2.0)))
    assert not support_within(simplex, plane)
    assert support_within(full_covariance(), plane)
    assert support_within(plane, full_covariance())
    pair = MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), dist.Gamma(jnp.ones(2), 1.0))
    assert support_within(pair, dist.Gamma(1.0, 1.0))
    assert support_within(mixture(), vector(dist.Gamma(jnp.ones(3), 1.0)))


def test_without_a_trace_of_the_distribution_beyond_its_support(x64):
    """Bounds may be traced: the map is made anew within each row's own function."""

    def there_and_back(low, z):
        to = unconstrained(dist.Uniform(low, low + 2.0).to_event(1))
        return to.forward(to.inverse(z)), to.log_det(to.inverse(z))

    lows = jnp.array([[0.0, 1.0], [5.0, -3.0]])
    z, log_det = jax.jit(jax.vmap(there_and_back))(lows, lows + 0.5)
    np.testing.assert_allclose(z, lows + 0.5, rtol=1e-12)
    np.testing.assert_allclose(log_det, 2 * np.log(2 * 0.25 * 0.75), rtol=1e-12)
