"""Importance sampling, the ELBO of rows, and means with standard errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _oracles import Problem, posterior_gap, z_scores

from aevb import evaluate
from aevb.data import Values
from aevb.estimators import SgvbA, SgvbB
from aevb.models import Decoder, Encoder, Mlp

PROBLEM = Problem.make(data_dim=5, latent_dim=2, num_rows=23, seed=1)
ROWS = PROBLEM.rows.astype(np.float32)
KEY = jax.random.key(0)


def models():
    return PROBLEM.generative(), PROBLEM.recognition(shift=0.3, scale=1.2)


@pytest.mark.parametrize("chunk_size", [1, 2, 50])
def test_chunks_do_not_change_the_result(chunk_size):
    whole = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=7, chunk_size=7)
    cut = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=7, chunk_size=chunk_size)
    assert whole.shape == (23,)
    np.testing.assert_allclose(cut, whole, rtol=2e-6)
    other = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=6, chunk_size=min(chunk_size, 6))
    assert not np.allclose(other, whole, rtol=2e-6)  # negative control: one sample fewer is seen


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_batches_do_not_change_the_result(batch_size):
    whole = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=3, batch_size=23)
    cut = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=3, batch_size=batch_size)
    np.testing.assert_allclose(cut, whole, rtol=2e-6)
    np.testing.assert_allclose(
        evaluate.elbo(*models(), ROWS, KEY, batch_size=batch_size).bound,
        evaluate.elbo(*models(), ROWS, KEY).bound,
        rtol=2e-6,
    )


def test_the_rows_on_the_device_at_once_do_not_change_the_result(monkeypatch):
    whole = evaluate.elbo(*models(), ROWS, KEY)
    monkeypatch.setattr("aevb.evaluate._rows.HOST_CHUNK", 10)
    for one, other in zip(whole[:3], evaluate.elbo(*models(), ROWS, KEY)[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6)


def test_the_first_rows_alone_give_what_they_give_among_others():
    whole = evaluate.log_likelihood(*models(), ROWS, KEY, num_samples=3)
    part = evaluate.log_likelihood(*models(), ROWS[:9], KEY, num_samples=3)
    np.testing.assert_allclose(part, whole[:9], rtol=2e-6)


def test_rows_do_not_share_noise():
    rows = np.repeat(ROWS[:1], 50, axis=0)
    assert len(np.unique(evaluate.log_likelihood(*models(), rows, KEY, num_samples=1))) == 50
    assert len(np.unique(evaluate.elbo(*models(), rows, KEY).bound)) == 50


def test_the_normaliser_is_the_number_drawn():
    """At the exact posterior every weight is p(x): the mean of them is too, however many there are."""
    exact = PROBLEM.log_marginal()
    for num_samples, chunk_size in ((1, 1), (7, 3), (51, 50)):
        estimate = evaluate.log_likelihood(
            PROBLEM.generative(),
            PROBLEM.recognition(),
            ROWS,
            KEY,
            num_samples=num_samples,
            chunk_size=chunk_size,
            proposal="encoder",
        )
        np.testing.assert_allclose(estimate, exact, atol=1e-4)
    assert np.log(51 / 50) > 1e-3  # a sample too many or too few in the normaliser would be seen


def test_far_tails_do_not_overflow():
    """Weights of e^-100000: without the running maximum they are all zero."""
    rows = ROWS + 300.0
    estimate = evaluate.log_likelihood(
        PROBLEM.generative(), PROBLEM.recognition(), rows, KEY, num_samples=9, chunk_size=2, proposal="encoder"
    )
    exact = Problem(PROBLEM.weight, PROBLEM.mean, PROBLEM.scale, rows.astype(np.float64)).log_marginal()
    assert exact.max() < -10_000
    np.testing.assert_allclose(estimate, exact, rtol=1e-4)


def test_integer_rows_are_evaluated_as_floats():
    rows = np.round(ROWS)
    np.testing.assert_allclose(
        evaluate.elbo(*models(), rows.astype(np.int32), KEY).bound, evaluate.elbo(*models(), rows, KEY).bound, rtol=1e-6
    )


def test_the_elbo_is_by_the_estimator_that_was_asked_for():
    """Its KL shows which: exact, and the same for a row and its copies, or sampled."""
    rows = np.repeat(ROWS[:1], 50, axis=0)
    spread = {e: np.ptp(evaluate.elbo(*models(), rows, KEY, estimator=e).kl) for e in (None, SgvbB(2), SgvbA(2))}
    assert spread[None] < 1e-5
    assert spread[SgvbB(2)] < 1e-5
    assert spread[SgvbA(2)] > 0.1


def test_elbo_and_its_terms():
    rows = np.repeat(ROWS, 200, axis=0)
    expected = PROBLEM.log_marginal() - posterior_gap(PROBLEM, models()[1])
    for estimator in (None, SgvbB(2), SgvbA(2)):
        bound, log_likelihood, kl, layers = evaluate.elbo(*models(), rows, KEY, estimator=estimator)
        assert layers is None
        np.testing.assert_allclose(bound, log_likelihood - kl, rtol=1e-4, atol=1e-4)
        difference = bound - np.repeat(expected, 200)
        assert abs(z_scores(difference, 0.0)) < 5
        assert z_scores(bound - np.repeat(PROBLEM.log_marginal(), 200), 0.0) < -5  # a lower bound
    # Negative control: an encoder whose scale is a sixth larger.
    bound = evaluate.elbo(PROBLEM.generative(), PROBLEM.recognition(shift=0.3, scale=1.4), rows, KEY).bound
    assert abs(z_scores(bound - np.repeat(expected, 200), 0.0)) > 5


@pytest.mark.parametrize("function", [evaluate.elbo, evaluate.log_likelihood])
def test_no_rows_is_an_error(function):
    with pytest.raises(ValueError, match="0 rows"):
        function(*models(), ROWS[:0], KEY)


@pytest.mark.parametrize("sizes", [{"num_samples": 0}, {"chunk_size": 0}, {"num_samples": -3}])
def test_no_samples_is_an_error(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        evaluate.log_likelihood(*models(), ROWS, KEY, **sizes)


# --- a nonlinear decoder against quadrature ---------------------------------------------------------------------------


def nonlinear(latent_dim: int) -> tuple[Decoder, Encoder]:
    generative = Decoder(6, latent_dim, Mlp((5,)), key=jax.random.key(3))
    # Weights large enough for a posterior that is far from Gaussian and from the prior.
    generative = jax.tree.map(lambda w: 3 * w, generative)
    return generative, Encoder(6, latent_dim, Mlp(()), key=jax.random.key(4))


@eqx.filter_jit
def log_likelihoods(generative, points, x):
    return jax.vmap(lambda z: generative.likelihood(z).log_prob(x))(points)


def quadrature(generative: Decoder, x: np.ndarray, step: float = 0.05) -> float:
    """log of the integral of p(x | z) N(z; 0, I): the trapezoidal rule on [-8, 8]^J."""
    axis, j = np.arange(-8, 8 + step / 2, step), generative.latent_dim
    grid = np.stack(np.meshgrid(*[axis] * j, indexing="ij"), axis=-1).reshape(-1, j)
    log_prior = -0.5 * np.sum(grid**2, axis=1) - 0.5 * j * np.log(2 * np.pi)
    values = np.asarray(log_likelihoods(generative, jnp.asarray(grid, jnp.float32), jnp.asarray(x)), np.float64)
    return float(scipy.special.logsumexp(values + log_prior) + j * np.log(step))


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_importance_sampling_against_quadrature(latent_dim):
    generative, recognition = nonlinear(latent_dim)
    x = np.array([1, 0, 0, 1, 1, 0], np.float32)
    exact = quadrature(generative, x)
    assert abs(exact - quadrature(generative, x, 0.04)) < 1e-4
    # 200 independent estimates of p(x) itself, which are unbiased where those of log p(x) are not.
    rows = np.repeat(x[None], 200, axis=0)
    estimates = evaluate.log_likelihood(generative, recognition, rows, KEY, num_samples=500, batch_size=200)
    ratios = np.exp(estimates.astype(np.float64) - exact)
    assert ratios.std() < 1.0
    assert abs(z_scores(ratios, 1.0, floor=2e-4)) < 5
    # Planted defect: a decoder whose weights are a fifth too large.
    wrong = jax.tree.map(lambda w: 1.2 * w, generative)
    estimates = evaluate.log_likelihood(wrong, recognition, rows, KEY, num_samples=500, batch_size=200)
    assert abs(z_scores(np.exp(estimates.astype(np.float64) - exact), 1.0, floor=2e-4)) > 5
    bound = evaluate.elbo(generative, recognition, rows, KEY).bound
    assert z_scores(bound, exact) < -5


def test_all_binary_vectors_have_total_probability_one():
    generative, recognition = nonlinear(1)
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.float32)
    exact = [quadrature(generative, x) for x in every]
    np.testing.assert_allclose(scipy.special.logsumexp(exact), 0.0, atol=1e-4)
    estimate = evaluate.log_likelihood(generative, recognition, every, KEY, num_samples=4000, chunk_size=1000)
    assert abs(scipy.special.logsumexp(estimate)) < 0.1
    assert abs(scipy.special.logsumexp(estimate + np.log(4000 / 3000))) > 0.1


# --- means ------------------------------------------------------------------------------------------------------------


def test_mean_and_standard_error():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    m = evaluate.mean(values)
    assert m.value == 4.0
    np.testing.assert_allclose(m.standard_error, np.sqrt(((values - 4) ** 2).sum() / 3 / 4))
    assert m.num_rows == 4
    assert str(evaluate.Mean(-1.234, 0.0567, 10)) == "-1.23 ± 0.06"


def test_mean_of_many_float32_is_exact():
    values = np.full(3_000_000, 0.1, np.float32)
    np.testing.assert_allclose(evaluate.mean(values).value, float(np.float32(0.1)), rtol=1e-12)


def test_mean_of_one_row_has_no_error_and_of_none_is_an_error():
    assert np.isnan(evaluate.mean(np.array([1.0])).standard_error)
    with pytest.raises(ValueError, match="0 rows"):
        evaluate.mean(np.array([]))


def test_the_standard_error_is_the_spread_of_the_mean():
    draws = np.random.default_rng(0).exponential(size=(4000, 30))
    means = [evaluate.mean(row) for row in draws]
    spread = np.var([m.value for m in means])
    predicted = np.mean([m.standard_error**2 for m in means])
    assert abs(predicted / spread - 1) < 5 * np.sqrt(2 / 4000) + 5 * np.sqrt(8 / 30 / 4000)


def test_the_yardstick_is_the_density_of_independent_columns():
    """Against SciPy's densities, with the moments of the training rows."""
    rng = np.random.default_rng(3)
    train, rows = rng.normal(size=(50, 3)) * [1, 5, 9] + 4, rng.normal(size=(7, 3))
    expected = scipy.stats.norm(train.mean(axis=0), train.std(axis=0)).logpdf(rows).sum(axis=1)
    np.testing.assert_allclose(evaluate.independent_columns(train, rows, Values.REAL), expected, rtol=1e-12)
    train, rows = rng.integers(0, 2, (50, 3)), rng.integers(0, 2, (7, 3))
    train[:, 1] = 0  # a column that never varied makes no row impossible
    expected = scipy.stats.bernoulli((train.sum(axis=0) + 0.5) / 51).logpmf(rows).sum(axis=1)
    np.testing.assert_allclose(evaluate.independent_columns(train, rows, Values.BINARY), expected, rtol=1e-12)
