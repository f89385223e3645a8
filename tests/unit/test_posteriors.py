"""Recognition models beyond the diagonal Gaussian, against scipy and against themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _models import build, by_names, choose_latents

from aevb.distributions import (
    FAMILIES,
    Reparameterized,
    kl_divergence,
    location_and_scale,
    rsample_and_log_prob,
    support_depends_on_parameters,
)
from aevb.errors import UnavailableError
from aevb.estimators import SgvbA
from aevb.evaluate import elbo_estimator
from aevb.models import (
    POSTERIORS,
    PRIORS,
    AbstractRecognitionModel,
    Elliptical,
    Encoder,
    FullCovariance,
    Mlp,
    StandardPrior,
    Vae,
    family_posterior,
    tie,
)

D, J = 5, 3
FLOWS = ("iaf", "coupling")
BY_FAMILY = [name for name in POSTERIORS.kinds if name in FAMILIES]


MOVING = ("uniform", "triangular", "pareto", "reciprocal")  # families whose parameters move their edges


def architecture(posterior: str, prior: str | None = None, **options) -> Vae:
    """One that is allowed: where no prior is named, the posterior's own kind of latent has one."""
    if prior is None:
        prior = "normal" if posterior in MOVING else "vamp"
    if prior in ("mixture", "vamp"):
        options |= {"prior_components": 4}
    if posterior in FLOWS or prior == "flow":
        options |= {"flow_steps": 2, "flow_hidden": (7,)}
    return by_names(D, J, (6,), "tanh", "gaussian", posterior=posterior, prior=prior, **options)


def make(posterior: str, move: float = 0.3) -> AbstractRecognitionModel:
    """A recognition model with every parameter moved, in the default precision."""
    return jiggled(build(architecture(posterior), key=jax.random.key(0))[1], move)


def jiggled(model: eqx.Module, move: float) -> eqx.Module:
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    dtype = jnp.result_type(float)
    moved = [v.astype(dtype) + move * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def x() -> jax.Array:
    return jnp.linspace(-1.0, 1.5, D)


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_samples_come_with_their_density(posterior, x64):
    model = make(posterior)
    q = model.posterior(x())
    assert q.batch_shape == ()
    assert q.event_shape == (J,)
    if not q.has_rsample:
        z = q.sample(jax.random.key(2), (50,))
        log_q = q.log_prob(z)
    else:
        z, log_q = jax.jit(lambda key: rsample_and_log_prob(model.posterior(x()), key, (50,)))(jax.random.key(2))
        np.testing.assert_allclose(q.log_prob(z), log_q, rtol=1e-7, atol=1e-7)
    assert z.shape == (50, J)
    assert log_q.shape == (50,)
    assert np.isfinite(log_q).all()
    other = model.posterior(-x())
    np.testing.assert_(not np.allclose(other.log_prob(z), log_q))  # it depends on x


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_which_supports_move(posterior):
    """A triangular's edges move too, but its density there is zero."""
    assert support_depends_on_parameters(make(posterior).posterior(x())) == (
        posterior in ("uniform", "pareto", "reciprocal")
    )


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_every_pair_has_a_divergence_or_says_that_it_has_none(posterior):
    """By shapes alone, for every prior that is allowed: five pairs died of an empty NotImplementedError."""
    recognition, without = make(posterior), []
    for prior in (name for name in PRIORS.kinds if name in FAMILIES):
        try:
            architecture(posterior, prior)
            p = FAMILIES[prior].standard
            jax.eval_shape(lambda v, p=p: kl_divergence(recognition.posterior(v), p(J)), x())
        except UnavailableError:
            without.append(prior)
        except ValueError as e:
            assert "no density" in str(e) or (posterior == "von-mises" and "where the circle is cut" in str(e))
    if posterior == "full-covariance":
        assert without == ["cauchy", "laplace", "logistic", "student-t", "gumbel"]


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_the_gradient_of_a_sample_and_its_density_reaches_every_parameter(posterior):
    model = make(posterior)
    if not model.posterior(x()).has_rsample:
        pytest.skip("no reparameterised sampler")

    @jax.jit
    def gradient(model):
        def loss(model):
            z, log_q = rsample_and_log_prob(model.posterior(x()), jax.random.key(2), (5,))
            return jnp.sum(jnp.sin(z)) + jnp.sum(log_q**2)

        return jax.grad(loss)(model)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(model)):
        assert np.isfinite(leaf).all(), path
        assert np.any(np.asarray(leaf) != 0), path


