"""The harmonic estimate of log p(x) against exact values, and the density that it is made with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _oracles import JointOnly, Problem, row_keys, z_scores

from aevb.distributions import FAMILIES, Normal
from aevb.evaluate import HarmonicSettings, _harmonic
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel, Decoder, Encoder, Mlp
from aevb.samplers import sample_by_hmc

KEY = jax.random.key(0)
NUM_ROWS = 300
OPTIONS = {"num_samples": 200, "warmup": 100, "batch_size": 100}


def harmonic_log_likelihood(*args, batch_size=50, first_row=0, **settings):
    settings = HarmonicSettings(**settings)
    return _harmonic.harmonic_log_likelihood(*args, settings, batch_size=batch_size, first_row=first_row)


def problem(latent_dim: int, num_rows: int = NUM_ROWS) -> Problem:
    return Problem.make(data_dim=3 * latent_dim + 2, latent_dim=latent_dim, num_rows=num_rows, seed=latent_dim)


@functools.cache
def estimated(latent_dim: int, wrong: bool = True):
    """At the true posterior the chains are where they belong from the first sample on."""
    p = problem(latent_dim)
    recognition = p.recognition(shift=0.5, scale=1.5) if wrong else p.recognition()
    found = harmonic_log_likelihood(p.generative(), recognition, p.rows.astype(np.float32), KEY, **OPTIONS)
    return found, found.log_likelihood - p.log_marginal()


def share_within(error: np.ndarray, standard_error: np.ndarray) -> float:
    return float(np.mean(np.abs(error) < 8 * standard_error))


@pytest.mark.parametrize(("latent_dim", "wrong"), [(1, True), (2, True), (4, True), (4, False)])
def test_log_marginals_within_their_error_bars(latent_dim, wrong):
    found, error = estimated(latent_dim, wrong)
    assert abs(z_scores(np.exp(-error), 1.0)) < 5  # 1 / p(x) is what has no bias
    # |t| > 8 with 7 degrees of freedom has probability 9e-5; more than three of 300 then 1e-8, and even at 1e-3 3e-4.
    assert share_within(error, found.standard_error) >= 0.99
    # The mean of t^2 with 7 degrees of freedom is 1.4; its distribution over 300 rows is within a factor of two.
    assert 0.7 < np.mean((error / found.standard_error) ** 2) < 2.8
    assert np.sqrt(np.mean(error**2)) < 0.1
    assert 140 < found.effective_sample_size.mean() <= 200  # of 200: q is the posterior, nearly
    assert np.all((found.acceptance > 0.8) & (found.acceptance < 1.0))


@pytest.mark.parametrize("bias", [0.2, -0.2, np.log(200)])
def test_a_biased_estimate_is_seen(bias):
    found, error = estimated(4)
    assert abs(z_scores(np.exp(-error - bias), 1.0)) > 5
    assert np.mean(((error + bias) / found.standard_error) ** 2) > 2.8


def test_batches_and_parts_do_not_change_the_result(x64):
    p = problem(2, 9)
    options = {"num_samples": 32, "num_chains": 4, "warmup": 20}
    whole = harmonic_log_likelihood(p.generative(), p.recognition(scale=1.5), p.rows, KEY, batch_size=9, **options)
    joint = JointOnly(p.generative()), p.recognition(scale=1.5)  # log p(x, z) is all that it takes
    cut = harmonic_log_likelihood(*joint, p.rows, KEY, batch_size=2, **options)
    part = harmonic_log_likelihood(*joint, p.rows[5:], KEY, batch_size=2, first_row=5, **options)
    wrong = harmonic_log_likelihood(*joint, p.rows[5:], KEY, batch_size=2, **options)
    for name in whole._fields:
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-6)
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[5:], rtol=1e-6)
    assert not np.allclose(wrong.log_likelihood, part.log_likelihood, rtol=1e-6)


# --- other models, against quadrature ---------------------------------------------------------------------------------


def test_a_nonlinear_decoder_against_quadrature():
    generative = jax.tree.map(lambda w: 3 * w, Decoder(6, 2, Mlp((5,)), key=jax.random.key(3)))
    recognition = Encoder(6, 2, Mlp(()), key=jax.random.key(4))
    x = np.array([1, 0, 0, 1, 1, 0], np.uint8)
    axis = np.arange(-8, 8.02, 0.04)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_joint = jax.jit(jax.vmap(lambda z: generative.log_joint(jnp.asarray(x, jnp.float32), z)))
    exact = scipy.special.logsumexp(
        np.asarray(log_joint(jnp.asarray(grid, jnp.float32)), np.float64) + 2 * np.log(0.04)
    )
    found = harmonic_log_likelihood(generative, recognition, np.repeat(x[None], 100, axis=0), KEY, **OPTIONS)
    check_against(exact, found)


def check_against(exact: float, found: _harmonic.Harmonic) -> None:
    inverse = np.exp(exact - found.log_likelihood)
    error = inverse.std() / np.sqrt(len(inverse))
    assert error < 0.02
    assert abs(z_scores(inverse, 1.0, floor=1e-4)) < 5
    assert abs(z_scores(1.2 * inverse, 1.0, floor=1e-4)) > 5  # planted defect: a density whose mass is 1.2
    assert found.effective_sample_size.mean() > 200 / 3


class Wave(AbstractPriorLikelihood):
    """p(z) = a family's standard member, p(x | z) = N(sum_d d z_d, 2 sin(z_1); 0.5^2)."""

    family: str

    def prior(self):
        return FAMILIES[self.family].standard(2 if self.family == "dirichlet" else 1)

    def likelihood(self, z):
        loc = jnp.stack([jnp.sum(z * jnp.arange(1, 1 + z.shape[0])), 2 * jnp.sin(z[0])])
        return Normal(loc, 0.5).to_event(1)


