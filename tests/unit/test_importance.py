"""Importance sampling as a stream, its error, and the tail of its weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _models import build, by_names
from _oracles import JointOnly, Problem, z_scores

from aevb.distributions import FAMILIES, Normal
from aevb.evaluate import (
    _proposal,
    importance_sampling,
    log_likelihood,
    mean,
    pareto_khat,
    quadrature_log_likelihood,
    untrustworthy,
)
from aevb.evaluate._psis import TAIL, tail_length
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel, Decoder, Encoder, Mlp
from aevb.samplers import unconstrained

PROBLEM = Problem.make(data_dim=6, latent_dim=3, num_rows=40, seed=3)
ROWS = PROBLEM.rows.astype(np.float32)
KEY = jax.random.key(0)


def models(**wrong):
    return PROBLEM.generative(), PROBLEM.recognition(**wrong)


def from_encoder(*args, **options):
    """With q(z | x) alone for proposal, of which more is known exactly."""
    return importance_sampling(*args, proposal="encoder", **options)


def assert_same(one, other, rtol=1e-5):
    for name, a, b in zip(one._fields, one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5, err_msg=name)


def test_the_exact_posterior_needs_one_sample():
    found = from_encoder(*models(), ROWS, KEY, num_samples=200)
    np.testing.assert_allclose(found.log_likelihood, PROBLEM.log_marginal(), atol=1e-4)
    np.testing.assert_allclose(found.effective_sample_size, 200, rtol=1e-4)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-4)


def test_more_of_gives_what_all_at_once_gives(monkeypatch):
    wrong = models(shift=0.3, scale=1.2)
    whole = importance_sampling(*wrong, ROWS, KEY, num_samples=300)
    some = importance_sampling(*wrong, ROWS, KEY, num_samples=130)
    more = importance_sampling(*wrong, ROWS, KEY, num_samples=300, more_of=some)
    assert more.num_samples == 300
    assert_same(more, whole)
    assert not np.allclose(some.log_likelihood, whole.log_likelihood, rtol=1e-5)  # negative control
    # Folding the samples in several runs of the device is the same sum again.
    monkeypatch.setattr("aevb.evaluate._importance.SAMPLES_AT_ONCE", 70)
    assert_same(importance_sampling(*wrong, ROWS, KEY, num_samples=300), whole)


@pytest.mark.parametrize("options", [{"chunk_size": 7}, {"batch_size": 3}, {"chunk_size": 300, "batch_size": 100}])
def test_the_cut_does_not_change_the_result(options):
    wrong = models(shift=0.3, scale=1.2)
    assert_same(
        importance_sampling(*wrong, ROWS, KEY, num_samples=300, **options),
        importance_sampling(*wrong, ROWS, KEY, num_samples=300),
    )


def test_parts_of_the_rows_give_what_the_whole_gives():
    wrong = models(shift=0.3, scale=1.2)
    whole = importance_sampling(*wrong, ROWS, KEY, num_samples=60)
    part = importance_sampling(*wrong, ROWS[25:], KEY, num_samples=60, first_row=25)
    np.testing.assert_allclose(part.log_likelihood, whole.log_likelihood[25:], rtol=1e-5)
    elsewhere = importance_sampling(*wrong, ROWS[25:], KEY, num_samples=60)
    assert not np.allclose(elsewhere.log_likelihood, whole.log_likelihood[25:], rtol=1e-5)  # negative control


def test_the_standard_error_is_the_spread_over_seeds():
    """With q too wide by 1.3 the weights are bounded; over seeds the estimate must scatter as its error says."""
    wrong = models(scale=1.3)
    seeds = jax.random.split(jax.random.key(5), 200)
    runs = [importance_sampling(*wrong, ROWS[:8], key, num_samples=400) for key in seeds]
    log_p = np.array([run.log_likelihood for run in runs], np.float64)
    claimed = np.array([run.standard_error for run in runs], np.float64)
    pooled = (log_p - log_p.mean(axis=0)) / claimed
    # chi-squared with 199 degrees of freedom for each of 8 rows
    total, degrees = float(np.sum(pooled**2)), 199 * 8
    assert abs(total - degrees) < 5 * np.sqrt(2 * degrees) * 1.2
    assert abs(np.sum((2 * pooled) ** 2) - degrees) > 5 * np.sqrt(2 * degrees) * 1.2  # negative control
    # ... and around the exact value: the bias, var(w) / (2 K mean(w)^2), is far below the error.
    exact = PROBLEM.log_marginal()[:8]
    assert np.all(np.abs(z_scores(np.exp(log_p - exact), np.ones(8))) < 5)


def test_sampling_rises_from_the_elbo_to_log_p():
    wrong = models(shift=0.5)
    options = {"proposal": "encoder"}
    means = [mean(log_likelihood(*wrong, ROWS, KEY, num_samples=k, **options)).value for k in (1, 10, 1000)]
    assert means[0] < means[1] < means[2] < PROBLEM.log_marginal().mean() + 0.02


def test_effective_sample_size_of_known_weights(x64):
    """A shifted q in one dimension: E w^2 / (E w)^2 = exp(s^2 / t^2) in closed form."""
    problem = Problem.make(data_dim=2, latent_dim=1, num_rows=2, seed=0)
    shift = 0.5 * float(problem.posterior()[2][0])
    k = 20_000
    found = from_encoder(problem.generative(), problem.recognition(shift=shift), problem.rows, KEY, num_samples=k)
    np.testing.assert_allclose(found.effective_sample_size / k, np.exp(-0.25), atol=0.03)


@pytest.mark.parametrize("k", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_khat_of_known_tails(k):
    """Exponential log-weights with scale k are exactly generalised Pareto; 400 rows, so the mean of k-hat is sharp."""
    rng = np.random.default_rng(7)
    log_w = rng.exponential(k, (400, 5000))
    found = pareto_khat(-np.sort(-log_w)[:, :TAIL], 5000)
    # Drawn towards 1/2 by the prior's 10 observations against the tail's M.
    m = tail_length(5000)
    expected = (m * k + 10 * 0.5) / (m + 10)
    assert abs(found.mean() - expected) < 0.03
    assert 0.5 * (1 + k) / np.sqrt(m) < found.std() < 2 * (1 + k) / np.sqrt(m)
    # Planted defect: tails that are heavier by 0.2.
    heavier = pareto_khat(-np.sort(-log_w * (k + 0.2) / k)[:, :TAIL], 5000)
    assert abs(heavier.mean() - expected) > 0.03


def test_khat_does_not_see_the_normaliser():
    log_w = np.sort(np.random.default_rng(0).normal(size=(3, 1000)))[:, ::-1][:, :TAIL]
    np.testing.assert_allclose(pareto_khat(log_w, 1000), pareto_khat(log_w - 1e4, 1000), rtol=1e-8)


def test_khat_warns_of_a_proposal_that_is_too_narrow():
    narrow = from_encoder(*models(scale=0.4), ROWS, KEY, num_samples=2000)
    wide = from_encoder(*models(scale=1.3), ROWS, KEY, num_samples=2000)
    assert np.mean(narrow.khat > 0.7) > 0.8
    assert np.mean(wide.khat > 0.7) == 0


def test_equal_weights_are_perfect():
    """What rounding makes of equal weights is no tail: with the exact posterior, and with an encoder that says nothing
    of a decoder that does not listen, k-hat was up to 450 and most rows were called untrustworthy.
    """
    collapsed = (
        Decoder(300, 2, Mlp((8,)), biases={"logits": jnp.linspace(-2, 2, 300)}, key=KEY),
        Encoder(300, 2, Mlp((8,)), key=KEY),
    )
    collapsed = jax.tree.map(lambda w: 0.0 * w if w.ndim == 2 else w, collapsed)  # q = N(0, I) whatever x
    images = np.random.default_rng(0).integers(0, 2, (40, 300), dtype=np.uint8)
    for pair, rows in ((models(), ROWS), (collapsed, images)):
        for k in (25, 1000):
            found = from_encoder(*pair, rows, KEY, num_samples=k)
            assert (found.khat == -np.inf).all()
            assert not untrustworthy(found.khat, found.effective_sample_size, found.standard_error, k).any()
    # Negative control: weights of a proposal that is a little wrong do have a tail, and are told from equal ones.
    assert np.isfinite(from_encoder(*models(scale=0.99), ROWS, KEY, num_samples=1000).khat).all()


def test_a_tail_is_worth_a_warning_only_where_it_matters():
    """A heavy tail of weights that are equal to a thousandth leaves log p(x) good to a thousandth."""
    log_w = 1e-3 * np.random.default_rng(0).standard_cauchy((50, 1000)).clip(-3, 3).astype(np.float64)
    khat = pareto_khat(-np.sort(-log_w)[:, :TAIL], 1000)
    w = np.exp(log_w)
    effective, error = w.sum(1) ** 2 / (w**2).sum(1), w.std(1, ddof=1) / w.mean(1) / np.sqrt(1000)
    assert not untrustworthy(khat, effective, error, 1000).any()
    narrow = from_encoder(*models(scale=0.4), ROWS, KEY, num_samples=2000)
    assert untrustworthy(narrow.khat, narrow.effective_sample_size, narrow.standard_error, 2000).mean() > 0.8
    # Neither a small error alone nor many effective samples alone makes a tail harmless.
    heavy = np.array([0.9, 0.9, 0.6, np.nan])
    matters = untrustworthy(heavy, np.array([5.0, 900.0, 5.0, 5.0]), np.array([1e-4, 0.1, 0.1, 0.1]), 1000)
    np.testing.assert_array_equal(matters, [True, True, False, False])


def test_ties_at_the_threshold_leave_a_number():
    """A few large weights above many equal ones: the fit's grid divided by the smallest number that there is."""
    log_w = np.zeros((1, TAIL))
    log_w[0, :4] = [3.0, 2.0, 1.0, 0.5]
    for k in (25, 1000):
        assert np.isfinite(pareto_khat(log_w, k)).all()


