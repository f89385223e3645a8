"""Amortisation and approximation gaps against closed forms of linear-Gaussian models."""

import functools
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _models import build, by_names
from _oracles import LOG_2PI, JointOnly, LinearRecognition, Problem, linear_elbo

from aevb.distributions import Distribution, Normal, rsample_and_log_prob
from aevb.errors import UnavailableError
from aevb.evaluate import _gaps
from aevb.evaluate._gaps import InferenceGaps, gaps_by_family, inference_gaps
from aevb.models import AbstractRecognitionModel, GaussianPosterior
from aevb.reports import _diagnose

KEY = jax.random.key(0)
WRONG = {"shift": 0.4, "scale": 1.4, "tilt": 0.8}
# What the optimisation itself may leave below the best q*; `test_a_longer_climb_gains_nothing` holds it.
LEFT = 5e-3


def correlated(angle_cosine: float, scale: float) -> Problem:
    """Two columns of W of length 1 with this cosine between them: the posterior's two dimensions are correlated."""
    rng = np.random.default_rng(5)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 2)))
    weight = basis @ np.array([[1.0, angle_cosine], [0.0, np.sqrt(1 - angle_cosine**2)]])
    rows = rng.normal(size=(10, 2)) @ weight.T + scale * rng.normal(size=(10, 4))
    return Problem(weight, np.zeros(4), scale, rows)


ORTHOGONAL = Problem.make(data_dim=4, latent_dim=2, num_rows=10, seed=1)
STRONG = correlated(0.9, 0.4)
MILD = correlated(0.4, 1.0)


def precision(problem: Problem) -> np.ndarray:
    """Of the true posterior, I + W'W / s^2."""
    return np.eye(2) + problem.weight.T @ problem.weight / problem.scale**2


def best_diagonal_gap(problem: Problem) -> float:
    """KL(q* || p(z | x)) with q* = N(posterior mean, 1 / diag of the precision): 1/2 (sum log P_jj - log det P)."""
    p = precision(problem)
    return float(0.5 * (np.log(np.diag(p)).sum() - np.linalg.slogdet(p)[1]))


def encoder(problem: Problem) -> LinearRecognition:
    """The true posterior where it is diagonal, with all three errors; about as wrong where it is not."""
    return problem.recognition(**WRONG)


def encoders_elbo(problem: Problem) -> np.ndarray:
    generative, recognition = problem.generative(), encoder(problem)
    with jax.enable_x64(True):
        generative, recognition = jax.tree.map(lambda v: jnp.asarray(v, float), (generative, recognition))
        locs = jnp.asarray(problem.rows) @ recognition.weight.T + recognition.bias
        scale = jnp.exp(recognition.log_scale)
        pairs = zip(locs, jnp.asarray(problem.rows), strict=True)
        return np.array([float(linear_elbo(generative, loc, scale, x)) for loc, x in pairs])


@functools.cache
def measured(name: str, family: str, given: bool = False) -> tuple[Problem, InferenceGaps]:
    problem = {"orthogonal": ORTHOGONAL, "strong": STRONG, "mild": MILD}[name]
    gaps = inference_gaps(
        problem.generative(),
        encoder(problem),
        problem.rows.astype(np.float32),
        KEY,
        family=family,
        log_likelihood=problem.log_marginal() if given else None,
    )
    return problem, gaps


def z_scores(found: np.ndarray, exact, error: np.ndarray, floor: float = 1e-4) -> np.ndarray:
    return (found - exact) / (error + floor)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["diagonal", "full-covariance"])
@pytest.mark.parametrize("name", ["orthogonal", "strong", "mild"])
def test_the_encoders_bound_is_the_closed_form(name, family):
    problem, gaps = measured(name, family)
    exact = encoders_elbo(problem)
    assert np.abs(z_scores(gaps.elbo, exact, gaps.standard_error.elbo)).max() < 5


