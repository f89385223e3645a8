"""Simulation-based calibration: an exact null distribution, exact posteriors that pass, planted ones that do not."""

import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _oracles import JointOnly, LinearRecognition, Problem

from aevb.distributions import Bernoulli, Dirichlet, Distribution, Normal, VonMises
from aevb.errors import UnavailableError
from aevb.evaluate._calibration import (
    _Null,
    rank_calibration,
    simulation_based_calibration,
)
from aevb.evaluate._check_words import calibration_verdict
from aevb.models import AbstractGenerativeModel, AbstractPriorLikelihood, AbstractRecognitionModel

PROBLEM = Problem.make(data_dim=5, latent_dim=2, num_rows=1, seed=1)
SD = PROBLEM.posterior()[2]
KEY = jax.random.key(0)
NAMES = ("z_1", "z_2", "log p(x, z)")

# An exact posterior fails a test at this p-value once in a million runs.
FAILS = 1e-6 / 3


def calibration(recognition=None, *, key=KEY, num_simulations=4000, num_draws=30, **options):
    recognition = PROBLEM.recognition() if recognition is None else recognition
    return simulation_based_calibration(
        PROBLEM.generative(),
        recognition,
        key,
        num_simulations=num_simulations,
        num_draws=num_draws,
        batch_size=1000,
        **options,
    )


# --- the null distribution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "num_draws"), [(5, 3), (3, 6), (1, 4)])
def test_p_values_by_enumeration(n, num_draws):
    """Every data set of n ranks is equally likely: count those with a statistic as small or smaller."""
    every = np.array(list(itertools.product(range(num_draws + 1), repeat=n)))
    counts = np.sum(every[:, :, None] <= np.arange(num_draws), axis=1)
    share = (np.arange(num_draws) + 1) / (num_draws + 1)
    tails = 2 * np.minimum(scipy.stats.binom.cdf(counts, n, share), scipy.stats.binom.sf(counts - 1, n, share))
    statistic = np.round(tails.min(axis=1), 12)
    exact = np.mean(statistic[:, None] >= statistic, axis=1)
    for i in range(0, len(every), 17):
        found = rank_calibration(every[i][:, None], num_draws, ("z",)).p_values[0]
        np.testing.assert_allclose(found, exact[i], rtol=1e-9)


@pytest.mark.parametrize(("n", "num_draws", "level"), [(200, 20, 0.9), (1000, 100, 0.99), (50, 300, 0.9)])
def test_the_band_contains_uniform_ranks_as_often_as_it_says(n, num_draws, level):
    rng = np.random.default_rng(0)
    repeats = 20_000
    band = rank_calibration(rng.integers(0, num_draws + 1, (n, 1)), num_draws, ("z",), level=level)
    points = np.round(band.uniform * (num_draws + 1)).astype(int)  # counts of ranks below these are compared
    per_rank = rng.multinomial(n, np.full(num_draws + 1, 1 / (num_draws + 1)), size=repeats)
    difference = np.cumsum(per_rank, axis=1)[:, points - 1] / n - band.uniform
    share = np.mean(np.all((difference >= band.lower - 1e-12) & (difference <= band.upper + 1e-12), axis=1))
    null = _Null.of(n, band.uniform)
    exact = 1 - null.probability(null.largest_tail(1 - level))
    assert level <= exact < level + 0.01  # a step of a discrete statistic, no more
    assert abs(share - exact) < 5 * np.sqrt(exact * (1 - exact) / repeats)
    # Negative control: intervals of that level at each point hold far fewer whole curves.
    low, high = null.bounds(1 - level)
    counts = np.round((difference + band.uniform) * n)
    assert np.mean(np.all((counts >= low) & (counts <= high), axis=1)) < level - 0.02


