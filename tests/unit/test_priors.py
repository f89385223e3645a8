"""Learned priors: densities by hand, samples against densities, and the tie between a VampPrior and its encoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from _models import build, by_names

from aevb.distributions import FAMILIES
from aevb.models import (
    POSTERIORS,
    PRIORS,
    Decoder,
    Encoder,
    FlowPrior,
    FullCovariance,
    GaussianLikelihood,
    MixturePrior,
    Mlp,
    StandardNormalPrior,
    StandardPrior,
    VampPrior,
    tie,
    untie,
)

D, J, K = 5, 2, 4


def jiggled(model, move: float = 0.5):
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    dtype = jnp.result_type(float)
    moved = [v.astype(dtype) + move * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def same(a, b) -> bool:
    """Of the same structure, with the very same arrays."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(x is y for x, y in leaves)


def points(num: int, scale: float = 1.5) -> np.ndarray:
    return scale * np.random.default_rng(3).normal(size=(num, J))


def vamp(posterior: str = "gaussian", **options):
    """A pair of models with a VampPrior, every parameter moved."""
    if posterior in ("iaf", "coupling"):
        options |= {"flow_steps": 2, "flow_hidden": (6,)}
    a = by_names(D, J, (4,), "tanh", "gaussian", posterior=posterior, prior="vamp", prior_components=K, **options)
    return jiggled(build(a, key=jax.random.key(0)), 0.3)


# --- densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [name for name in PRIORS.kinds if name in FAMILIES])
def test_a_standard_prior_is_the_familys_standard_member(family):
    p = StandardPrior(J, family).distribution()
    assert p.event_shape == (J,)
    z = p.sample(jax.random.key(0), (7,))
    np.testing.assert_allclose(p.log_prob(z), FAMILIES[family].standard(J).log_prob(z))
    if family == "normal":
        np.testing.assert_allclose(p.log_prob(z), scipy.stats.norm.logpdf(z).sum(axis=1), rtol=1e-5)


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"'gauss' names no family; choose .*normal"):
        StandardPrior(J, "gauss")


def mixture_by_hand(prior: MixturePrior, z: np.ndarray) -> np.ndarray:
    logits, locs, raw = (np.asarray(v, np.float64) for v in (prior.logits, prior.locs, prior.raw_scales))
    log_weights = logits - scipy.special.logsumexp(logits)
    each = scipy.stats.norm(locs, np.exp(2 * np.arcsinh(raw / 4))).logpdf(z[:, None]).sum(axis=-1)
    return scipy.special.logsumexp(log_weights + each, axis=1)


def test_mixture_density_by_hand(precision):
    prior = jiggled(MixturePrior(J, K, key=jax.random.key(0)))
    z = points(30)
    log_p = prior.distribution().log_prob(jnp.asarray(z, precision))
    assert log_p.dtype == precision
    np.testing.assert_allclose(log_p, mixture_by_hand(prior, z), rtol=1e-4 if precision == "float32" else 1e-11)
    one = prior.distribution().log_prob(jnp.asarray(z[0], precision))
    np.testing.assert_allclose(one, log_p[0], rtol=1e-5)


@pytest.mark.parametrize("raw", [1e4, -1e4])
def test_extreme_mixtures_stay_finite(raw, precision):
    prior = MixturePrior(J, K, key=jax.random.key(0))
    where = lambda p: (p.logits, p.locs, p.raw_scales)  # noqa: E731
    signs = jnp.where(jnp.arange(K) % 2 == 0, 1.0, -1.0)
    extreme = (raw * signs, raw * prior.locs, raw * signs[:, None] * jnp.ones((K, J)))
    prior = eqx.tree_at(where, prior, extreme)

    @jax.jit
    def all_of_it(prior, z):
        return jax.value_and_grad(lambda p, z: p.distribution().log_prob(z), argnums=(0, 1))(prior, z)

    for z in (jnp.zeros(J), jnp.full(J, 1e4), jnp.array([-1e4, 1.0])):
        for leaf in jax.tree.leaves(all_of_it(prior, z)):
            assert np.isfinite(leaf).all()