# --- the defensive proposal -------------------------------------------------------------------------------------------


class TwoPeaks(AbstractPriorLikelihood):
    """p(z) = N(0, 1), x = |z| + noise: the posterior has a peak on either side, and `Narrow` knows of one."""

    def prior(self):
        return Normal(jnp.zeros(1), jnp.ones(1)).to_event(1)

    def likelihood(self, z):
        return Normal(jnp.abs(z), 0.2).to_event(1)


class Narrow(AbstractRecognitionModel):
    def posterior(self, x):
        return Normal(x, 0.1).to_event(1)


PEAKS = (TwoPeaks(), Narrow()), np.array([[1.0], [1.5]], np.float32)


def test_what_the_encoder_leaves_out_is_found():
    """One of two equal peaks, log 2: with q alone it is missing, and no error bar says so."""
    pair, rows = PEAKS
    exact = quadrature_log_likelihood(pair[0], rows).log_likelihood
    found = importance_sampling(*pair, rows, KEY, num_samples=20_000)
    assert np.all(np.abs(found.log_likelihood - exact) < 6 * found.standard_error)
    assert found.standard_error.max() < 0.05
    alone = from_encoder(*pair, rows, KEY, num_samples=20_000)
    np.testing.assert_allclose(alone.log_likelihood, exact - np.log(2), atol=0.2)


