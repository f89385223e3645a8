"""Densities, divergences and the scale's parametrisation against mpmath and scipy, at extreme arguments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from aevb.distributions import Bernoulli, BernoulliCrossEntropy, Normal, kl_divergence, log_scale, positive_scale
from aevb.models import BernoulliLikelihood, Decoder, Encoder, GaussianLikelihood, Linear, Mlp

RTOL = {"float32": 1e-4, "float64": 1e-10}
EPS = {"float32": 1.2e-7, "float64": 2.3e-16}

LOG_RATIOS = [s * r for r in (1e-6, 1e-5, 1e-3, 0.1, 0.1499, 0.1501, 0.5, 1.0, 5.0, 15.0, 30.0) for s in (-1, 1)]
MEANS = [0.0, 1e-6, -1e-3, 1.0, -30.0, 1e3]


def exact_kl(loc_q: float, scale_q: float, loc_p: float, scale_p: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        ratio = mpmath.mpf(scale_q) / mpmath.mpf(scale_p)
        shift = (mpmath.mpf(loc_q) - mpmath.mpf(loc_p)) / mpmath.mpf(scale_p)
        return (ratio**2 - 1 - 2 * mpmath.log(ratio) + shift**2) / 2


# --- Kullback-Leibler -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loc", MEANS)
def test_kl_to_the_standard_normal_keeps_its_digits(loc, precision):
    scale = np.exp(np.array([0.0, *LOG_RATIOS])).astype(precision)
    mean = np.full_like(scale, loc)
    kl = np.asarray(kl_divergence(Normal(mean, scale), Normal(np.zeros_like(mean), np.ones_like(scale))))
    assert kl.dtype == precision
    exact = np.array([float(exact_kl(float(m), float(s), 0.0, 1.0)) for m, s in zip(mean, scale, strict=True)])
    np.testing.assert_allclose(kl, exact, rtol=RTOL[precision])
    assert np.all(kl >= 0)
    assert np.array_equal(kl == 0, (mean == 0) & (scale == 1))


@pytest.mark.parametrize("scale_p", [1e-3, 0.3, 50.0])
def test_kl_between_two_normals(scale_p, precision):
    ratio = np.exp([r for r in LOG_RATIOS if 0.05 < abs(r) <= 15])
    scale_p = np.asarray(scale_p, precision)
    scale_q = (ratio * scale_p).astype(precision)
    loc_q, loc_p = np.asarray(1.25, precision), np.asarray(-0.5, precision)
    kl = np.asarray(kl_divergence(Normal(loc_q, scale_q), Normal(loc_p, scale_p)))
    exact = [float(exact_kl(1.25, float(s), -0.5, float(scale_p))) for s in scale_q]
    np.testing.assert_allclose(kl, exact, rtol=RTOL[precision])


@given(
    loc=st.floats(-1e3, 1e3, width=32),
    log_ratio=st.floats(-20, 20),
    log_scale_p=st.floats(-10, 10),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_kl_is_never_negative(loc, log_ratio, log_scale_p):
    p = Normal(jnp.float32(0), jnp.float32(np.exp(log_scale_p)))
    q = Normal(jnp.float32(loc), jnp.float32(np.exp(log_ratio + log_scale_p)))
    assert float(kl_divergence(q, p)) >= 0
    assert float(kl_divergence(q, q)) == 0


def test_kl_has_a_direction():
    q, p = Normal(jnp.array(0.0), jnp.array(2.0)), Normal(jnp.array(0.0), jnp.array(0.5))
    forward, backward = float(kl_divergence(q, p)), float(kl_divergence(p, q))
    np.testing.assert_allclose(forward, float(exact_kl(0, 2, 0, 0.5)), rtol=1e-6)
    np.testing.assert_allclose(backward, float(exact_kl(0, 0.5, 0, 2)), rtol=1e-6)
    assert abs(forward - backward) > 1


def test_kl_of_independent_dimensions_is_a_sum():
    loc, scale = jnp.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.1]]), jnp.array([[0.5, 1.5, 1.0], [1.0, 1.0, 1.0]])
    q, p = Normal(loc, scale), Normal(jnp.zeros((2, 3)), jnp.ones((2, 3)))
    each = np.asarray(kl_divergence(q, p))
    assert each.shape == (2, 3)
    np.testing.assert_allclose(kl_divergence(q.to_event(1), p.to_event(1)), each.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(kl_divergence(q.to_event(2), p.to_event(2)), each.sum(), rtol=1e-6)
    assert abs(float(each.sum()) - float(each.mean())) > 0.1


def test_kl_agrees_with_draws():
    q, p = Normal(jnp.array(0.7), jnp.array(0.4)), Normal(jnp.array(-0.2), jnp.array(1.3))
    z = q.sample(jax.random.key(0), (200_000,))
    draws = np.asarray(q.log_prob(z) - p.log_prob(z), np.float64)
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - float(kl_divergence(q, p))) < 5 * error
    assert abs(draws.mean() - float(kl_divergence(p, q))) > 5 * error  # negative control: the other direction


def test_kl_gradient_near_and_at_the_branch(x64):
    def kl(log_ratio):
        return kl_divergence(Normal(0.0, jnp.exp(log_ratio)), Normal(0.0, 1.0))

    points = jnp.array([0.0, 1e-9, -1e-6, 0.1, 0.15, -0.15, 0.1500001, 0.5, -3.0, 10.0])
    gradient = jax.vmap(jax.grad(kl))(points)
    np.testing.assert_allclose(gradient, np.expm1(2 * np.asarray(points)), rtol=1e-10, atol=1e-15)


def test_kl_of_other_pairs_is_numpyros():
    q, p = dist.Weibull(2.0, 1.5), dist.Gamma(3.0, 1.5)
    np.testing.assert_allclose(kl_divergence(q, p), dist.kl_divergence(q, p))


def test_kl_names_both_families_where_none_is_known():
    laplace = dist.Laplace(jnp.zeros(2), jnp.ones(2))
    normal = Normal(jnp.zeros(2), jnp.ones(2))
    with pytest.raises(TypeError, match=r"from Laplace to Normal.*SgvbA"):
        kl_divergence(laplace, normal)
    with pytest.raises(TypeError, match=r"Laplace.*Normal"):
        kl_divergence(laplace.to_event(1), normal.to_event(1))
    with pytest.raises(TypeError, match=r"Independent\(Normal\).*to Normal"):
        kl_divergence(normal.to_event(1), normal)


# --- the scale --------------------------------------------------------------------------------------------------------

RAW = [s * r for r in (1e-3, 1.0, 10.0, 100.0, 1e4) for s in (-1.0, 1.0)]


def test_log_scale_is_the_inverse_hyperbolic_sine(precision):
    raw = np.array([0.0, *RAW], precision)
    exact = np.array([float(2 * mpmath.asinh(mpmath.mpf(float(r)) / 4)) for r in raw])
    np.testing.assert_allclose(log_scale(jnp.asarray(raw)), exact, rtol=20 * EPS[precision])
    np.testing.assert_allclose(positive_scale(jnp.asarray(raw)), np.exp(exact), rtol=100 * EPS[precision])


@pytest.mark.parametrize("raw", RAW)
def test_kl_of_a_raw_scale_never_loses_its_gradient(raw, precision):
    def kl(raw):
        return kl_divergence(Normal(jnp.zeros_like(raw), positive_scale(raw)), Normal(0.0 * raw, 1.0 + 0.0 * raw))

    value, gradient = jax.value_and_grad(kl)(jnp.asarray(raw, precision))
    assert value.dtype == precision
    assert np.isfinite(value)
    assert value > 0
    assert np.isfinite(gradient)
    assert np.sign(gradient) == np.sign(raw)  # the KL falls towards scale 1, which is raw 0


def test_the_kl_of_a_raw_scale_is_least_at_zero(precision):
    raw = jnp.zeros((), precision)
    value, gradient = jax.value_and_grad(
        lambda r: kl_divergence(Normal(0.0 * r, positive_scale(r)), Normal(0.0 * r, 1.0 + 0.0 * r))
    )(raw)
    assert value == 0
    assert gradient == 0


def test_a_softplus_scale_would_not_do():
    """The negative control of the two tests above: what the parametrisation is there to avoid."""

    def kl(raw):
        return kl_divergence(Normal(0.0, jax.nn.softplus(raw)), Normal(0.0, 1.0))

    value, gradient = jax.jit(jax.value_and_grad(kl))(jnp.float32(-1e4))
    assert not (np.isfinite(value) and np.isfinite(gradient) and gradient < 0)


def test_positive_scale_is_monotone_and_floored(precision):
    raw = jnp.asarray(
        np.unique(np.concatenate([-np.geomspace(1e-4, 1e4, 500), np.geomspace(1e-4, 1e4, 500)])), precision
    )
    scale = np.asarray(positive_scale(raw))
    assert scale.dtype == precision
    assert np.all(np.diff(scale) > 0)
    assert np.all(scale > 0)
    floored = np.asarray(positive_scale(raw, 0.25))
    assert np.all(floored >= 0.25)
    np.testing.assert_allclose(floored, scale + 0.25, rtol=10 * EPS[precision])


# --- likelihoods ------------------------------------------------------------------------------------------------------

LOGITS = [s * v for v in (0.0, 0.1, 1.0, 20.0, 100.0, 1e4) for s in (-1.0, 1.0)]


def exact_cross_entropy(x: float, logit: float) -> float:
    """x log y + (1 - x) log(1 - y), y = sigmoid(logit), to 60 digits."""
    with mpmath.workdps(60):
        x, logit = mpmath.mpf(x), mpmath.mpf(logit)
        return float(-x * mpmath.log1p(mpmath.exp(-logit)) - (1 - x) * mpmath.log1p(mpmath.exp(logit)))


def exact_sigmoid(logit: float) -> float:
    return float(1 / (1 + mpmath.exp(-mpmath.mpf(logit))))


@pytest.mark.parametrize("family", [Bernoulli, BernoulliCrossEntropy])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_on_binary_values(family, x, precision):
    logits = jnp.asarray(LOGITS, precision)
    exact = [exact_cross_entropy(x, float(v)) for v in logits]
    value = family(logits).log_prob(jnp.full_like(logits, x))
    assert value.dtype == precision
    error = np.abs(np.asarray(value, np.float64) - exact)
    assert np.all(error <= 4 * EPS[precision] * np.maximum(1, np.abs(np.asarray(LOGITS))))


@pytest.mark.parametrize("family", [Bernoulli, BernoulliCrossEntropy])
@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_gradient_is_the_residual(family, x, precision):
    logits = jnp.asarray(LOGITS, precision)
    gradient = jax.vmap(jax.grad(lambda v: family(v).log_prob(jnp.full_like(v, x))))(logits)
    exact = np.array([x - exact_sigmoid(float(v)) for v in logits])
    np.testing.assert_allclose(gradient, exact, atol=4 * EPS[precision])


@pytest.mark.parametrize("dtype", ["float", "int32", "uint8"])
def test_a_bernoulli_has_no_mass_off_0_and_1(dtype, precision):
    """255 was +126.5 nats at the logit 0.5, and a half -0.72."""
    x = jnp.array([0, 1, 0.5, 255, -1, 1 + 1e-6], precision) if dtype == "float" else jnp.array([0, 1, 2, 255], dtype)
    logits = jnp.full(x.shape, 0.5, precision)
    value = Bernoulli(logits).log_prob(x)
    assert value.dtype == jnp.result_type(x, logits)
    assert np.isfinite(value[:2]).all()
    assert np.all(value[2:] == -np.inf)
    gradient = jax.grad(lambda v: jnp.sum(Bernoulli(v).log_prob(x)[:2]))(logits)
    np.testing.assert_allclose(gradient[:2], [-exact_sigmoid(0.5), 1 - exact_sigmoid(0.5)], rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert np.isfinite(BernoulliCrossEntropy(logits).log_prob(x)).all()


@pytest.mark.parametrize("x", [0.1, 0.25, 0.5, 0.9])
def test_cross_entropy_of_grey_values(x, precision):
    logits, x = jnp.asarray(LOGITS, precision), float(np.asarray(x, precision))
    exact = [exact_cross_entropy(x, float(v)) for v in logits]
    d = BernoulliCrossEntropy(logits)
    np.testing.assert_allclose(d.log_prob(jnp.full_like(logits, x)), exact, rtol=20 * EPS[precision])
    gradient = jax.vmap(jax.grad(lambda v: BernoulliCrossEntropy(v).log_prob(jnp.full_like(v, x))))(logits)
    np.testing.assert_allclose(gradient, [x - exact_sigmoid(float(v)) for v in logits], atol=4 * EPS[precision])


def test_numpyros_bernoulli_would_accept_grey_values_silently():
    """Why the grey decoder has a class of its own, with a support of its own."""
    assert BernoulliCrossEntropy(jnp.zeros(1)).support(jnp.array([0.5])).all()
    assert not Bernoulli(jnp.zeros(1)).support(jnp.array([0.5])).any()


def test_cross_entropy_moments_and_draws():
    d = BernoulliCrossEntropy(jnp.array([0.0, 2.0, -2.0]))
    y = 1 / (1 + np.exp(-np.array([0.0, 2.0, -2.0])))
    np.testing.assert_allclose(d.mean, y, rtol=1e-6)
    np.testing.assert_allclose(d.variance, y * (1 - y), rtol=1e-5)
    draws = np.asarray(d.sample(jax.random.key(0), (40_000,)))
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert np.all(np.abs(draws.mean(axis=0) - y) < 5 * np.sqrt(y * (1 - y) / 40_000))


def affine(layer: Linear, h: np.ndarray) -> np.ndarray:
    return h @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)


def sigma(raw: np.ndarray) -> np.ndarray:
    return np.exp(2 * np.arcsinh(raw / 4))


def jiggled(model: eqx.Module, seed: int) -> eqx.Module:
    """The model with every parameter moved, so that no bias is zero."""
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [v + 0.5 * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("sigmoid_mean", [False, True])
def test_gaussian_decoder_against_scipy(sigmoid_mean, x64):
    model = jiggled(
        Decoder(5, 2, Mlp((7,)), GaussianLikelihood(sigmoid_mean=sigmoid_mean, min_scale=0.05), key=jax.random.key(0)),
        1,
    )
    rng = np.random.default_rng(0)
    for _ in range(5):
        z, x = rng.normal(size=2), rng.uniform(size=5)
        h = np.tanh(affine(model.network.layers[0], z))
        loc, scale = affine(model.maps["loc"], h), 0.05 + sigma(affine(model.maps["raw_scale"], h))
        loc = 1 / (1 + np.exp(-loc)) if sigmoid_mean else loc
        expected = scipy.stats.norm(loc, scale).logpdf(x).sum()
        np.testing.assert_allclose(model.likelihood(jnp.asarray(z)).log_prob(jnp.asarray(x)), expected, rtol=1e-10)
        joint = expected + scipy.stats.norm.logpdf(z).sum()
        np.testing.assert_allclose(model.log_joint(jnp.asarray(x), jnp.asarray(z)), joint, rtol=1e-10)
        assert abs(expected - scipy.stats.norm(loc, scale**2).logpdf(x).sum()) > 1e-3  # control: variance as scale


@pytest.mark.parametrize("grey", [False, True])
def test_bernoulli_decoder_against_scipy(grey, x64):
    model = jiggled(Decoder(6, 2, Mlp((4, 3), "relu"), BernoulliLikelihood(grey=grey), key=jax.random.key(0)), 2)
    rng = np.random.default_rng(1)
    for _ in range(5):
        z, x = rng.normal(size=2), rng.integers(0, 2, 6)
        h = z
        for layer in model.network.layers:
            h = np.maximum(affine(layer, h), 0)
        expected = scipy.stats.bernoulli(1 / (1 + np.exp(-affine(model.maps["logits"], h)))).logpmf(x).sum()
        actual = model.likelihood(jnp.asarray(z)).log_prob(jnp.asarray(x, float))
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_encoder_by_hand(x64):
    model = jiggled(Encoder(5, 3, Mlp((4,)), key=jax.random.key(0)), 3)
    x = np.random.default_rng(2).normal(size=5)
    h = np.tanh(affine(model.network.layers[0], x))
    q = model.posterior(jnp.asarray(x))
    assert q.event_shape == (3,)
    np.testing.assert_allclose(q.mean, affine(model.maps["loc"], h), rtol=1e-12)
    np.testing.assert_allclose(q.variance, sigma(affine(model.maps["raw_scale"], h)) ** 2, rtol=1e-12)


def test_ancestral_samples_have_the_models_moments():
    model = Decoder(2, 1, Mlp(()), GaussianLikelihood(), key=jax.random.key(0))
    x, z = jax.jit(jax.vmap(model.sample))(jax.random.split(jax.random.key(1), 50_000))
    z, x = np.asarray(z, np.float64), np.asarray(x, np.float64)
    assert abs(z.mean()) < 5 / np.sqrt(len(z))
    assert abs(np.mean(z**2) - 1) < 5 * np.sqrt(2 / len(z))
    loc = affine(model.maps["loc"], z)
    scale = 1e-3 + sigma(affine(model.maps["raw_scale"], z))
    eps = (x - loc) / scale
    assert np.all(np.abs(eps.mean(axis=0)) < 5 / np.sqrt(len(eps)))
    assert np.all(np.abs(np.mean(eps**2, axis=0) - 1) < 5 * np.sqrt(2 / len(eps)))
    assert abs(np.mean(eps[:, 0] * z[:, 0])) < 5 / np.sqrt(len(eps))  # x's noise is not z's