def test_far_from_every_component_the_density_does_not_vanish():
    prior = MixturePrior(J, K, key=jax.random.key(0))
    value = prior.distribution().log_prob(jnp.full(J, 1e3))
    np.testing.assert_allclose(value, mixture_by_hand(prior, np.full((1, J), 1e3))[0], rtol=1e-5)
    assert value < -1e5


def priors() -> dict[str, object]:
    generative, recognition = vamp("full-covariance")
    return {
        "mixture": jiggled(MixturePrior(J, K, key=jax.random.key(0))),
        "vamp": tie(generative, recognition).latent_prior,
        "flow": jiggled(FlowPrior(J, steps=3, hidden=(8,), key=jax.random.key(0)), 0.3),
    }


@pytest.mark.parametrize("name", ["mixture", "vamp", "flow"])
def test_samples_follow_the_density(name, x64):
    """The density integrates to one on a grid, and gives the mean of several functions of the samples, at 5 sigma."""
    prior = priors()[name]
    axis = np.linspace(-20, 20, 501)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, J)
    p = np.exp(jax.jit(lambda z: prior.distribution().log_prob(z))(grid)) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(p.sum(), 1.0, atol=1e-4)
    z = np.asarray(jax.jit(lambda key: prior.distribution().sample(key, (40_000,)))(jax.random.key(0)))
    assert z.shape == (40_000, J)
    functions = [lambda v: v[:, 0], lambda v: v[:, 1], lambda v: v[:, 0] * v[:, 1], lambda v: (v**2).sum(axis=1)]
    for f in (*functions, lambda v: np.sin(3 * v[:, 0]), lambda v: np.cos(2 * v[:, 1])):
        draws = f(z)
        assert abs(draws.mean() - (f(grid) * p).sum()) < 5 * draws.std() / np.sqrt(len(draws)) + 1e-4


@pytest.mark.parametrize("name", ["mixture", "vamp", "flow"])
def test_shapes_of_samples(name):
    p = priors()[name].distribution()
    assert (p.batch_shape, p.event_shape) == ((), (J,))
    assert p.sample(jax.random.key(0)).shape == (J,)
    z = p.sample(jax.random.key(0), (3, 2))
    assert z.shape == (3, 2, J)
    assert len(np.unique(np.asarray(z)[..., 0])) == 6
    log_p = p.log_prob(z)
    assert log_p.shape == (3, 2)
    np.testing.assert_allclose(log_p[2, 1], p.log_prob(z[2, 1]), rtol=1e-5)
    assert np.asarray(p.support(z)).all()
    assert p.has_rsample == (name == "flow")


def test_a_flow_prior_is_the_flow_of_a_standard_normal(x64):
    prior = priors()["flow"]
    eps = jnp.asarray(points(10))
    z, log_det = jax.vmap(prior.flow.forward)(eps)
    expected = scipy.stats.norm.logpdf(eps).sum(axis=1) - log_det
    np.testing.assert_allclose(prior.distribution().log_prob(z), expected, rtol=1e-9)


# --- VampPrior --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "posterior", [p for p in POSTERIORS.kinds if p not in ("uniform", "triangular", "pareto", "reciprocal")]
)
def test_a_vamp_prior_is_the_mixture_of_the_encoders_posteriors(posterior, x64):
    generative, recognition = vamp(posterior)
    inputs = np.asarray(generative.latent_prior.raw_inputs)
    z = recognition.posterior(jnp.ones(D)).sample(jax.random.key(0), (6,))
    density = jax.jit(lambda u: recognition.posterior(u).log_prob(z))
    each = np.stack([density(jnp.asarray(u)) for u in inputs])
    expected = scipy.special.logsumexp(each, axis=0) - np.log(K)
    ours = jax.jit(lambda models: tie(*models).prior().log_prob(z))((generative, recognition))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_the_gradient_reaches_the_encoder_through_the_prior(x64):
    models, z = vamp(), jnp.array([0.3, -0.2])

    def log_p(models):
        return tie(*models).prior().log_prob(z)

    to_generative, to_recognition = jax.grad(log_p)(models)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(to_recognition))
    assert np.any(np.asarray(to_generative.latent_prior.raw_inputs) != 0)
    # A finite difference along the encoder's gradient, as one number.
    step = 1e-6
    moved = [jax.tree.map(lambda p, g, s=s: p + s * step * g, models[1], to_recognition) for s in (1, -1)]
    slope = (log_p((models[0], moved[0])) - log_p((models[0], moved[1]))) / (2 * step)
    np.testing.assert_allclose(slope, sum(jnp.sum(g**2) for g in jax.tree.leaves(to_recognition)), rtol=1e-6)


