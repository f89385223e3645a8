"""Samples against data: columns by NumPy, neighbours by brute force, copies that are found and honesty that is not."""

import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _oracles import z_scores

from aevb.errors import UnavailableError
from aevb.evaluate._check_words import memorisation_verdict
from aevb.evaluate._exchange import largest_by_chance
from aevb.evaluate._generation import (
    NearestRows,
    _beta_binomial_tail,
    column_statistics,
    memorisation,
    nearest_rows,
)

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(300, 6))


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 5, 64, 130])
def test_columns_against_numpy(columns):
    samples, rows = RNG.normal(1000.0, 2.0, (50, columns)), RNG.normal(1001.0, 3.0, (80, columns))
    c = column_statistics(samples, rows)
    np.testing.assert_allclose(c.mean, samples.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(c.data_mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(c.sd, samples.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(c.data_sd, rows.std(axis=0, ddof=1), rtol=1e-9)
    welch = scipy.stats.ttest_ind(samples, rows, equal_var=False).statistic
    difference, together = samples.mean(axis=0) - rows.mean(axis=0), np.concatenate([samples, rows])
    pooled = difference / (together.std(axis=0, ddof=1) * np.sqrt(1 / 50 + 1 / 80))
    z = np.where(np.abs(welch) < np.abs(pooled), welch, pooled)  # by the larger of the two errors
    np.testing.assert_allclose(c.z_score, z, rtol=1e-9)
    np.testing.assert_array_equal(c.worst, np.argsort(-np.abs(z))[:10])
    assert c.share_far == np.mean(np.abs(z) > c.limit)


def test_where_the_samples_vary_less_the_error_is_welchs():
    samples, rows = RNG.normal(0.0, 0.1, (500, 9)), RNG.normal(0.0, 3.0, (20, 9))
    welch = scipy.stats.ttest_ind(samples, rows, equal_var=False).statistic
    np.testing.assert_allclose(column_statistics(samples, rows).z_score, welch, rtol=1e-9)


SOURCES = {
    "binary": lambda rng, n: (rng.random((n, 48)) < np.linspace(0.8, 1.0, 48)).astype(np.uint8),
    "Gaussian": lambda rng, n: rng.normal(size=(n, 48)),
    "log-normal": lambda rng, n: np.exp(1.5 * rng.normal(size=(n, 48))),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("num_rows", [20, 200])
def test_samples_and_data_of_one_distribution_raise_no_alarm(source, num_rows):
    """Said to have a probability of 0.001 at most. By normal tails 20 binary rows raised it every time."""
    rng = np.random.default_rng(12)
    draw = SOURCES[source]
    alarms = [column_statistics(draw(rng, 1000), draw(rng, num_rows)).share_far > 0 for _ in range(25)]
    assert sum(alarms) <= 1  # two have a probability of 3e-4
    different = draw(rng, num_rows).astype(np.float64)
    different[:, 5] = 0.0 if source == "binary" else different[:, 5] + 20.0
    c = column_statistics(draw(rng, 1000), different)
    assert c.worst[0] == 5
    assert c.share_far == 1 / 48


def test_what_chance_alone_does_is_not_far():
    """Both of two rows hold a rare 1 in some of many columns: ten standard errors, and no misfit."""
    rng = np.random.default_rng(13)
    samples, rows = ((rng.random((n, 6000)) < 0.02).astype(np.uint8) for n in (1000, 2))
    c = column_statistics(samples, rows)
    assert np.abs(c.z_score[c.worst[0]]) > 9
    assert c.limit > 9
    assert c.share_far == 0


def test_exchanges_against_scipy():
    """Of one binary column the largest of 999 exchanges is a value that can be, and about the highest in 1,000."""
    rng = np.random.default_rng(3)
    samples, rows = ((rng.random((n, 1)) < 0.9).astype(np.uint8) for n in (60, 15))
    both = np.concatenate([samples, rows]).astype(np.float64)
    sd = both.std(axis=0, ddof=1)
    found = largest_by_chance(samples, rows, both.mean(axis=0), sd, seed=0)
    # Binary: the mean of the few says all, and how many of the few are 1 is hypergeometric.
    ones = int(both.sum())
    k = np.arange(max(0, ones - 60), min(15, ones) + 1)
    few, many = k / 15, (ones - k) / 60
    welch = np.sqrt(few * (1 - few) / 14 + many * (1 - many) / 59)
    z = np.abs(few - many) / np.maximum(welch, sd * np.sqrt(1 / 15 + 1 / 60))
    chance = scipy.stats.hypergeom.pmf(k, 75, ones, 15)
    assert np.min(np.abs(z - found)) < 1e-9  # a value that can be
    assert chance[z > found + 1e-9].sum() < 0.01
    assert chance[z > found - 1e-9].sum() > 1e-5


def test_z_scores_of_one_source_are_standard_normal():
    c = column_statistics(RNG.exponential(size=(400, 3000)), RNG.exponential(size=(900, 3000)))
    assert abs(z_scores(c.z_score, 0.0)) < 5
    assert abs(z_scores(c.z_score**2, 1.0)) < 5
    assert c.share_far == 0


def test_columns_that_differ_are_named():
    rows = RNG.normal(size=(500, 20))
    samples = RNG.normal(size=(500, 20))
    samples[:, 7] += 3
    samples[:, 3] -= 1.5
    c = column_statistics(samples, rows)
    assert list(c.worst[:2]) == [7, 3]
    assert c.z_score[3] < -5
    assert c.z_score[7] > 5
    assert c.share_far == 2 / 20
    told = json.loads(json.dumps(c.to_dict()))
    assert [column["column"] for column in told["worst"][:2]] == [8, 4]  # counted from 1 where people read


def test_constant_columns():
    rows = np.tile(np.float32([0.1, 0.1, 0.3]), (1000, 1))
    c = column_statistics(np.tile(np.float32([0.1, 0.2, 0.2]), (500, 1)), rows)
    largest = np.sqrt(1499)  # of 1,500 rows in two groups that do not vary
    np.testing.assert_allclose(c.z_score, [0.0, largest, -largest], rtol=1e-9)
    np.testing.assert_array_equal(c.sd, 0.0)
    assert c.share_far == 2 / 3
    assert json.loads(json.dumps(c.to_dict(), allow_nan=False))["limit"] == 5
    few = column_statistics(np.float32([[0.1], [0.1]]), np.float32([[0.2], [0.2]]))  # as chance parts them: one in 3
    assert few.share_far == 0


def test_columns_of_bytes_and_images():
    rows = RNG.integers(0, 256, (40, 2, 3)).astype(np.uint8)
    c = column_statistics(jnp.asarray(rows[:20]), rows)
    np.testing.assert_allclose(c.mean, rows[:20].reshape(20, 6).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(c.data_sd, rows.reshape(40, 6).std(axis=0, ddof=1), rtol=1e-12)


# --- neighbours -------------------------------------------------------------------------------------------------------


def brute_force(samples, train, k):
    difference = samples.astype(np.float64)[:, None] - train.astype(np.float64)[None]
    distance = np.sqrt(np.sum(difference**2, axis=2))
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.mark.parametrize("chunk_size", [1, 7, 100, 1000])
@pytest.mark.parametrize("k", [1, 3, 300])
def test_neighbours_against_brute_force(chunk_size, k):
    samples = np.random.default_rng(1).normal(size=(23, 6))
    index, distance = brute_force(samples, TRAIN, k)
    found = nearest_rows(samples, TRAIN, num_neighbours=k, chunk_size=chunk_size)
    np.testing.assert_array_equal(found.row_index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)
    assert found.held_out_distance is None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_neighbours_of_whole_numbers(dtype):
    """Differences of bytes do not wrap around, and equal distances go to the lower row."""
    rng = np.random.default_rng(2)
    train = rng.integers(0, 256, (200, 3)).astype(dtype)
    train[150] = train[3]
    samples = np.concatenate([rng.integers(0, 256, (30, 3)).astype(dtype), train[:5]])
    index, distance = brute_force(samples, train, 2)
    for chunk_size in (13, 500):
        found = nearest_rows(samples, train, num_neighbours=2, chunk_size=chunk_size)
        np.testing.assert_array_equal(found.row_index, index)
        np.testing.assert_array_equal(found.distance, distance)
    assert list(found.row_index[33]) == [3, 150]
    np.testing.assert_array_equal(found.distance[30:, 0], 0.0)


def test_small_distances_keep_their_digits():
    """1e-5 between points of norm 2,400: |a|^2 - 2 ab + |b|^2 has lost all of it (5.8e6 with 1e-9 of rounding)."""
    train = 1000 + np.random.default_rng(3).normal(size=(200, 6))
    samples = train[:50] + 1e-5 / np.sqrt(6)
    found = nearest_rows(samples, train)
    np.testing.assert_array_equal(found.row_index[:, 0], np.arange(50))
    np.testing.assert_allclose(found.distance[:, 0], 1e-5, rtol=1e-6)


def test_held_out_rows_have_distances_too():
    held_out = np.random.default_rng(4).normal(size=(40, 6))
    found = nearest_rows(TRAIN[:2], TRAIN, held_out=held_out, num_neighbours=2)
    np.testing.assert_allclose(found.held_out_distance, brute_force(held_out, TRAIN, 1)[1][:, 0], rtol=1e-12)
    np.testing.assert_array_equal(found.distance[:, 0], 0.0)


# --- copies -----------------------------------------------------------------------------------------------------------


def reading(samples, seed=5, num_held_out=200):
    held_out = np.random.default_rng(seed).normal(size=(num_held_out, 6))
    return nearest_rows(samples, TRAIN, held_out=held_out)


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_neighbours_far_from_zero_are_those_near_it(offset):
    """Time stamps: of 200 rows 199 had a wrong neighbour, at nearly three times the distance."""
    rng = np.random.default_rng(8)
    train, queries = rng.normal(size=(1000, 5)), rng.normal(size=(200, 5))
    distance = np.linalg.norm(queries[:, None] - train, axis=2)
    found = nearest_rows(queries + offset, train + offset)
    np.testing.assert_allclose(found.distance[:, 0], distance.min(axis=1), atol=1e-5)
    np.testing.assert_array_equal(found.row_index[:, 0], distance.argmin(axis=1))


def test_a_generator_that_copies_is_found():
    nearest = reading(TRAIN[:150] + 0.01 * np.random.default_rng(6).normal(size=(150, 6)))
    m = memorisation(nearest)
    assert m.median_ratio < 0.05
    assert m.nearer > 0.99
    assert m.share_close > 0.9
    assert max(m.p_value_nearer, m.p_value_close) < 1e-6 < m.p_value_farther
    assert memorisation_verdict(nearest).headline.startswith("Samples are too near")


def test_a_few_copies_among_many_samples_are_found():
    """One in ten, the others too far out: the median and the rank statistic point the wrong way."""
    rng = np.random.default_rng(7)
    samples = np.concatenate([TRAIN[:30] + 0.001 * rng.normal(size=(30, 6)), 1.5 * rng.normal(size=(270, 6))])
    nearest = reading(samples, num_held_out=1000)
    m = memorisation(nearest)
    assert m.median_ratio > 1
    assert m.p_value_nearer > 0.5
    assert m.p_value_close < 1e-6
    assert memorisation_verdict(nearest).headline.startswith("Samples are too near")


def test_samples_far_from_the_data_are_no_copies():
    nearest = reading(3 * np.random.default_rng(8).normal(size=(300, 6)))
    m = memorisation(nearest)
    assert m.nearer < 0.2
    assert m.p_value_farther < 1e-6
    assert memorisation_verdict(nearest).headline.startswith("No copies were found, but samples lie too far away")


def test_an_honest_generator_is_not_accused():
    """Samples and held-out rows of the distribution of the training rows: p-values as they should be, over and over."""
    readings = [
        memorisation(reading(np.random.default_rng(100 + i).normal(size=(80, 6)), seed=900 + i)) for i in range(200)
    ]
    nearer = np.array([m.nearer for m in readings])
    assert abs(z_scores(nearer, 0.5)) < 5
    p = np.array([[m.p_value_nearer, m.p_value_farther] for m in readings])
    for column in p.T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-6 / 2
    close = np.array([m.share_close for m in readings])
    assert abs(z_scores(close, readings[0].expected_share_close)) < 5
    p_close = np.array([m.p_value_close for m in readings])
    for limit in (0.5, 0.2, 0.05):  # discrete, so at most the limit
        assert np.mean(p_close <= limit) < limit + 5 * np.sqrt(limit * (1 - limit) / 200)
    copies = memorisation(reading(TRAIN[:80] * 1.001))
    assert copies.p_value_nearer < 1e-6


def test_the_verdict_of_an_honest_generator():
    """Distances that are exactly those of held-out rows, so that nothing is left to chance."""
    distance = np.linspace(1.0, 2.0, 500)
    nearest = NearestRows(np.zeros((500, 1), np.int64), distance[:, None], distance)
    assert memorisation(nearest).nearer == 0.5
    words = memorisation_verdict(nearest).headline
    assert words.startswith("No copies")
    assert "1.00 times that of held-out rows" in words


def test_held_out_rows_that_were_trained_on_are_left_out():
    """Half of the held-out rows are training rows: against these every honest sample lies too far away."""
    rng = np.random.default_rng(11)
    samples, fresh = rng.normal(size=(2, 200, 6))
    held_out = np.concatenate([TRAIN[:200], fresh])
    nearest = nearest_rows(samples, TRAIN, held_out=held_out)
    trained_on = np.arange(400) < 200
    found, without = memorisation(nearest, trained_on), memorisation(nearest_rows(samples, TRAIN, held_out=fresh))
    assert found == without
    assert found.num_held_out == 200
    assert min(found.p_value_nearer, found.p_value_farther) > 1e-6
    assert (
        memorisation(nearest).p_value_farther == 1e-4
    )  # negative control: they accuse the model, as far as 9,999 exchanges can
    assert "too far away" in memorisation_verdict(nearest).headline
    assert "too far away" not in memorisation_verdict(nearest, trained_on).headline
    with pytest.raises(UnavailableError, match="trained on all of these rows"):
        memorisation(nearest, np.ones(400, bool))
    with pytest.raises(ValueError, match="one entry for each of 400"):
        memorisation(nearest, trained_on[:5])


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_mann_whitney_against_scipy(decimals):
    rng = np.random.default_rng(9)
    samples, held = np.round(rng.normal(5, 1, 70), decimals), np.round(rng.normal(5.3, 1.2, 50), decimals)
    m = memorisation(NearestRows(np.zeros((70, 1), np.int64), samples[:, None], held))
    for alternative, p in (("less", m.p_value_nearer), ("greater", m.p_value_farther)):
        options = {"method": "asymptotic", "use_continuity": False}
        if decimals < 8:  # equal distances: both are of 9,999 exchanges, each with its own
            options = {"method": scipy.stats.PermutationMethod(n_resamples=9999, rng=np.random.default_rng(1))}
        exact = scipy.stats.mannwhitneyu(samples, held, alternative=alternative, **options)
        noise = 5 * np.sqrt(2 * exact.pvalue * (1 - exact.pvalue) / 9999)
        np.testing.assert_allclose(p, exact.pvalue, rtol=1e-9, atol=noise if decimals < 8 else 0)
    np.testing.assert_allclose(m.nearer, 1 - exact.statistic / (70 * 50), rtol=1e-12)
    np.testing.assert_allclose(m.median_ratio, np.median(samples) / np.median(held))


def test_few_held_out_rows_and_many_ties_keep_the_level():
    """Distances of 0, but for a few: by the normal approximation 18 of 300 were below 0.001 with one held-out row."""
    rng, level = np.random.default_rng(11), []
    for i in range(300):
        distance = np.where(rng.random(320) < 0.95, 0.0, rng.integers(1, 4, 320))
        held = distance[: (1, 2, 20)[i % 3]]
        m = memorisation(NearestRows(np.zeros((300, 1), np.int64), distance[20:, None], held))
        level.append(min(m.p_value_nearer, m.p_value_farther) < 0.01)
    assert sum(level) <= 15  # of 300 at twice 0.01: 6 are to be expected at most, and fewer with ties


def test_exact_p_values_of_few_rows_against_scipy():
    samples, held = np.array([1.0, 2.0, 5.0, 6.0, 7.0]), np.array([8.0, 6.5, 9.0])
    m = memorisation(NearestRows(np.zeros((5, 1), np.int64), samples[:, None], held))
    for alternative, p in (("less", m.p_value_nearer), ("greater", m.p_value_farther)):
        exact = scipy.stats.mannwhitneyu(samples, held, alternative=alternative, method="exact").pvalue
        assert abs(p - exact) < 5 * np.sqrt(exact * (1 - exact) / 9999)


def test_samples_among_the_nearest_held_out_rows_by_hand():
    """Of 200 held-out rows 1 % are 2: what is nearer than the second nearest of them is close."""
    samples, held = np.array([0.5, 1.5, 2.0, 3.0, 4.0]), np.arange(1.0, 201.0)
    m = memorisation(NearestRows(np.zeros((5, 1), np.int64), samples[:, None], held))
    assert (m.share_close, m.expected_share_close) == (2 / 5, 2 / 201)
    np.testing.assert_allclose(m.p_value_close, scipy.stats.betabinom.sf(1, 5, 2, 199), rtol=1e-9)


def test_the_number_of_close_samples_is_beta_binomial():
    rng = np.random.default_rng(10)
    repeats, h, s, m = 20_000, 60, 40, 3
    third = np.sort(rng.random((repeats, h)), axis=1)[:, m - 1 : m]
    close = np.sum(rng.random((repeats, s)) < third, axis=1)
    for count in (1, 3, 6):
        p = _beta_binomial_tail(count, s, m, h - m + 1)
        assert abs(np.mean(close >= count) - p) < 5 * np.sqrt(p * (1 - p) / repeats)


def test_beta_binomial_tail_against_scipy():
    for count, (n, a, b) in itertools.product((0, 1, 5, 20), ((20, 1, 10), (50, 3, 250), (1000, 5, 496))):
        exact = scipy.stats.betabinom.sf(count - 1, n, a, b)
        np.testing.assert_allclose(
            _beta_binomial_tail(count, n, a, b), exact, rtol=1e-7, atol=1e-12
        )  # scipy's is 1 - cdf


def test_equal_distances_accuse_nobody():
    """Binary rows that stand in the training set, in samples and in held-out rows alike."""
    nearest = NearestRows(np.zeros((50, 1), np.int64), np.zeros((50, 1)), np.zeros(60))
    m = memorisation(nearest)
    assert m.nearer == 0.5
    assert m.p_value_nearer == m.p_value_farther == 1.0
    assert m.share_close == 0
    assert np.isnan(m.median_ratio)
    verdict = memorisation_verdict(nearest)
    assert verdict.headline == "No check of copies."  # all are copies, or all repeat by themselves
    assert "cannot be told apart" in verdict.details


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((TRAIN[:0], TRAIN), {}, "0 samples"),
        ((TRAIN, TRAIN[:0]), {}, "0 train_rows"),
        ((TRAIN[:, :2], TRAIN), {}, "samples and train_rows must have as many columns, got 2 and 6"),
        ((TRAIN, TRAIN), {"held_out": TRAIN[:, :2]}, "held_out and train_rows"),
        ((TRAIN, TRAIN), {"held_out": TRAIN[:0]}, "0 held_out"),
        ((TRAIN, TRAIN), {"num_neighbours": 0}, r"1 \.\.\. 300"),
        ((TRAIN, TRAIN), {"num_neighbours": 301}, r"1 \.\.\. 300"),
        ((TRAIN, TRAIN), {"chunk_size": 0}, "at least 1"),
        ((np.where(TRAIN > 2, np.nan, TRAIN), TRAIN), {}, "samples hold a value that is not finite"),
    ],
)
def test_arguments_that_cannot_be(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        nearest_rows(*arguments, **options)


def test_columns_that_cannot_be_compared():
    with pytest.raises(ValueError, match="as many columns"):
        column_statistics(TRAIN[:, :2], TRAIN)
    with pytest.raises(ValueError, match="2 samples and 2 rows"):
        column_statistics(TRAIN[:1], TRAIN)


def test_nothing_to_compare_with():
    with pytest.raises(UnavailableError, match="held_out"):
        memorisation(nearest_rows(TRAIN[:3], TRAIN))