def test_the_level_is_that_of_all_quantities_together():
    """Bonferroni: with Q quantities of uniform ranks the share with any outside is near, and below, 1 - level."""
    rng = np.random.default_rng(1)
    n, num_draws, q, level, repeats = 100, 20, 5, 0.8, 20_000
    band = rank_calibration(rng.integers(0, num_draws + 1, (n, q)), num_draws, tuple("abcde"), level=level)
    per_rank = rng.multinomial(n, np.full(num_draws + 1, 1 / (num_draws + 1)), size=(repeats, q))
    difference = np.cumsum(per_rank, axis=2)[:, :, :-1] / n - band.uniform
    inside = np.mean(np.all((difference >= band.lower - 1e-12) & (difference <= band.upper + 1e-12), axis=(1, 2)))
    null = _Null.of(n, band.uniform)
    exact = (1 - null.probability(null.largest_tail((1 - level) / q))) ** q
    assert abs(inside - exact) < 5 * np.sqrt(exact * (1 - exact) / repeats)
    assert level <= exact < level + 0.05


def test_within_the_bands_is_a_p_value_above_the_limit():
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(60):
        c = rank_calibration(rng.integers(0, 11, (40, 4)), 10, tuple("abcd"), level=0.2)
        np.testing.assert_array_equal(c.within, c.p_values > 0.8 / 4)
        assert c.calibrated == bool(np.all(c.within))
        assert [shape == "uniform" for shape in c.shapes] == list(c.within)
        seen |= set(c.within.tolist())
    assert seen == {True, False}


def test_p_values_far_in_the_tail_are_positive_and_ordered():
    ranks = [np.minimum(np.arange(200) % 20, 19 - cut)[:, None] for cut in (0, 2, 5, 10, 19)]
    p = [rank_calibration(r, 19, ("z",)).p_values[0] for r in ranks]
    assert p[0] == 1.0
    assert all(b < a for a, b in itertools.pairwise(p))
    # All ranks 0: the first point alone has probability 2 / 20^200, and no curve is more extreme but all ranks 19.
    np.testing.assert_allclose(np.log(p[-1]), np.log(2) - 200 * np.log(20), atol=np.log(20))


def test_the_ecdf_by_hand():
    c = rank_calibration(np.array([[0], [0], [1], [3]]), 3, ("z",))
    np.testing.assert_allclose(c.uniform, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(c.ecdf_difference, [[0.5 - 0.25, 0.75 - 0.5, 0.75 - 0.75]])
    np.testing.assert_allclose(c.max_deviation, [0.25])


# --- exact posteriors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint_only", [False, True])
def test_the_exact_posterior_is_calibrated(joint_only):
    generative = JointOnly(PROBLEM.generative()) if joint_only else PROBLEM.generative()
    c = simulation_based_calibration(
        generative, PROBLEM.recognition(), KEY, num_simulations=20_000, num_draws=20, level=1 - 1e-6, batch_size=1000
    )
    assert c.names == NAMES
    assert c.p_values.min() > FAILS
    assert c.calibrated
    assert c.shapes == ("uniform",) * 3
    # Negative control: of a tenth of a standard deviation.
    wrong = calibration(PROBLEM.recognition(shift=0.1 * SD), num_simulations=20_000, num_draws=20)
    assert wrong.p_values[:2].max() < FAILS


def test_the_exact_posterior_in_double_precision(x64):
    assert calibration().p_values.min() > FAILS


def test_p_values_of_the_exact_posterior_are_uniform_over_seeds():
    def p_values(recognition, repeats: int) -> np.ndarray:
        found = (calibration(recognition, key=jax.random.key(s), num_simulations=500) for s in range(repeats))
        return np.array([c.p_values for c in found])

    for quantity in p_values(PROBLEM.recognition(), 50).T:
        assert scipy.stats.kstest(quantity, "uniform").pvalue > FAILS
    wrong = p_values(PROBLEM.recognition(scale=0.8), 15)  # negative control: draws that are a fifth too narrow
    assert scipy.stats.kstest(wrong[:, 0], "uniform").pvalue < FAILS


class Ignored(AbstractPriorLikelihood):
    """x says nothing of z, so that the prior is the posterior."""

    family: str = eqx.field(static=True)

    def prior(self) -> Distribution:
        return latent(self.family)

    def likelihood(self, z) -> Distribution:
        return Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)


class Same(AbstractRecognitionModel):
    family: str = eqx.field(static=True)

    def posterior(self, x) -> Distribution:
        return latent(self.family)