def test_a_model_at_rest_is_untied_and_says_what_to_do():
    generative, recognition = vamp()
    with pytest.raises(TypeError, match=r"has no encoder yet; use aevb.models.tie\(generative, recognition\)"):
        generative.prior()
    with pytest.raises(TypeError, match="tie"):
        generative.log_joint(jnp.zeros(D), jnp.zeros(J))
    tied = tie(generative, recognition)
    assert np.isfinite(tied.log_joint(jnp.zeros(D), jnp.zeros(J)))
    with pytest.raises(TypeError, match="tie"):
        untie(tied).prior()


def test_tie_and_untie_are_a_round_trip():
    generative, recognition = vamp()
    tied = tie(generative, recognition)
    assert same(tied.latent_prior.recognition, recognition)
    assert same(untie(tied), generative)
    other = Encoder(D, J, Mlp((4,)), key=jax.random.key(9))
    assert same(tie(tied, other).latent_prior.recognition, other)  # a second tie takes the place of the first
    assert same(untie(generative), generative)


def test_a_model_without_a_vamp_prior_is_left_as_it_is():
    recognition = Encoder(D, J, Mlp((4,)), key=jax.random.key(0))
    for generative in (
        Decoder(D, J, Mlp((4,)), GaussianLikelihood(), key=jax.random.key(0)),
        Decoder(
            D,
            J,
            Mlp((4,)),
            GaussianLikelihood(),
            prior=MixturePrior(J, K, key=jax.random.key(0)),
            key=jax.random.key(0),
        ),
    ):
        assert tie(generative, recognition) is generative
        assert untie(generative) is generative


class Wrapped(eqx.Module):
    """A model that holds another, as one's own may."""

    inner: Decoder
    nothing: None = None


def test_a_vamp_prior_is_found_at_any_depth():
    generative, recognition = vamp()
    tied = tie(Wrapped(generative), recognition)
    assert tied.nothing is None
    assert same(tied.inner.latent_prior.recognition, recognition)
    assert untie(tied).inner.latent_prior.recognition is None


def test_pseudo_inputs_begin_at_the_given_rows_and_stay_in_the_unit_interval():
    rows = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, size=(K, D)), jnp.float32)
    for likelihood, sigmoid_mean, inside in (("bernoulli", False, 1), ("gaussian", True, 1), ("gaussian", False, 0)):
        a = by_names(D, J, (4,), "tanh", likelihood, sigmoid_mean=sigmoid_mean, prior="vamp", prior_components=K)
        generative, _ = build(a, pseudo_inputs=rows, key=jax.random.key(0))
        prior = generative.latent_prior
        np.testing.assert_allclose(prior.pseudo_inputs, rows, rtol=1e-5)
        far = eqx.tree_at(lambda p: p.raw_inputs, prior, 50 * prior.raw_inputs + 1e3)
        assert bool(jnp.all((far.pseudo_inputs >= 0) & (far.pseudo_inputs <= 1))) == bool(inside)
        noise = build(a, key=jax.random.key(0))[0].latent_prior.pseudo_inputs
        assert noise.shape == (K, D)
        assert bool(jnp.all((noise >= 0) & (noise <= 1))) == bool(inside)
    binary = VampPrior(J, jnp.array([[0.0, 1.0]]), unit_interval=True)
    np.testing.assert_allclose(binary.pseudo_inputs, [[0.01, 0.99]], rtol=1e-5)
    assert np.array_equal(
        build(a, pseudo_inputs=np.asarray(rows), key=jax.random.key(0))[0].latent_prior.raw_inputs, rows
    )
    with pytest.raises(ValueError, match=r"pseudo_inputs must have shape \(4, 5\)"):
        build(a, pseudo_inputs=rows[:2], key=jax.random.key(0))