@pytest.mark.parametrize("num_samples", [1, 3, 8, 21])
def test_the_mixtures_weights_are_unbiased_for_any_number_of_samples(num_samples):
    """Also where the number is no multiple of the pattern's length: the turn begins at a random component."""
    pair, rows = PEAKS
    exact = np.exp(quadrature_log_likelihood(pair[0], rows[:1]).log_likelihood[0])
    many = np.repeat(rows[:1], 20_000, axis=0)
    w = np.exp(importance_sampling(*pair, many, KEY, num_samples=num_samples, batch_size=5000).log_likelihood) / exact
    assert abs(z_scores(w, 1.0)) < 5
    # Negative control: one of the eight turns of the pattern that is not counted in the density.
    assert num_samples < 8 or abs(z_scores(w * 8 / 7, 1.0)) > 5


def test_the_mixture_is_never_much_worse_than_the_encoder():
    """Its weights are at most twice q's own: from the exact posterior, at most twice p(x)."""
    found = importance_sampling(*models(), ROWS, KEY, num_samples=400)
    assert np.all(found.largest <= PROBLEM.log_marginal() + np.log(2) + 1e-4)
    assert np.all(found.effective_sample_size > 150)
    assert found.standard_error.max() < 0.05  # by component: were it not, 1 / sqrt(400)
    assert np.abs(found.log_likelihood - PROBLEM.log_marginal()).max() < 0.25


@pytest.mark.parametrize("family", ["gamma", "von-mises", "dirichlet", "beta", "uniform"])
def test_the_density_of_the_mixture_integrates_to_one(family, x64):
    """q, q stretched, and the prior, on supports of every kind: by a sum over a fine grid."""
    size = 2 if family == "dirichlet" else 1
    kind = FAMILIES[family]

    class Flat(AbstractPriorLikelihood):
        def prior(self):
            return kind.standard(size)

        def likelihood(self, z):
            return Normal(jnp.zeros(1), 1.0).to_event(1)

    class Own(AbstractRecognitionModel):
        def posterior(self, x):
            inside = {"low": 0.2, "width": 0.5} if family == "uniform" else {}
            raw = {name: jnp.full(size, 0.3) for name in kind.parameters}
            return kind.make(**{k: jnp.full(size, v) for k, v in inside.items()}) if inside else kind.from_raw(raw)

    x = jnp.zeros(1)
    assert _proposal.proposal_components(Flat(), Own(), x) == ("encoder", "widened", "prior")
    # Of z in R^k: a stretch brings it near edges and far out. Floats tell z from an edge that is not 0 up to e^-36.
    u = np.linspace(-36.0 if family == "von-mises" else -100.0, 36.0, 40_001)

    @jax.jit
    @jax.vmap
    def density(u):
        to = unconstrained(Flat().prior())
        q0 = _proposal.make_proposal(Flat(), Own(), x, KEY, "defensive")
        return jnp.exp(q0.log_prob(to.forward(u[None])) + to.log_det(u[None]))

    np.testing.assert_allclose(np.sum(density(jnp.asarray(u))) * (u[1] - u[0]), 1.0, atol=5e-3)