class Fixed(AbstractRecognitionModel):
    """q(z | x), a fixed member of a family."""

    family: str
    size: int = 1

    def posterior(self, x):
        family = FAMILIES[self.family]
        return family.from_raw({name: jnp.full(self.size, 0.3) for name in family.parameters})


@pytest.mark.parametrize("family", ["gamma", "dirichlet"])
def test_latents_of_constrained_support_against_quadrature(family):
    generative, x = Wave(family), np.array([1.1, 0.7], np.float32)
    high = 60 if family == "gamma" else 1
    z = high * (np.arange(200_000) + 0.5) / 200_000
    points = np.stack([z, 1 - z], axis=1) if family == "dirichlet" else z[:, None]
    log_joint = jax.jit(jax.vmap(lambda z: generative.log_joint(jnp.asarray(x), z)))
    values = np.asarray(log_joint(jnp.asarray(points, jnp.float32)), np.float64)
    exact = float(scipy.special.logsumexp(values) + np.log(high / 200_000))
    encoder = Fixed(family, 2 if family == "dirichlet" else 1)
    check_against(exact, harmonic_log_likelihood(generative, encoder, np.repeat(x[None], 100, axis=0), KEY, **OPTIONS))


# --- the density ------------------------------------------------------------------------------------------------------


def two_peaks(num: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(dim)
    z = rng.normal(size=(4, num // 4, dim)) @ np.linalg.cholesky(np.eye(dim) + 0.8 * (1 - np.eye(dim)))
    return z + 4.0 * (rng.random((4, num // 4, 1)) < 0.3)


@pytest.mark.parametrize("factor", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("dim", [1, 2])
def test_the_fitted_density_is_one_with_the_samples_moments(dim, factor, x64):
    draws = two_peaks(40, dim)
    axis = np.linspace(-14, 18, 641)
    grid = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(1, -1, dim)
    density = np.exp(_harmonic._log_density(jnp.asarray(draws), jnp.asarray(grid), jnp.asarray(factor)))[0]
    weights, points, flat = density * 0.05**dim, grid[0], draws.reshape(-1, dim)
    np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-4)
    np.testing.assert_allclose(weights @ points, flat.mean(axis=0), atol=1e-3)
    centred = points - flat.mean(axis=0)
    covariance = np.cov(flat.T).reshape(dim, dim)
    h = min(factor * 40 ** (-1 / (dim + 4)), 1.0)
    # Of the centres it is (1 - h^2) (n - 1) / n, of the kernels h^2 times the samples' covariance.
    expected = covariance * ((1 - h**2) * 39 / 40 + h**2)
    np.testing.assert_allclose((weights[:, None] * centred).T @ centred, expected, rtol=2e-3, atol=2e-3)


def log_normal(z, middle, covariance):
    return -0.5 * np.sum((z - middle) * np.linalg.solve(covariance, (z - middle)[..., None])[..., 0], axis=-1)


@pytest.mark.parametrize(("peaks", "low", "high"), [(1, 0.9, 1.0), (2, 0.05, 0.5)])
def test_the_bandwidth_follows_the_samples(peaks, low, high, x64):
    """A Gaussian for Gaussian samples, kernels for two peaks."""
    if peaks == 1:
        draws = np.random.default_rng(0).normal(size=(4, 100, 2))
        log_p = log_normal(draws, 0.0, np.eye(2))
    else:
        draws, covariance = two_peaks(400, 2), np.array([[1.0, 0.8], [0.8, 1.0]])
        log_p = np.logaddexp(
            np.log(0.7) + log_normal(draws, 0.0, covariance), np.log(0.3) + log_normal(draws, 4.0, covariance)
        )
    draws, at = jnp.asarray(draws), jnp.asarray(draws[:1])
    found = _harmonic._fitted_log_density(draws, jnp.asarray(log_p), at)
    same = [f for f in _harmonic._FACTORS if np.allclose(_harmonic._log_density(draws, at, jnp.asarray(f)), found)]
    assert low <= min(same[0] * 400 ** (-1 / 6), 1.0) <= high


def test_the_effective_sample_size_tells_a_bad_fit():
    """A curved, thin shell in four dimensions: few samples do not make a density of it."""
    generative = Ridges()
    rows = np.zeros((50, 1), np.float32)
    found = harmonic_log_likelihood(generative, Fixed("normal", 4), rows, KEY, **OPTIONS)
    # The median of 50 rows scatters by 6 or so around 74, and differs from one compiler to the next.
    assert np.median(found.effective_sample_size) < 110
    assert np.median(estimated(4)[0].effective_sample_size) > 2 * 200 / 3


class Ridges(AbstractPriorLikelihood):
    """p(z | x) with (z_2, z_3, z_4) close to (1, 1, 1) z_1^2."""

    def prior(self):
        return FAMILIES["normal"].standard(4)

    def likelihood(self, z):
        return Normal(jnp.sum((z[1:] - z[0] ** 2) ** 2, keepdims=True), 0.2).to_event(1)


# --- NumPyro's chains -------------------------------------------------------------------------------------------------


def test_chains_sample_the_density(x64):
    """N(0, diag(0.1, 3)^2) from far away: each chain finds its own step size and mass matrix."""
    scale = jnp.array([0.1, 3.0])

    @jax.jit
    @jax.vmap
    def sampled(key):
        return sample_by_hmc(
            lambda u: 5.0 - 0.5 * jnp.sum((u / scale) ** 2),
            jnp.full(2, 1.0),
            key,
            num_warmup=300,
            num_samples=100,
            num_leapfrog=4,
            target_acceptance=0.9,
        )

    chains = sampled(row_keys(KEY, 500))
    draws = np.asarray(chains.draws)
    for moment, expected in ((draws, np.zeros(2)), (draws**2, np.asarray(scale) ** 2)):
        means = moment.mean(axis=1)  # of a chain, whose samples know of each other
        assert np.all(np.abs(z_scores(means, expected)) < 5)
    assert np.any(np.abs(z_scores(1.1 * (draws**2).mean(axis=1), np.asarray(scale) ** 2)) > 5)
    np.testing.assert_allclose(chains.log_density, 5.0 - 0.5 * np.sum((draws / np.asarray(scale)) ** 2, axis=-1))
    assert 0.85 < chains.acceptance.mean() < 0.98


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_chains": 6}, "multiple of 4"),
        ({"num_chains": 0}, "multiple of 4"),
        ({"num_samples": 801}, "multiple of num_chains / 2 = 8"),
        ({"num_samples": 8}, "two for each chain"),
        ({"num_leapfrog": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"warmup": 3}, "at least 20"),
        ({"target_acceptance": 0.0}, "between 0 and 1"),
    ],
)
def test_arguments_out_of_range(options, message):
    p = problem(1, 2)
    with pytest.raises(ValueError, match=message):
        harmonic_log_likelihood(p.generative(), p.recognition(), p.rows, KEY, **options)


def test_five_dimensions_are_too_many():
    p = problem(5, 2)
    with pytest.raises(ValueError, match=r"fewer than 5.*has 5.*annealed_importance_sampling"):
        harmonic_log_likelihood(p.generative(), p.recognition(), p.rows, KEY)
    with pytest.raises(ValueError, match="0 rows"):
        harmonic_log_likelihood(p.generative(), p.recognition(), p.rows[:0], KEY)


def test_an_encoder_outside_of_the_prior():
    with pytest.raises(TypeError, match=r"outside of the prior's support.*annealed_importance_sampling"):
        harmonic_log_likelihood(Wave("gamma"), Fixed("normal"), np.ones((2, 2), np.float32), KEY)