@pytest.mark.parametrize("components", [0, -1])
def test_a_mixture_needs_a_component(components):
    with pytest.raises(ValueError, match="at least 1 component"):
        MixturePrior(J, components, key=jax.random.key(0))


# --- what was there before --------------------------------------------------------------------------------------------


class OwnDecoder(StandardNormalPrior):
    latent_dim: int = eqx.field(static=True, default=J)

    def likelihood(self, z):
        raise NotImplementedError


def test_the_default_prior_has_no_parameters_and_is_the_standard_normal():
    generative = Decoder(D, J, Mlp((4,)), key=jax.random.key(0))
    assert jax.tree.leaves(generative.latent_prior) == []
    z = jnp.asarray(points(5), jnp.float32)
    ours, before = generative.prior(), OwnDecoder().prior()
    assert type(ours) is type(before)
    assert type(ours.base_dist) is type(before.base_dist)
    assert np.array_equal(ours.log_prob(z), before.log_prob(z))
    assert np.array_equal(ours.sample(jax.random.key(1), (3,)), before.sample(jax.random.key(1), (3,)))


@pytest.mark.parametrize("prior", PRIORS.kinds)
def test_the_networks_do_not_depend_on_the_prior(prior):
    def networks(**options):
        a = by_names(D, J, (4,), "tanh", "bernoulli", posterior="coupling", flow_hidden=(3,), **options)
        generative, recognition = build(a, key=jax.random.key(5))
        return jax.tree.leaves((generative.network, generative.maps, recognition))

    options = {"prior_components": K} if prior in ("mixture", "vamp") else {}
    try:
        ours = networks(prior=prior, flow_steps=2, **options)
    except ValueError as e:
        assert "has no density" in str(e)
        return
    for a, b in zip(ours, networks(flow_steps=2), strict=True):
        assert np.array_equal(a, b)


def test_default_models_are_the_ones_that_they_were():
    """Sums of absolute values for one key, written down before priors were modules."""
    a = by_names(3, 2, (4,), "tanh", "bernoulli")
    sums = sorted(np.abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(build(a, key=jax.random.key(7))))
    before = sorted([3.9693208, 0.0, 5.6407900, 0.0, 5.9449945, 0.0, 4.1070685, 0.0, 2.7742355, 0.0])
    np.testing.assert_allclose(sums, before, rtol=1e-6)


def test_full_covariance_vamp_prior_trains():
    """A few steps of gradient ascent on a bound with everything learned raise it, and all stays finite."""
    a = by_names(D, J, (4,), "tanh", "gaussian", posterior="full-covariance", prior="vamp", prior_components=K)
    models = build(a, key=jax.random.key(0))
    assert isinstance(models[1].spec, FullCovariance)
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(32, D)), jnp.float32)

    def bound(models):
        generative, recognition = tie(*models), models[1]

        def one(x, key):
            q = recognition.posterior(x)
            z = q.rsample(key)
            return generative.log_joint(x, z) - q.log_prob(z)

        return jnp.mean(jax.vmap(one)(rows, jax.random.split(jax.random.key(1), 32)))

    step = jax.jit(lambda m: jax.tree.map(lambda p, g: p + 0.02 * g, m, jax.grad(bound)(m)))
    before = float(jax.jit(bound)(models))
    for _ in range(20):
        models = step(models)
    assert float(jax.jit(bound)(models)) > before