def with_raw_outputs(model: AbstractRecognitionModel, raw: float) -> AbstractRecognitionModel:
    """The model with the biases of all heads at +-raw in turn and no weights: extreme outputs at any x."""

    def is_head(node):
        return hasattr(node, "bias") and hasattr(node, "weight")

    def extreme(node):
        if not is_head(node):
            return node
        signs = jnp.where(jnp.arange(node.bias.shape[0]) % 2 == 0, 1.0, -1.0)
        return eqx.tree_at(lambda n: (n.weight, n.bias), node, (0.0 * node.weight, raw * signs.astype(node.bias.dtype)))

    heads = [f for f in vars(model) if f != "trunk" and f != "flow"]
    where = lambda m: [getattr(m, f) for f in heads if isinstance(getattr(m, f), eqx.Module | dict)]  # noqa: E731
    return eqx.tree_at(where, model, [jax.tree.map(extreme, v, is_leaf=is_head) for v in where(model)])


@pytest.mark.parametrize("raw", [1e4, -1e4])
@pytest.mark.parametrize("posterior", [name for name in POSTERIORS.kinds if name not in FAMILIES])
def test_extreme_network_outputs_stay_finite(posterior, raw, precision):
    model = with_raw_outputs(make(posterior), raw)

    @jax.jit
    @jax.vmap
    def all_of_it(key):
        def log_q(model):
            z, log_q = rsample_and_log_prob(model.posterior(x()), key)
            return log_q, z

        return jax.value_and_grad(log_q, has_aux=True)(model)

    for path, leaf in jax.tree_util.tree_leaves_with_path(all_of_it(jax.random.split(jax.random.key(3), 50))):
        assert np.isfinite(leaf).all(), path


# --- full covariance --------------------------------------------------------------------------------------------------