@pytest.mark.parametrize(
    ("name", "family", "approximation"),
    [
        ("orthogonal", "diagonal", 0.0),
        ("orthogonal", "full-covariance", 0.0),
        ("strong", "full-covariance", 0.0),
        ("mild", "full-covariance", 0.0),
        ("mild", "diagonal", best_diagonal_gap(MILD)),
    ],
)
def test_the_gaps_are_the_closed_form(name, family, approximation):
    problem, gaps = measured(name, family)
    log_p, error = problem.log_marginal(), gaps.standard_error
    # Importance sampling is low by about 1 / 2 (1 / ESS - 1 / K) in the mean.
    bias = 1 / gaps.effective_sample_size - 1 / 1000
    left = LEFT + bias
    assert np.all(np.abs(gaps.approximation_gap - approximation) < 5 * error.approximation_gap + left)
    amortisation = log_p - approximation - encoders_elbo(problem)
    assert np.all(np.abs(gaps.amortisation_gap - amortisation) < 5 * error.amortisation_gap + left)
    assert np.all(np.abs(gaps.gap - log_p + encoders_elbo(problem)) < 5 * error.gap + left)
    assert np.all(np.abs(gaps.log_likelihood - log_p) < 5 * error.log_likelihood + left)
    assert amortisation.min() > 0.3


def test_a_decoder_that_is_a_little_wrong_misses_every_closed_form():
    """Negative control of the two tests above: the angle between the decoder's two columns is 37 degrees, not 66."""
    problem, right = measured("mild", "diagonal")
    wrong = inference_gaps(
        correlated(0.8, 1.0).generative(), encoder(MILD), MILD.rows.astype(np.float32), KEY, family="diagonal"
    )
    error = wrong.standard_error
    left = LEFT + 1 / right.effective_sample_size - 1 / 1000
    log_p, elbo, approximation = problem.log_marginal(), encoders_elbo(problem), best_diagonal_gap(problem)
    for found, exact, noise in (
        (wrong.elbo, elbo, error.elbo),
        (wrong.approximation_gap, approximation, error.approximation_gap),
        (wrong.amortisation_gap, log_p - approximation - elbo, error.amortisation_gap),
        (wrong.gap, log_p - elbo, error.gap),
        (wrong.log_likelihood, log_p, error.log_likelihood),
    ):
        assert np.any(np.abs(found - exact) > 5 * noise + left)


def test_a_strongly_correlated_posterior_costs_the_diagonal_family_its_closed_form():
    """Here the weights of q* have no finite variance, and log p(x) is given."""
    problem, gaps = measured("strong", "diagonal", given=True)
    exact = best_diagonal_gap(problem)
    assert exact > 0.4
    error = gaps.standard_error.approximation_gap
    assert np.all(np.abs(gaps.approximation_gap - exact) < 5 * error + LEFT)
    assert np.all(5 * error + LEFT < 0.5 * exact)
    np.testing.assert_array_equal(gaps.log_likelihood, problem.log_marginal())
    np.testing.assert_array_equal(gaps.standard_error.log_likelihood, 0.0)
    np.testing.assert_array_equal(gaps.standard_error.gap, gaps.standard_error.elbo)
    np.testing.assert_array_equal(error, gaps.standard_error.optimised_elbo)


