"""Importance sampling as a stream, its error, and the tail of its weights."""

import jax
import numpy as np
import pytest
from _oracles import Problem, z_scores

from aevb.evaluate import importance_sampling, log_likelihood, mean, pareto_khat
from aevb.evaluate._psis import TAIL, tail_length

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