def latent(family: str) -> Distribution:
    return {
        "simplex": lambda: Dirichlet(jnp.array([0.5, 1.0, 2.0])),
        "circle": lambda: VonMises(jnp.array([3.0, 0.0]), jnp.array([1.0, 2.0])).to_event(1),
        "matrix": lambda: Normal(jnp.zeros((2, 2)), jnp.ones((2, 2))).to_event(2),
        "number": lambda: Normal(0.0, 1.0),
    }[family]()


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("simplex", ("z_1", "z_2", "z_3")),
        ("circle", ("z_1", "z_2")),
        ("matrix", ("z_1,1", "z_1,2", "z_2,1", "z_2,2")),
        ("number", ("z",)),
    ],
)
def test_latents_of_any_kind(family, names):
    c = simulation_based_calibration(
        Ignored(family), Same(family), KEY, num_simulations=3000, num_draws=15, batch_size=1000
    )
    assert c.names == (*names, "log p(x, z)")
    assert c.ranks.shape == (3000, len(c.names))
    assert c.p_values.min() > FAILS


class TwoClusters(AbstractGenerativeModel):
    """z is 0 or 1, with probability 0.3 of a 1; x ~ N(2 z - 1, 1)."""

    def log_joint(self, x, z):
        return Bernoulli(jnp.log(0.3 / 0.7)).log_prob(z[0]) + Normal(2 * z[0] - 1, 1.0).log_prob(x[0])

    def sample(self, key):
        z_key, x_key = jax.random.split(key)
        z = Bernoulli(jnp.log(0.3 / 0.7)).sample(z_key, (1,))
        return 2 * z - 1.0 + jax.random.normal(x_key, (1,)), z


class Membership(AbstractRecognitionModel):
    """log p(z = 1 | x) / p(z = 0 | x) = log(0.3 / 0.7) + slope x, where the posterior has slope 2."""

    slope: float = 2.0

    def posterior(self, x):
        return Bernoulli(jnp.log(0.3 / 0.7) + self.slope * x).to_event(1)


def test_ties_are_broken_evenly():
    """A latent of two values ties with most draws; broken at random, its ranks are uniform all the same."""

    def run(slope: float):
        return simulation_based_calibration(
            TwoClusters(), Membership(slope), KEY, num_simulations=20_000, num_draws=9, batch_size=5000
        )

    c = run(2.0)
    assert c.p_values.min() > FAILS
    for ranks in c.ranks.T:
        counts = np.bincount(ranks, minlength=10)
        assert counts.sum() == 20_000
        assert np.all(np.abs(counts - 2000) < 5.5 * np.sqrt(20_000 * 0.1 * 0.9))
    assert not run(1.0).calibrated


# --- planted defects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "shape", "joint_shape"),
    [
        ({"shift": 0.3 * SD}, "shifted high", None),
        ({"shift": -0.3 * SD}, "shifted low", None),
        ({"scale": 0.7}, "under-dispersed", "shifted high"),
        ({"scale": 1.4}, "over-dispersed", "shifted low"),
    ],
)
def test_a_wrong_posterior_is_found_and_told(wrong, shape, joint_shape):
    c = calibration(PROBLEM.recognition(**wrong))
    assert not c.calibrated
    assert c.shapes[:2] == (shape, shape)
    assert c.p_values[:2].max() < FAILS
    if joint_shape is not None:
        assert c.shapes[2] == joint_shape
    words = str(calibration_verdict(c))
    assert words.startswith("q(z | x) differs from the model's posterior")
    assert f"z_1 {shape}" in words
    assert "real data" in words


def test_one_wrong_dimension_does_not_stain_the_other():
    c = calibration(PROBLEM.recognition(shift=np.array([0.0, 0.5]) * SD), level=1 - 1e-6)
    assert c.shapes[:2] == ("uniform", "shifted high")
    assert c.p_values[0] > FAILS


def test_the_joint_finds_a_posterior_that_ignores_x():
    """q(z | x) = p(z): every dimension's ranks are uniform. Only a quantity that depends on x can tell."""
    prior = LinearRecognition(jnp.zeros((2, 5)), jnp.zeros(2), jnp.zeros(2))
    c = calibration(prior, level=1 - 1e-6)
    assert c.p_values[:2].min() > FAILS
    assert c.p_values[2] < FAILS
    assert c.shapes == ("uniform", "uniform", "shifted low")
    assert "log p(x, z) shifted low" in calibration_verdict(c).details