def test_both_families_have_one_log_p_and_one_encoder():
    """So that what differs between them is the family."""
    pair, rows = (MILD.generative(), encoder(MILD)), MILD.rows.astype(np.float32)
    both = gaps_by_family(*pair, rows, KEY)
    diagonal, full = both["diagonal"], both["full-covariance"]
    np.testing.assert_array_equal(diagonal.log_likelihood, full.log_likelihood)
    np.testing.assert_allclose(diagonal.elbo, full.elbo, atol=1e-4)
    np.testing.assert_allclose(diagonal.gap, full.gap, atol=1e-4)
    assert not np.isnan(full.khat).any()
    # Negative control: each with its own, they are held against two.
    _, alone = measured("mild", "diagonal")
    assert np.all(alone.log_likelihood != full.log_likelihood)
    given, error = MILD.log_marginal(), np.full(10, 0.3)
    both = gaps_by_family(*pair, rows, KEY, log_likelihood=given, log_likelihood_error=error)
    for gaps in both.values():
        np.testing.assert_array_equal(gaps.log_likelihood, given)
        np.testing.assert_array_equal(gaps.standard_error.log_likelihood, error)
        np.testing.assert_allclose(gaps.standard_error.gap, np.hypot(gaps.standard_error.elbo, 0.3))
        np.testing.assert_allclose(
            gaps.standard_error.approximation_gap, np.hypot(gaps.standard_error.optimised_elbo, 0.3)
        )


def test_the_report_does_not_take_the_larger_of_two_estimates():
    """At the exact posterior the gap is the error of the log p(x) that was given. The larger of two hides some."""
    noise = 0.1 * np.random.default_rng(3).normal(size=10)
    fitted = SimpleNamespace(
        generative=ORTHOGONAL.generative(),
        encoder=ORTHOGONAL.recognition(),
        spec=SimpleNamespace(posterior=GaussianPosterior()),
        evaluation_key=lambda purpose: KEY,
        log_jacobian=0.0,
    )
    per_row = {
        "log_likelihood": ORTHOGONAL.log_marginal() + noise,
        "standard_error": np.full(10, 0.1),
        "effective_sample_size": np.arange(10.0),
    }
    log_p = _diagnose.LogP("ais", 16, per_row)
    rows = ORTHOGONAL.rows.astype(np.float32)
    found = _diagnose._gaps(_diagnose.Subject(fitted, rows, rows, np.arange(10), log_p, None))
    for family in ("diagonal", "full-covariance"):
        gap = found.content[family]["gap"]
        assert gap["mean"] == pytest.approx(noise.mean(), abs=1e-4)
        assert gap["standard_error"] == pytest.approx(noise.std(ddof=1) / np.sqrt(10), rel=1e-2)
    told = found.content["log_p"]
    assert (told["method"], told["rows_in_doubt"]) == ("annealed importance sampling", 2)
    assert told["effective_sample_size"] == {"median": 4.5, "worst": 0.0}
    assert "In 20 % of the rows log p(x) cannot be trusted" in found.verdict
    assert "cannot be told from log p(x)" in found.headline
    assert np.maximum(noise, 0.0).mean() > noise.mean() + 0.01  # negative control: the defect has a size


def test_without_a_log_p_the_report_tells_how_good_its_own_is():
    fitted = SimpleNamespace(
        generative=MILD.generative(),
        encoder=encoder(MILD),
        spec=SimpleNamespace(posterior=GaussianPosterior()),
        evaluation_key=lambda purpose: KEY,
        log_jacobian=0.0,
    )
    rows = MILD.rows.astype(np.float32)
    found = _diagnose._gaps(_diagnose.Subject(fitted, rows, rows, np.arange(10), None, None))
    told = found.content["log_p"]
    assert told["method"] == "importance sampling from Gaussians of full covariance"
    assert told["rows_in_doubt"] == 0
    assert 900 < told["effective_sample_size"]["worst"] <= told["effective_sample_size"]["median"] <= 1000
    assert set(told["khat"]) == {"median", "worst"}
    log_p = found.content["diagonal"]["log_likelihood"]
    assert log_p == found.content["full-covariance"]["log_likelihood"]
    assert log_p["mean"] == pytest.approx(MILD.log_marginal().mean(), abs=LEFT)


def test_khat_is_that_of_the_weights_of_the_fitted_gaussian():
    """In a strongly correlated posterior the weights of a diagonal Gaussian have no variance; in a mild one they do."""
    strong, mild = (np.median(measured(*of)[1].khat) for of in (("strong", "diagonal", True), ("mild", "diagonal")))
    assert strong > 0.5 > mild


