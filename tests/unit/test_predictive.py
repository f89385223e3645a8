"""Predictive checks: replicates by their closed form, uniform p-values where they should be so, planted misfits."""

import json

import jax
import numpy as np
import pytest
from _oracles import JointOnly, LinearGaussian, Problem, z_scores

from aevb.distributions import Normal
from aevb.errors import UnavailableError
from aevb.evaluate._check_words import predictive_verdict
from aevb.evaluate._predictive import STATISTICS, adjacent_correlation, posterior_predictive_check
from aevb.models import AbstractPriorLikelihood, Decoder, Encoder, Mlp

PROBLEM = Problem.make(data_dim=4, latent_dim=2, num_rows=400, seed=1)
ROWS = PROBLEM.rows.astype(np.float32)
KEY = jax.random.key(0)


def check(rows=ROWS, key=KEY, **options):
    return posterior_predictive_check(PROBLEM.generative(), PROBLEM.recognition(), rows, key, **options)


# --- p-values ---------------------------------------------------------------------------------------------------------

SMOOTH = {name: STATISTICS[name] for name in ("mean", "sd", "sd of row sums", "correlation of adjacent columns")}


def ranks_of_the_data(kind: str, inflate: float = 1.0, repeats: int = 100, num_replicates: int = 9) -> np.ndarray:
    """How many replicated statistics are below that of the data, for many data sets of the model's own."""
    rng = np.random.default_rng(2)
    found = []
    for i in range(repeats):
        z = rng.normal(size=(30, 2))
        noise = PROBLEM.scale * rng.normal(size=(30, 4))
        rows = (inflate * (z @ PROBLEM.weight.T + noise) + PROBLEM.mean).astype(np.float32)
        c = check(rows, jax.random.key(i), kind=kind, num_replicates=num_replicates, statistics=SMOOTH)
        found.append(np.sum(c.replicated < c.observed, axis=0))
    return np.array(found)


def test_the_prior_check_of_the_models_own_data_is_uniform():
    """Data and replicates are exchangeable: the rank of the data's statistic is uniform on 0 ... R."""
    ranks = ranks_of_the_data("prior")
    assert np.max(np.abs(z_scores(ranks, 4.5))) < 5
    uniform = np.mean((np.arange(10) - 4.5) ** 2)
    assert np.max(np.abs(z_scores((ranks - 4.5) ** 2, uniform))) < 5
    wrong = ranks_of_the_data("prior", inflate=1.3, repeats=40)
    assert z_scores(wrong, 4.5)[1] > 5  # "sd"


def test_the_posterior_check_of_the_models_own_data_is_centred_and_conservative():
    """z ~ q(z | x_i) has seen the row: the data's statistic is nearer to the middle than uniform, and no less."""
    ranks = ranks_of_the_data("posterior", repeats=250)
    assert np.max(np.abs(z_scores(ranks, 4.5)[:2])) < 5
    uniform = np.mean((np.arange(10) - 4.5) ** 2)
    spread = z_scores((ranks - 4.5) ** 2, uniform)
    assert np.max(spread) < 5
    assert spread[1] < 0  # of "sd", about -9


@pytest.mark.parametrize("kind", ["posterior", "prior"])
@pytest.mark.parametrize("spread", [0.6, 1.6])
def test_a_planted_misfit_is_found(kind, spread):
    wide = ((PROBLEM.rows - PROBLEM.mean) * spread + PROBLEM.mean).astype(np.float32)
    c = check(wide, kind=kind, num_replicates=39)
    p = dict(zip(c.names, c.p_values, strict=True))
    assert p["sd"] == p["sd of row sums"] == 2 / 40
    assert (c.observed[1] > c.quantiles[1, 2]) == (spread > 1)