def factor_by_hand(model: Encoder, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def affine(layer):
        return h @ np.asarray(layer.weight) + np.asarray(layer.bias)

    sigma, lower = (
        np.exp(2 * np.arcsinh(affine(model.maps["raw_scale"]) / 4)),
        np.arcsinh(affine(model.maps["raw_lower"])),
    )
    factor = np.array([[1, 0, 0], [lower[0], 1, 0], [lower[1], lower[2], 1]]) * sigma[:, None]
    return affine(model.maps["loc"]), factor


@pytest.mark.parametrize("posterior", ["full-covariance", "elliptical"])
def test_full_covariance_against_scipy(posterior, x64):
    model = make(posterior)
    loc, factor = factor_by_hand(model, np.asarray(model.network(x())))
    shape = factor @ factor.T
    exact = scipy.stats.multivariate_normal(loc, shape)
    if posterior == "elliptical":
        exact = scipy.stats.multivariate_t(loc, shape, df=5)
    z = np.random.default_rng(0).normal(size=(20, J))
    q = model.posterior(x())
    np.testing.assert_allclose(q.log_prob(jnp.asarray(z)), exact.logpdf(z), rtol=1e-10)
    assert abs(shape[0, 1]) > 1e-2
    # The samples have this location and this covariance (times df / (df - 2) for the Student t).
    draws = np.asarray(q.sample(jax.random.key(0), (100_000,))) - loc
    whitened = np.linalg.solve(factor, draws.T)
    expected = 5 / 3 if posterior == "elliptical" else 1.0
    for i in range(J):
        assert abs(whitened[i].mean()) < 5 * np.sqrt(expected / len(draws))
        for j in range(i + 1):
            product = whitened[i] * whitened[j]
            assert abs(product.mean() - expected * (i == j)) < 5 * product.std() / np.sqrt(len(draws))


def test_full_covariance_of_one_dimension_is_a_gaussian(x64):
    model = Encoder(D, 1, Mlp((4,)), FullCovariance(), key=jax.random.key(0))
    q = model.posterior(x())
    exact = scipy.stats.norm(float(q.mean[0]), float(np.sqrt(q.variance[0])))
    np.testing.assert_allclose(q.log_prob(jnp.array([0.3])), exact.logpdf(0.3), rtol=1e-6)
    assert set(model.maps) == {"loc", "raw_scale"}


@pytest.mark.parametrize("df", [2.0, 0.0, float("nan"), float("inf")])
def test_degrees_of_freedom_are_checked(df):
    with pytest.raises(ValueError, match=r"df of 'elliptical' must be (above 2|a number)"):
        Elliptical(df=df)


@pytest.mark.parametrize("posterior", [name for name in POSTERIORS.kinds if name not in FAMILIES])
def test_location_and_scale_against_draws(posterior):
    """By ranks where they are a median and half of the 16 % to 84 % range, a flow's of 1,000 draws; else by moments."""
    q = make(posterior).posterior(x())
    where, width = location_and_scale(q)
    z = np.asarray(q.sample(jax.random.key(9), (20_000,)), np.float64)
    for j in range(J):
        if posterior in ("gaussian", "full-covariance"):
            assert abs(z[:, j].mean() - where[j]) < 5 * width[j] / np.sqrt(len(z))
            assert abs(z[:, j].std() / width[j] - 1) < 5 * np.sqrt(0.5 / len(z))
            continue
        noise = np.sqrt(1 / len(z) + (1e-3 if posterior in FLOWS else 0.0))
        p = np.array([0.15865525, 0.84134475])
        slack = 5 * noise * np.sqrt(p * (1 - p))
        least, most = np.quantile(z[:, j], p - slack), np.quantile(z[:, j], p + slack)
        assert abs(np.mean(z[:, j] < where[j]) - 0.5) < 2.5 * noise
        assert 0.5 * (least[1] - most[0]) < width[j] < 0.5 * (most[1] - least[0])
        assert 0.5 * (least[1] - most[0]) > 0.7 * width[j]  # tight enough to tell a width that is wrong by a third


# --- flows and families -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", FLOWS)
def test_a_new_flow_begins_near_the_gaussian_of_its_base(flow):
    model = Encoder(D, J, Mlp((6,)), POSTERIORS.make(flow, steps=2, hidden=(7,)), key=jax.random.key(0))
    q = model.posterior(x())
    assert isinstance(q, Reparameterized)
    base = q.noise
    z = base.sample(jax.random.key(1), (200,))
    assert float(jnp.mean(jnp.abs(q.log_prob(z) - base.log_prob(z)))) < 0.6
    with pytest.raises(TypeError, match="no closed form"):
        kl_divergence(q, base)


def test_an_unknown_flow_or_family_is_refused():
    with pytest.raises(ValueError, match=r"unknown posterior 'planar'; choose one of gaussian, .*iaf, coupling"):
        POSTERIORS.make("planar")
    with pytest.raises(ValueError, match=r"unknown family 'gauss'; choose one of .*normal"):
        family_posterior("gauss")


@pytest.mark.parametrize("family", BY_FAMILY)
def test_a_familys_parameters_come_from_one_head_each(family, x64):
    model = make(family)
    h = model.network(x())
    raw = {name: h @ head.weight + head.bias for name, head in model.maps.items()}
    assert set(raw) == set(FAMILIES[family].parameters)
    expected, q = FAMILIES[family].from_raw(raw), model.posterior(x())
    z = q.sample(jax.random.key(0), (10,))
    np.testing.assert_allclose(q.log_prob(z), expected.log_prob(z), rtol=1e-12)


# --- the closed list --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "chosen"),
    [
        (("auto", "auto"), ("gaussian", "normal")),
        (("auto", "vamp"), ("gaussian", "vamp")),
        (("auto", "cauchy"), ("gaussian", "cauchy")),
        (("auto", "gamma"), ("gamma", "gamma")),
        (("auto", "uniform"), ("beta", "uniform")),
        (("auto", "triangular"), ("beta", "triangular")),
        (("auto", "von-mises"), ("von-mises", "von-mises")),
        (("dirichlet", "auto"), ("dirichlet", "dirichlet")),
        (("gamma", "auto"), ("gamma", "gamma")),
        (("beta", "auto"), ("beta", "beta")),
        (("von-mises", "auto"), ("von-mises", "von-mises")),
        (("cauchy", "auto"), ("cauchy", "cauchy")),  # its KL from a normal is infinite
        (("student-t", "auto"), ("student-t", "student-t")),
        (("laplace", "auto"), ("laplace", "normal")),
        (("pareto", "auto"), ("pareto", "log-normal")),  # its edges move: no pareto prior has a density at all its z
        (("reciprocal", "auto"), ("reciprocal", "log-normal")),
        (("uniform", "auto"), ("uniform", "normal")),
        (("iaf", "auto"), ("iaf", "normal")),
        (("uniform", "gamma"), ("uniform", "gamma")),  # named: kept, and refused by the architecture
    ],
)
def test_latents_that_were_not_named_fit_those_that_were(named, chosen):
    assert choose_latents(*named) == chosen