def test_the_two_gaps_add_up():
    for name, family, given in (("mild", "diagonal", False), ("strong", "diagonal", True)):
        _, gaps = measured(name, family, given)
        np.testing.assert_allclose(gaps.amortisation_gap + gaps.approximation_gap, gaps.gap, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(gaps.log_likelihood - gaps.elbo, gaps.gap, rtol=1e-9, atol=1e-9)
        assert gaps.means.gap.value == pytest.approx(gaps.gap.mean())
        assert gaps.means.elbo.num_rows == 10


def test_standard_errors_are_those_of_repeated_runs():
    """The same row 200 times: the spread of the estimates is what each of them says that it is."""
    rows = np.repeat(MILD.rows[:1].astype(np.float32), 200, axis=0)
    gaps = inference_gaps(MILD.generative(), encoder(MILD), rows, KEY, num_steps=300, num_samples=200)
    for name in gaps.standard_error._fields:
        spread = np.std(getattr(gaps, name), ddof=1)
        told = np.sqrt(np.mean(getattr(gaps.standard_error, name) ** 2))
        # The sd of 200 values has a relative error of 5 %, more where weights have tails.
        assert 0.7 < spread / told < 1.4, name
        assert len(np.unique(getattr(gaps, name))) > 190  # rows have noise of their own


# --- exact statements -------------------------------------------------------------------------------------------------


def test_at_the_true_posterior_there_are_no_gaps_and_no_noise():
    """The gradient is zero in every draw, so that q* does not move, and every log w is log p(x)."""
    gaps = inference_gaps(
        ORTHOGONAL.generative(), ORTHOGONAL.recognition(), ORTHOGONAL.rows.astype(np.float32), KEY, num_samples=50
    )
    for name in ("amortisation_gap", "approximation_gap", "gap"):
        np.testing.assert_allclose(getattr(gaps, name), 0.0, atol=1e-4)
        np.testing.assert_allclose(getattr(gaps.standard_error, name), 0.0, atol=1e-4)
    np.testing.assert_allclose(gaps.log_likelihood, ORTHOGONAL.log_marginal(), atol=1e-4)
    np.testing.assert_allclose(gaps.effective_sample_size, 50, rtol=1e-4)


def test_common_noise_takes_noise_out_of_the_difference():
    """The encoder is the best diagonal Gaussian, but a tenth too wide: both bounds have nearly the same noise."""
    p = precision(STRONG)
    a = np.linalg.solve(p, STRONG.weight.T / STRONG.scale**2)
    wide = LinearRecognition(
        *(jnp.asarray(v, jnp.float32) for v in (a, np.zeros(2), np.log(1.1 / np.sqrt(np.diag(p)))))
    )
    gaps = inference_gaps(STRONG.generative(), wide, STRONG.rows.astype(np.float32), KEY)
    error = gaps.standard_error
    assert np.all(error.amortisation_gap < 0.5 * np.hypot(error.elbo, error.optimised_elbo))
    # L[q*] - L[q] = 1/2 sum_j (1.1^2 - 1 - log 1.1^2)
    np.testing.assert_array_less(
        np.abs(gaps.amortisation_gap - (0.21 - np.log(1.21))), 5 * error.amortisation_gap + LEFT
    )


def test_a_longer_climb_gains_nothing():
    """From the same start and with the same noise in the evaluation, so that what differs is q*."""
    problem, gaps = measured("mild", "diagonal")
    longer = inference_gaps(
        problem.generative(), encoder(problem), problem.rows.astype(np.float32), KEY, num_steps=3000, learning_rate=0.05
    )
    assert np.abs(longer.optimised_elbo - gaps.optimised_elbo).max() < LEFT
    short = inference_gaps(problem.generative(), encoder(problem), problem.rows.astype(np.float32), KEY, num_steps=2)
    assert (longer.optimised_elbo - short.optimised_elbo).min() > 10 * LEFT  # negative control


def test_batches_and_blocks_of_rows_do_not_change_the_result():
    rows, pair = MILD.rows.astype(np.float32), (MILD.generative(), encoder(MILD))
    options = {"num_steps": 20, "num_samples": 30, "family": "full-covariance"}
    whole = inference_gaps(*pair, rows, KEY, **options)
    cut = inference_gaps(*pair, rows, KEY, batch_size=5, **options)
    blocks = [inference_gaps(*pair, rows[i : i + 5], KEY, first_row=i, **options) for i in (0, 5)]
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)
    for other in (cut, joined):
        assert isinstance(other, InferenceGaps)
        for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    other = inference_gaps(*pair, rows[5:], KEY, **options)  # negative control: without first_row, other noise
    assert np.abs(other.elbo - whole.elbo[5:]).min() > 1e-3