def test_posteriors_that_cannot_be_mixed_stand_alone():
    """An inverse autoregressive flow takes J passes for a density; its own samples come with theirs."""
    options = {"posterior": "iaf", "flow_steps": 2, "flow_hidden": (4,)}
    generative, iaf = build(by_names(6, 3, (4,), "tanh", "gaussian", **options), key=KEY)
    assert _proposal.proposal_components(generative, iaf, jnp.zeros(6)) == ("encoder",)
    defensive, alone = (
        importance_sampling(generative, iaf, ROWS[:3], KEY, num_samples=50, proposal=proposal)
        for proposal in ("defensive", "encoder")
    )
    assert_same(defensive, alone)
    assert _proposal.proposal_components(JointOnly(PROBLEM.generative()), models()[1], jnp.zeros(6)) == (
        "encoder",
        "widened",
    )
    with pytest.raises((ValueError, TypeError), match="proposal"):
        importance_sampling(*models(), ROWS, KEY, num_samples=5, proposal="prior")


def test_khat_at_its_edges():
    assert np.isnan(pareto_khat(np.zeros((2, 4)), 20)).all()  # too few samples
    assert (pareto_khat(np.zeros((2, TAIL)), 1000) == -np.inf).all()  # all weights equal
    assert np.isnan(pareto_khat(np.full((2, TAIL), -np.inf), 1000)).all()  # all weights zero
    with pytest.raises(ValueError, match="the 96 largest"):
        pareto_khat(np.zeros((2, 10)), 1000)
    assert tail_length(5000) == 213
    assert tail_length(10**9) == TAIL - 1


def test_one_sample_has_no_error_and_no_tail():
    found = importance_sampling(*models(), ROWS, KEY, num_samples=1)
    assert np.isnan(found.standard_error).all()
    assert np.isnan(found.khat).all()
    np.testing.assert_allclose(found.effective_sample_size, 1)


def test_bad_arguments_are_refused():
    some = importance_sampling(*models(), ROWS, KEY, num_samples=30)
    with pytest.raises(ValueError, match="the same rows and more samples"):
        importance_sampling(*models(), ROWS, KEY, num_samples=30, more_of=some)
    with pytest.raises(ValueError, match="the same rows and more samples"):
        importance_sampling(*models(), ROWS[:3], KEY, num_samples=60, more_of=some)
    with pytest.raises(ValueError, match="at least 1"):
        importance_sampling(*models(), ROWS, KEY, num_samples=0)
    with pytest.raises(ValueError, match="0 rows"):
        importance_sampling(*models(), ROWS[:0], KEY, num_samples=5)


class HalfLine(AbstractPriorLikelihood):
    """z ~ Exponential(1), x | z ~ N(z, 0.5^2)."""

    def prior(self):
        return FAMILIES["exponential"].standard(1)

    def likelihood(self, z):
        return Normal(z, 0.5).to_event(1)


class OverTheEdge(AbstractRecognitionModel):
    """A Gaussian, a third of which lies where the prior has no density."""

    def posterior(self, x):
        return Normal(0.2 + 0.0 * x, 0.5).to_event(1)


def test_an_encoder_that_reaches_beyond_the_prior_leaves_the_weights_unbiased():
    """One draw of q without a place in the prior's support, and the mixture drew from another density than it said."""
    rows = np.tile(np.array([[0.3]], np.float32), (400, 1))
    # p(x) = int_0^inf e^-z N(x; z, s^2) dz = exp(-x + s^2 / 2) Phi((x - s^2) / s).
    exact = -0.3 + 0.125 + scipy.stats.norm.logcdf(0.05 / 0.5)
    found = importance_sampling(HalfLine(), OverTheEdge(), rows, jax.random.key(3), num_samples=256)
    ratios = mean(np.exp(np.asarray(found.log_likelihood, np.float64) - exact))
    assert abs(ratios.value - 1.0) < 5 * ratios.standard_error
    assert ratios.standard_error < 0.01  # so that the 0.3 nats of the fault would be seen