@pytest.mark.parametrize("family", [n for n in BY_FAMILY if FAMILIES[n].support != "real" and n not in MOVING])
def test_a_posterior_of_a_part_of_the_line_is_not_given_a_prior_of_all_of_it(family):
    """With N(0, I), D_KL(q || p) is at least -log of the share of p that q can reach: 0.69 nats on a half-line.

    And the draws of such a prior are decoded from where no x ever was; those of the prior that is chosen are not, and
    q can be the prior itself.
    """
    low, high = FAMILIES[family].edges
    lost = -np.log(scipy.stats.norm.cdf(high) - scipy.stats.norm.cdf(low))
    assert lost > 0.69 or family == "von-mises"  # of a circle that is cut open, only 0.002 are lost
    _, prior = choose_latents(family, "auto")
    z = StandardPrior(J, prior).distribution().sample(jax.random.key(0), (1000,))
    assert jnp.all((z >= low) & (z <= high))
    chosen, wrong = StandardPrior(J, prior).distribution(), StandardPrior(J).distribution()
    if family == "gamma":  # the loss by draws, for one family: KL(q || p) - 0 nats, J = 3
        np.testing.assert_allclose(kl_divergence(chosen, chosen), 0.0, atol=1e-6)
        ratio = np.asarray(chosen.log_prob(z) - wrong.log_prob(z), np.float64)
        assert ratio.mean() - 5 * ratio.std() / np.sqrt(len(ratio)) > J * lost