def test_the_density_of_a_draw_is_exact_however_ill_conditioned_the_factor_is():
    """A solve with L loses every digit here, and the bound with it: billions of nats too high."""
    j = 30
    lower = 300.0 * jax.random.normal(jax.random.key(1), (j, j))
    zeros, ones = jnp.zeros(j), jnp.ones(j)
    q = _gaps._RowGaussian(zeros, zeros - 2.0, lower, zeros, ones).posterior(zeros)
    z, log_q = rsample_and_log_prob(q, KEY, (5,))
    eps = np.asarray(jax.random.normal(KEY, (5, j)), np.float64)
    np.testing.assert_allclose(log_q, -0.5 * (eps**2).sum(1) + 2.0 * j - 0.5 * j * LOG_2PI, rtol=1e-5)
    assert np.abs(np.asarray(q.log_prob(z)) - np.asarray(log_q)).max() > 1e3  # what the solve makes of it


def test_the_full_covariance_is_the_one_of_its_factor():
    with jax.enable_x64(True):
        lower = jax.random.normal(jax.random.key(1), (3, 3))
        move, log_ratio = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 0.3, -0.7])
        loc, scale = jnp.array([3.0, 1.0, 0.0]), jnp.array([0.5, 1.0, 2.0])
        q = _gaps._RowGaussian(move, log_ratio, lower, loc, scale).posterior(loc)
        factor = np.diag(scale * np.exp(log_ratio)) @ (np.eye(3) + np.tril(lower, -1) / np.sqrt(3))
        z, log_q = rsample_and_log_prob(q, KEY, (4,))
        exact = scipy.stats.multivariate_normal(np.asarray(loc + scale * move), factor @ factor.T).logpdf(np.asarray(z))
        np.testing.assert_allclose(log_q, exact, rtol=1e-10)
        np.testing.assert_allclose(q.log_prob(z), exact, rtol=1e-10)


def test_one_function_per_setting():
    settings = _gaps._checked("diagonal", 5, 10, 0.1)
    assert _gaps._row_function(settings) is _gaps._row_function(_gaps._checked("diagonal", 5, 10, 0.1))
    assert _gaps._row_function(settings) is not _gaps._row_function(_gaps._checked("diagonal", 6, 10, 0.1))


# --- other models -----------------------------------------------------------------------------------------------------