def test_numbers_by_hand():
    """Two-sided, with the data counted among the replicates: never 0, and never above 1."""
    c = check(num_replicates=19)
    assert c.replicated.shape == (19, 7)
    for s in range(7):
        above, below = np.sum(c.replicated[:, s] >= c.observed[s]), np.sum(c.replicated[:, s] <= c.observed[s])
        assert c.p_values[s] == min(1, 2 * min((above + 1) / 20, (below + 1) / 20))
    np.testing.assert_allclose(c.mean, c.replicated.mean(axis=0))
    np.testing.assert_allclose(c.sd, c.replicated.std(axis=0, ddof=1))
    np.testing.assert_allclose(c.quantiles, np.quantile(c.replicated, [0.025, 0.5, 0.975], axis=0).T)
    assert c.names == tuple(STATISTICS)
    assert c.p_values[c.names.index("share of zeros")] == 1  # 0 in all of them


# --- replicates -------------------------------------------------------------------------------------------------------


def overlap(matrix: np.ndarray) -> float:
    """How the replicate follows the data, row by row."""
    return float(np.mean(np.sum((matrix - PROBLEM.mean) * (PROBLEM.rows - PROBLEM.mean), axis=1)))


def test_a_replicates_row_comes_from_the_posterior_of_the_datas_row():
    """E[x_rep | x] = W (A x + b) + mu for the posterior kind; mu for the prior kind, which never saw x."""
    a, b, _ = PROBLEM.posterior()
    expected = np.mean(np.sum((PROBLEM.rows @ a.T + b) @ PROBLEM.weight.T * (PROBLEM.rows - PROBLEM.mean), axis=1))
    posterior = check(statistics={"overlap": overlap}, num_replicates=60).replicated[:, 0]
    prior = check(statistics={"overlap": overlap}, num_replicates=60, kind="prior").replicated[:, 0]
    assert abs(z_scores(posterior, expected)) < 5
    assert abs(z_scores(prior, 0.0)) < 5
    assert abs(z_scores(prior, expected)) > 5
    assert len(np.unique(posterior)) == 60  # replicates have noise of their own


def test_replicates_have_the_likelihoods_noise():
    """Var[x_rep | x] = W T^2 W' + s^2: of the means of p(x | z) it would be smaller by s^2."""
    a, b, t = PROBLEM.posterior()
    mean = (PROBLEM.rows @ a.T + b) @ PROBLEM.weight.T + PROBLEM.mean
    expected = np.sum(PROBLEM.weight**2 * t**2) + 4 * PROBLEM.scale**2
    noise = check(statistics={"noise": lambda m: float(np.mean(np.sum((m - mean) ** 2, axis=1)))}, num_replicates=60)
    assert abs(z_scores(noise.replicated[:, 0], expected)) < 5
    quieter = PROBLEM._replace(scale=0.9 * PROBLEM.scale).generative()  # negative control: a tenth less of noise
    wrong = posterior_predictive_check(
        quieter,
        PROBLEM.recognition(),
        ROWS,
        KEY,
        statistics={"noise": lambda m: float(np.mean(np.sum((m - mean) ** 2, axis=1)))},
        num_replicates=60,
    )
    assert abs(z_scores(wrong.replicated[:, 0], expected)) > 5


@pytest.mark.parametrize("kind", ["posterior", "prior"])
def test_batches_do_not_change_the_result(kind):
    whole = check(num_replicates=2, kind=kind, batch_size=400)
    cut = check(num_replicates=2, kind=kind, batch_size=100)
    np.testing.assert_allclose(cut.replicated, whole.replicated, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cut.observed, whole.observed)


class Counted(AbstractPriorLikelihood):
    inner: LinearGaussian

    def prior(self):
        return self.inner.prior()

    def likelihood(self, z):
        TRACES.append(z)
        return self.inner.likelihood(z)


TRACES: list[object] = []


def test_all_replicates_are_compiled_once():
    def run(num_replicates: int) -> int:
        before = len(TRACES)
        posterior_predictive_check(
            Counted(PROBLEM.generative()), PROBLEM.recognition(), ROWS, KEY, num_replicates=num_replicates
        )
        return len(TRACES) - before

    first = run(2)
    assert run(5) == 1  # the trace by shapes that compares x with the rows
    assert first > 1