@pytest.mark.parametrize("posterior", ["pareto", "reciprocal"])
def test_the_divergence_of_a_moving_edge_from_the_chosen_prior_is_finite(posterior):
    """E_q[-log p] under the log-normal needs E[(log z)^2], which every pareto has: alpha = 0.05 has no mean."""
    raw = {"scale": 3.0, "alpha": -8.0} if posterior == "pareto" else {"low": -9.0, "excess": 9.0}
    q = FAMILIES[posterior].from_raw({name: jnp.full(J, value) for name, value in raw.items()})
    p = FAMILIES[choose_latents(posterior, "auto")[1]].standard(J)
    z = q.sample(jax.random.key(0), (2000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    assert np.isfinite(ratio).all()
    assert float(jnp.mean(ratio)) < 1e4


@pytest.mark.parametrize("named", [*((q, "auto") for q in POSTERIORS.kinds), *(("auto", p) for p in PRIORS.kinds)])
def test_every_posterior_and_every_prior_can_be_named_alone(named):
    posterior, prior = choose_latents(*named)
    assert named in ((posterior, "auto"), ("auto", prior))
    architecture(posterior, prior)


@pytest.mark.parametrize("posterior", POSTERIORS.kinds)
def test_every_posterior_goes_with_some_plain_prior_and_gives_a_finite_bound(posterior):
    allowed = []
    for prior in PRIORS.kinds:
        try:
            allowed.append(architecture(posterior, prior))
        except ValueError as e:
            assert "no density" in str(e) or (posterior == "von-mises" and "where the circle is cut" in str(e))
    assert ("vamp" in {a.prior.kind for a in allowed}) != (posterior in MOVING)
    assert len(allowed) > 1
    for a in allowed[:1] + [b for b in allowed if b.prior.kind == "vamp"]:
        generative, recognition = build(a, key=jax.random.key(0))

        @jax.jit
        def bound(models, a=a):
            generative = tie(*models)
            q = models[1].posterior(x())
            z = q.sample(jax.random.key(1))
            return generative.log_joint(x(), z) - q.log_prob(z)

        assert np.isfinite(bound((generative, recognition)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "gauss"}, r"unknown posterior 'gauss'; did you mean 'gaussian'"),
        ({"posterior": "normal"}, "unknown posterior 'normal'"),
        ({"prior": "vampire"}, r"unknown prior 'vampire'; did you mean 'vamp'"),
        ({"prior": "gamma"}, r"posterior 'gaussian' puts z where the prior 'gamma' has no density"),
        ({"posterior": "iaf", "prior": "gamma", "flow_steps": 1}, "has no density"),
        ({"posterior": "von-mises", "prior": "gumbel"}, "prior 'gumbel' jumps between pi and -pi"),
        ({"posterior": "von-mises", "prior": "flow", "flow_steps": 1}, "jumps between pi and -pi"),
        ({"prior": "mixture", "prior_components": 0}, "components of 'mixture' must lie between 1 and"),
        ({"prior": "vamp", "prior_components": -1}, "components of 'vamp' must lie between 1 and"),
        ({"posterior": "iaf", "flow_steps": 0}, "steps of 'iaf' must lie between 1 and 1,000, got 0"),
        ({"prior": "flow", "flow_steps": 1001}, "steps of 'flow' must lie between 1 and 1,000"),
        ({"posterior": "iaf", "flow_steps": 1, "flow_hidden": (0,)}, "hidden of 'iaf' needs 1 to 10,000,000 units"),
        ({"hidden": (0,)}, "hidden of 'mlp' needs 1 to 10,000,000 units"),
        ({"latent_dim": 0}, "latent_dim must lie between 1 and"),
        ({"min_scale": 0.0}, "min_scale of 'gaussian' must be positive and finite"),
        ({"likelihood": "poisson"}, "unknown likelihood 'poisson'; choose one of bernoulli"),
        ({"likelihood": "student-t", "df": 2.0}, "df of 'student-t' must be above 2"),
        ({"posterior": "dirichlet", "prior": "dirichlet", "latent_dim": 1}, "latent_dim >= 2"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(options, message):
    options = {"data_dim": D, "latent_dim": J, "hidden": (4,), "activation": "tanh", "likelihood": "gaussian"} | options
    with pytest.raises(ValueError, match=message):
        by_names(**options)


def test_a_full_covariance_with_a_prior_that_is_no_gaussian_is_trained_by_estimator_a():
    generative, recognition = build(architecture("full-covariance", "cauchy"), key=jax.random.key(0))
    estimator = elbo_estimator(generative, recognition)
    assert isinstance(estimator, SgvbA)
    assert np.isfinite(estimator(jax.random.key(1), generative, recognition, x()).bound)


def test_a_gamma_posterior_may_have_a_normal_prior():
    assert by_names(D, J, (4,), "tanh", "gaussian", posterior="gamma").prior.kind == "normal"


def test_the_gaussian_recognition_model_is_the_one_it_was():
    """Its numbers for one key, written down before the other recognition models existed."""
    model = Encoder(3, 2, Mlp((4,)), key=jax.random.key(7))
    sums = [np.abs(np.asarray(leaf)).sum() for leaf in jax.tree.leaves(model)]
    np.testing.assert_allclose(sums, [3.7456324, 0.0, 3.4466617, 0.0, 3.0548692, 0.0], rtol=1e-6)