def test_a_model_that_only_has_log_joint_is_enough():
    rows, options = MILD.rows[:3].astype(np.float32), {"num_steps": 20, "num_samples": 30}
    whole = inference_gaps(MILD.generative(), encoder(MILD), rows, KEY, **options)
    joint = inference_gaps(JointOnly(MILD.generative()), encoder(MILD), rows, KEY, **options)
    np.testing.assert_allclose(joint.gap, whole.gap, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("posterior", ["laplace", "iaf"])
def test_encoders_that_are_no_diagonal_gaussian(posterior):
    options = {"flow_steps": 1, "flow_hidden": (4,)} if posterior == "iaf" else {}
    architecture = by_names(4, 2, (4,), "tanh", "gaussian", posterior=posterior, **options)
    generative, recognition = build(architecture, key=KEY)
    rows = MILD.rows[:4].astype(np.float32)
    gaps = inference_gaps(generative, recognition, rows, KEY, family="full-covariance")
    assert np.all(gaps.amortisation_gap > -5 * gaps.standard_error.amortisation_gap - LEFT)
    assert gaps.means.amortisation_gap.value > 0.01
    assert np.all(gaps.approximation_gap >= 0)  # log-mean-exp against mean, of the same draws


def test_integer_rows_are_taken_as_floats():
    rows, options = np.round(np.abs(MILD.rows[:3])), {"num_steps": 20, "num_samples": 30}
    pair = (MILD.generative(), encoder(MILD))
    one = inference_gaps(*pair, rows.astype(np.uint8), KEY, **options)
    np.testing.assert_allclose(one.elbo, inference_gaps(*pair, rows.astype(np.float32), KEY, **options).elbo, rtol=1e-6)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("posterior", "prior"), [("gamma", "gamma"), ("von-mises", "von-mises"), ("uniform", "normal")]
)
def test_a_latent_that_is_not_on_the_whole_line_is_refused(posterior, prior):
    architecture = by_names(4, 2, (4,), "tanh", "gaussian", posterior=posterior, prior=prior)
    with pytest.raises(UnavailableError, match=r"needs a latent on all of R\^J, and the posterior does not reach"):
        inference_gaps(*build(architecture, key=KEY), MILD.rows.astype(np.float32), KEY)


def test_a_prior_that_is_not_on_the_whole_line_is_refused():
    architecture = by_names(4, 2, (4,), "tanh", "gaussian", posterior="gamma", prior="gamma")
    generative, _ = build(architecture, key=KEY)
    with pytest.raises(UnavailableError, match="the prior does not reach"):
        inference_gaps(generative, encoder(MILD), MILD.rows.astype(np.float32), KEY)


class NoGradient(Normal):
    """Draws that carry no gradient to the encoder."""

    reparametrized_params = ()
    has_rsample = False


class Fixed(AbstractRecognitionModel):
    def posterior(self, x) -> Distribution:
        return NoGradient(jnp.zeros(2), jnp.ones(2)).to_event(1)


def test_an_encoder_that_is_not_reparameterised_is_refused():
    with pytest.raises(UnavailableError, match="not reparameterised"):
        inference_gaps(MILD.generative(), Fixed(), MILD.rows.astype(np.float32), KEY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "diag"}, "unknown family 'diag'; choose one of diagonal, full-covariance"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"num_samples": 1}, "num_samples at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"log_likelihood": np.zeros(9)}, r"one number for each of 10 rows, got shape \(9,\)"),
        ({"log_likelihood": np.zeros(10), "log_likelihood_error": np.zeros(9)}, "log_likelihood_error must have one"),
        ({"log_likelihood_error": np.zeros(10)}, "give both"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    # The type checker of the tests would be the first to say it.
    function = getattr(inference_gaps, "__wrapped__", inference_gaps)
    with pytest.raises(ValueError, match=message):
        function(MILD.generative(), encoder(MILD), MILD.rows.astype(np.float32), KEY, **options)


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="0 rows"):
        inference_gaps(MILD.generative(), encoder(MILD), MILD.rows[:0].astype(np.float32), KEY)


def test_steps_with_a_gradient_that_is_not_finite_are_left_out():
    """A scale of e^69: the square of x - W z overflows in each draw, and so does the gradient."""
    wide = eqx.tree_at(lambda m: m.log_scale, encoder(MILD), jnp.full(2, 69.0))
    settings = _gaps._checked("diagonal", 5, 10, 0.1)
    best = _gaps._fit(settings, MILD.generative(), wide, KEY, jnp.asarray(MILD.rows[0], jnp.float32))
    np.testing.assert_array_equal(best.move, 0.0)
    np.testing.assert_array_equal(best.log_ratio, 0.0)