def test_binary_rows_as_they_are_stored():
    generative = Decoder(6, 2, Mlp((3,)), key=jax.random.key(0))
    recognition = Encoder(6, 2, Mlp((3,)), key=jax.random.key(1))
    rows = np.random.default_rng(0).integers(0, 2, (50, 6)).astype(np.uint8)
    c = posterior_predictive_check(generative, recognition, rows, KEY, num_replicates=5)
    as_floats = posterior_predictive_check(generative, recognition, rows.astype(np.float32), KEY, num_replicates=5)
    np.testing.assert_allclose(c.replicated, as_floats.replicated)
    np.testing.assert_allclose(c.observed, as_floats.observed)
    named = dict(zip(c.names, c.observed, strict=True))
    assert (named["min"], named["max"]) == (0.0, 1.0)
    np.testing.assert_allclose(named["share of zeros"], 1 - rows.mean())
    assert set(c.replicated[:, c.names.index("max")]) == {1.0}


class Images(AbstractPriorLikelihood):
    """The linear-Gaussian model, with x as a 2 x 2 image."""

    inner: LinearGaussian

    def prior(self):
        return self.inner.prior()

    def likelihood(self, z):
        flat = self.inner.likelihood(z).base_dist
        return Normal(flat.loc.reshape(2, 2), flat.scale.reshape(1, 1)).to_event(2)


def test_rows_of_more_axes_reach_the_statistics_as_a_matrix():
    seen = []
    c = posterior_predictive_check(
        Images(PROBLEM.generative()),
        PROBLEM.recognition(),
        ROWS.reshape(-1, 2, 2),
        KEY,
        kind="prior",
        num_replicates=2,
        statistics={"corner": lambda m: seen.append(m.shape) or float(m[:, 3].mean())},
    )
    assert seen == [(400, 4)] * 3
    np.testing.assert_allclose(c.observed, [ROWS[:, 3].mean(dtype=np.float64)], rtol=1e-5)


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [2, 7, 64, 65, 66, 150])
def test_correlation_of_adjacent_columns_against_numpy(columns):
    matrix = np.random.default_rng(0).normal(size=(40, columns)).cumsum(axis=1)
    full = np.corrcoef(matrix, rowvar=False)
    np.testing.assert_allclose(adjacent_correlation(matrix), np.mean(np.abs(np.diagonal(full, 1))), rtol=1e-12)


def test_constant_columns_have_no_correlation():
    matrix = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    matrix[:, 1] = 0.1
    expected = [abs(np.corrcoef(matrix[:, j], matrix[:, j + 1])[0, 1]) for j in (2, 3)]
    np.testing.assert_allclose(adjacent_correlation(matrix), np.mean(expected), rtol=1e-5)
    assert adjacent_correlation(np.full((40, 3), 0.1, np.float32)) == 0
    assert adjacent_correlation(matrix[:, :1]) == 0


def test_the_usual_statistics_against_numpy():
    matrix = np.random.default_rng(0).integers(0, 4, (2500, 3))
    expected = {
        "mean": matrix.mean(),
        "sd": matrix.std(),
        "sd of row sums": matrix.sum(axis=1).std(),
        "share of zeros": (matrix == 0).mean(),
        "min": 0,
        "max": 3,
    }
    for dtype in (np.uint8, np.float32, np.float64):
        for name, value in expected.items():
            np.testing.assert_allclose(STATISTICS[name](matrix.astype(dtype)), value, rtol=1e-12)


def test_statistics_of_ones_own():
    c = check(statistics={"largest": lambda m: m.max(), "rows": len}, num_replicates=3)
    assert c.names == ("largest", "rows")
    assert c.observed[0] == ROWS.max()
    assert list(c.replicated[:, 1]) == [400.0] * 3
    assert c.p_values[1] == 1