def test_ranks_count_the_draws_below():
    for shift, rank in ((-1000.0, 30), (1000.0, 0)):
        ranks = calibration(PROBLEM.recognition(shift=shift), num_simulations=20).ranks
        np.testing.assert_array_equal(ranks[:, :2], rank)
        np.testing.assert_array_equal(ranks[:, 2], 30)  # p(x, z) is far higher at the truth either way


def test_ranks_that_are_neither_shifted_nor_stretched():
    """Too few in the middle and at the ends, with the right mean and variance."""
    grid = np.arange(100)
    ranks = grid[np.sin(6 * np.pi * (grid + 0.5) / 100) ** 2 > 0.5]
    c = rank_calibration(np.tile(ranks, 60)[:, None], 99, ("z",))
    assert c.shapes == ("other",)
    assert "another shape" in calibration_verdict(c).details


# --- numbers, keys and arguments --------------------------------------------------------------------------------------


def test_simulations_at_once_do_not_change_the_ranks():
    whole = simulation_based_calibration(
        PROBLEM.generative(), PROBLEM.recognition(), KEY, num_simulations=40, num_draws=10, batch_size=40
    )
    cut = simulation_based_calibration(
        PROBLEM.generative(), PROBLEM.recognition(), KEY, num_simulations=40, num_draws=10, batch_size=7
    )
    assert np.mean(whole.ranks != cut.ranks) < 0.03  # but for rounding of near ties
    other = calibration(key=jax.random.key(1), num_simulations=40, num_draws=10)
    assert np.mean(other.ranks != whole.ranks) > 0.5


class Counted(AbstractRecognitionModel):
    inner: LinearRecognition

    def posterior(self, x):
        TRACES.append(x)
        return self.inner.posterior(x)


TRACES: list[object] = []


def test_a_second_call_does_not_compile():
    calibration(Counted(PROBLEM.recognition()), num_simulations=10)
    traced = len(TRACES)
    calibration(Counted(PROBLEM.recognition(shift=0.1)), num_simulations=10, key=jax.random.key(7))
    assert len(TRACES) == traced + 1  # the trace by shapes that checks the latent, and no more


def test_as_json():
    told = json.loads(json.dumps(rank_calibration(np.zeros((50, 3), int), 9, NAMES).to_dict()))
    assert told["num_simulations"] == 50
    assert told["names"] == list(NAMES)
    assert len(told["p_values"]) == 3
    assert "ranks" not in told


@pytest.mark.parametrize(
    "options", [{"num_simulations": 1}, {"num_draws": 1}, {"level": 1.0}, {"level": 0.0}, {"num_draws": 0}]
)
def test_numbers_out_of_range(options):
    with pytest.raises(ValueError, match=r"at least 2|between 0 and 1"):
        calibration(**options)


@pytest.mark.parametrize(
    ("ranks", "num_draws", "names"),
    [
        (np.zeros((5, 2), int), 4, ("z",)),
        (np.zeros((0, 1), int), 4, ("z",)),
        (np.full((5, 1), 5), 4, ("z",)),
        (np.full((5, 1), -1), 4, ("z",)),
        (np.zeros((5, 1), int), 1, ("z",)),
    ],
)
def test_ranks_that_cannot_be(ranks, num_draws, names):
    with pytest.raises(ValueError, match="ranks"):
        rank_calibration(ranks, num_draws, names)


def test_models_that_do_not_share_a_latent():
    other = Problem.make(data_dim=5, latent_dim=3, num_rows=1).recognition()
    with pytest.raises(ValueError, match=r"one shape in both models, got \(2,\) .* \(3,\)"):
        calibration(other)


def test_what_is_not_a_number_has_no_rank():
    broken = PROBLEM.recognition(shift=np.array([0.0, np.nan]))
    with pytest.raises(UnavailableError, match=r"z_2 is not a number .* in 10 of 10 simulations"):
        calibration(broken, num_simulations=10)