def test_statistics_in_the_datas_own_units():
    """Of the rows as they are stored, not as an inverse makes them; of the replicates by the inverse."""
    counts = np.random.default_rng(4).poisson(0.5, (400, 4)) * np.array([1.0, 10.0, 100.0, 1000.0])
    x = ((counts - counts.mean(axis=0)) / counts.std(axis=0)).astype(np.float32)
    inverse = lambda made: made * counts.std(axis=0) + counts.mean(axis=0)  # noqa: E731
    assert np.mean(inverse(x) == 0) < np.mean(counts == 0)
    c, scaled = check(x, num_replicates=3, stored=counts, inverse=inverse), check(x, num_replicates=3)
    found, of_x = (dict(zip(k.names, k.observed, strict=True)) for k in (c, scaled))
    np.testing.assert_allclose(found["share of zeros"], np.mean(counts == 0), rtol=1e-9)
    assert found["max"] == counts.max()
    assert of_x["share of zeros"] == 0
    rows = [check(x, num_replicates=1, statistics={"x": lambda m, j=j: float(m[:, j].mean())}) for j in range(4)]
    means = [k.replicated[0, 0] for k in rows]
    both = check(x, num_replicates=1, statistics={"x": np.mean}, stored=counts, inverse=inverse)
    np.testing.assert_allclose(both.replicated[0, 0], inverse(np.array(means)).mean(), rtol=1e-4)


def test_the_usual_replicates_are_enough_for_the_usual_statistics():
    """A misfit can be told, corrected for their number, with the default number of replicates."""
    words = predictive_verdict(check(rows=((PROBLEM.rows - PROBLEM.mean) * 1.6 + PROBLEM.mean).astype(np.float32)[:50]))
    assert "of 6 statistics of the data are not reproduced" in words.headline
    assert words.details.endswith("Not tested, the same number in the data and in all replicated data: share of zeros.")
    assert "sd" in words.headline


def test_as_json():
    told = json.loads(json.dumps(check(num_replicates=3).to_dict()))
    assert told["kind"] == "posterior"
    assert told["num_replicates"] == 3
    assert set(told["statistics"]) == set(STATISTICS)
    assert set(told["statistics"]["mean"]) == {"observed", "mean", "sd", "quantiles", "p_value", "tested"}
    assert [name for name, found in told["statistics"].items() if not found["tested"]] == ["share of zeros"]


# --- arguments --------------------------------------------------------------------------------------------------------


def test_a_model_without_a_likelihood():
    model = JointOnly(PROBLEM.generative())
    with pytest.raises(UnavailableError, match=r"JointOnly has no likelihood.* kind='prior'"):
        posterior_predictive_check(model, PROBLEM.recognition(), ROWS, KEY)
    assert posterior_predictive_check(model, PROBLEM.recognition(), ROWS, KEY, kind="prior", num_replicates=2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rows": ROWS[:0]}, "0 rows"),
        ({"num_replicates": 0}, "at least 1"),
        ({"statistics": {}}, "0 statistics"),
        ({"stored": ROWS}, "go together; give both"),
        ({"stored": ROWS[:9], "inverse": np.asarray}, "9 stored rows for 400 rows"),
        ({"rows": ROWS[:, :3]}, r"shape \(4,\), and the rows have shape \(3,\)"),
        ({"statistics": {"broken": lambda m: np.nan}, "num_replicates": 1}, "'broken' of the data is not a finite"),
        (
            {"statistics": {"log": lambda m: np.nan if m[0, 0] != ROWS[0, 0] else 1.0}, "num_replicates": 1},
            "'log' of replicate 1 is not a finite",
        ),
    ],
)
def test_arguments_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        check(**options)


def test_one_replicate_has_no_spread():
    c = check(num_replicates=1)
    assert np.all(np.isnan(c.sd))
    assert np.all(c.p_values == 1)
