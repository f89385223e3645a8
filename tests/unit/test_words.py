"""What the diagnostics say: every sentence has a result in which it must stand, and one beside it in which it must not.

(The sentences on the latent space are in `test_latent_diagnostics`.)
"""

import numpy as np
import pytest

from aevb.evaluate import (
    GapErrors,
    InferenceGaps,
    Mean,
    NearestRows,
    PredictiveCheck,
    calibration_verdict,
    column_statistics,
    columns_verdict,
    gaps_verdict,
    mean,
    memorisation,
    memorisation_verdict,
    predictive_verdict,
    rank_calibration,
)
from aevb.evaluate._words import above, below, down, nats, up
from aevb.models import POSTERIORS
from aevb.reports import nats as reported

# --- numbers ----------------------------------------------------------------------------------------------------------


def test_only_what_is_three_standard_errors_away_is_told_from_zero():
    for value, error, is_above in ((0.05, 0.02, False), (0.07, 0.02, True), (0.0, 0.0, False), (1.0, np.nan, False)):
        assert above(Mean(value, error, 50)) == is_above
        assert below(Mean(-value, error, 50)) == is_above
        assert not below(Mean(value, error, 50))


@pytest.mark.parametrize(
    ("num_rows", "least", "most"), [(2, 235, 236.5), (3, 19, 19.5), (30, 3.2, 3.4), (10**6, 2.99, 3.01)]
)
def test_few_rows_tell_less_of_their_own_spread(num_rows, least, most):
    """Student's t. Three standard errors of two rows are exceeded by chance one time in five."""
    assert not above(Mean(least, 1.0, num_rows))
    assert above(Mean(most, 1.0, num_rows))
    assert not below(Mean(-least, 1.0, num_rows))
    assert below(Mean(-most, 1.0, num_rows))
    assert not above(Mean(most, np.nan, 1))


def test_of_many_pairs_of_rows_of_mean_zero_none_is_told_from_zero():
    pairs = np.random.default_rng(0).normal(size=(200, 2))
    told = sum(above(mean(pair)) or below(mean(pair)) for pair in pairs)
    assert told <= 5  # 0.5 are expected, and 48 were told


def test_limits_are_rounded_to_the_side_on_which_they_stay_true():
    assert (down(4.78), up(4.72), down(0.0561), up(0.0561)) == ("4.7", "4.8", "0.056", "0.057")
    assert (down(5.0), up(5.0), up(0.3), down(0.3)) == ("5.0", "5.0", "0.30", "0.30")
    assert (up(1e-9), down(-2.0)) == ("0.0001", "-2.0")
    assert nats(Mean(1.0, np.nan, 1)) == "1.00"
    assert nats(Mean(1.23456, 0.002, 9)) == "1.235 ± 0.002"


def test_neither_an_error_that_is_not_known_nor_a_zero_below_zero_is_printed():
    """`print(fitted.evaluate(rows[:1]).bound)` said -2.61 ± nan, and a report of one row a difference of -0.00."""
    assert (str(Mean(-2.61, np.nan, 1)), str(Mean(-2.61, 0.2, 9))) == ("-2.61", "-2.61 ± 0.20")
    assert (str(Mean(-0.001, np.nan, 1)), nats(Mean(-0.001, np.nan, 1))) == ("0.00", "0.00")
    assert nats(Mean(-0.001, 0.02, 9)) == reported(Mean(-0.001, 0.02, 9)) == "0.00 ± 0.02"
    assert reported({"mean": -0.001, "standard_error": None}) == "0.00"


# --- gaps -------------------------------------------------------------------------------------------------------------


def gaps_of(elbo: float, diagonal: float, full: float, log_p: float, sd: float = 0.0, num_rows: int = 50):
    """Both families, with one log p(x); rows differ by +-sd in the ELBO alone, so that errors are sd / 7."""
    n = np.zeros(num_rows)
    spread = n + sd * (-1.0) ** np.arange(num_rows)

    def of(best: float) -> InferenceGaps:
        own, optimised, p = elbo + spread, best + n, log_p + n
        return InferenceGaps(
            own, optimised, p, optimised - own, p - optimised, p - own, n + 9, n, GapErrors(n, n, n, n, n, n)
        )

    return {"diagonal": of(diagonal), "full-covariance": of(full)}


def said(gaps, posterior="gaussian", **options) -> str:
    return str(verdict_on(gaps, posterior, **{"lower_bound": False} | options))


def verdict_on(gaps, posterior, **options):
    q = POSTERIORS.make(posterior)
    return gaps_verdict(gaps, q.gaussian_family, has_flow=q.has_flow, **options)


# The ELBO is -10; the numbers are those of the best diagonal Gaussian, the best full one, and log p(x).
ENCODER, FAMILY, TIGHT = gaps_of(-10, -8, -7.9, -7.8), gaps_of(-10, -9.9, -8.5, -8.0), gaps_of(-10, -9.98, -9.98, -9.96)
FLOW_NEEDED = gaps_of(-10, -9.9, -9.8, -8.0)
DOUBT = np.arange(50) < 10


@pytest.mark.parametrize(
    ("sentence", "words", "other"),
    [
        (
            "The ELBO is 2.20 ± 0.00 nats below log p(x) (50 rows).",
            said(ENCODER),
            said(gaps_of(-10, -10, -10, -10, 1.0)),
        ),
        (
            "The ELBO is at least 2.20 ± 0.00 nats below log p(x) (50 rows).",
            said(ENCODER, lower_bound=True),
            said(ENCODER),
        ),
        (
            "The diagonal Gaussian itself loses at least 1.90 ± 0.00 nats",
            said(FAMILY, lower_bound=True),
            said(FAMILY),
        ),
        (
            "The ELBO cannot be told from log p(x): the difference is 0.30 ± 0.14 nats (50 rows).",
            said(gaps_of(-10, -9.8, -9.8, -9.7, 1.0)),
            said(gaps_of(-10, -9.8, -9.8, -9.7, 0.1)),
        ),
        (
            "The estimate of log p(x) is too low: it is 0.50 ± 0.00 nats below the ELBO (50 rows).",
            said(gaps_of(-10, -9.9, -9.9, -10.5)),
            said(gaps_of(-10, -9.9, -9.9, -9.8)),
        ),
        (
            "A diagonal Gaussian fitted to each row alone would win 2.00 ± 0.00 nats: the price of one encoder.",
            said(ENCODER),
            said(ENCODER, "full-covariance"),
        ),
        (
            "A Gaussian of full covariance fitted to each row alone would win",
            said(ENCODER, "full-covariance"),
            said(ENCODER),
        ),
        (
            "What a diagonal Gaussian fitted to each row alone would win cannot be told from zero (0.10 ± 0.07 nats).",
            said(gaps_of(-10, -9.9, -9.9, -8.0, 0.5)),
            said(ENCODER),
        ),
        (
            "A diagonal Gaussian fitted to each row alone is 0.50 ± 0.00 nats below the encoder's: the fit fell short, "
            "and the parts of the gap are not known.",
            said(gaps_of(-10, -10.5, -9.9, -8.0)),
            said(ENCODER),
        ),
        (
            "The diagonal Gaussian itself loses 1.90 ± 0.00 nats: the price of the family.",
            said(FAMILY),
            said(TIGHT, "iaf"),
        ),
        (
            "What the diagonal Gaussian itself loses cannot be told from zero (0.00 ± 0.00 nats).",
            said(gaps_of(-10, -9, -9, -9)),
            said(FAMILY),
        ),
        (
            "The estimate of log p(x) is 0.30 ± 0.00 nats below a bound on it: it is too low by that much or more.",
            said(gaps_of(-10, -9, -9, -9.3)),
            said(gaps_of(-10, -9, -9, -8.9)),
        ),
        ("A full covariance would win 1.40 ± 0.00 nats of that.", said(FAMILY), said(FAMILY, "full-covariance")),
        (
            "What a full covariance would win of that cannot be told from zero (0.00 ± 0.00 nats).",
            said(gaps_of(-10, -9.9, -9.9, -8)),
            said(FAMILY),
        ),
        ("The bound is tight.", said(TIGHT), said(TIGHT, in_doubt=DOUBT)),
        ("The bound is tight.", said(TIGHT, in_doubt=~DOUBT & DOUBT), said(ENCODER)),
        ("A larger encoder (--hidden) or longer training may tighten the bound most.", said(ENCODER), said(FAMILY)),
        (
            "A richer posterior (--posterior full-covariance) may tighten the bound most.",
            said(FAMILY),
            said(FLOW_NEEDED),
        ),
        ("A richer posterior (--posterior iaf or coupling) may", said(FLOW_NEEDED), said(FLOW_NEEDED, "iaf")),
        (
            "A richer posterior (--posterior iaf or coupling) may",
            said(FLOW_NEEDED, "full-covariance"),
            said(FLOW_NEEDED, "coupling"),
        ),
        (
            "Which of the two parts is larger cannot be told from these rows.",
            said(gaps_of(-10, -9, -9, -8, 0.1)),
            said(gaps_of(-10, -9, -9, -7, 0.1)),
        ),
        (
            "The encoder is 2.10 ± 0.00 nats below the best Gaussian of full covariance for each row. Longer training "
            "or a larger encoder (--hidden) may tighten the bound.",
            said(ENCODER, "iaf"),
            said(ENCODER, "laplace"),
        ),
        (
            "A richer posterior (--posterior full-covariance, iaf or coupling)",
            said(ENCODER, "laplace"),
            said(ENCODER, "iaf"),
        ),
        (
            "The encoder is 0.40 ± 0.00 nats above the best Gaussian of full covariance for each row that was found: "
            "its family holds more than Gaussians, or the fit fell short.",
            said(gaps_of(-10, -11, -10.4, -9), "iaf"),
            said(ENCODER, "iaf"),
        ),
        (
            "The encoder cannot be told from the best Gaussian of full covariance for each row (the difference is "
            "0.10 ± 0.14 nats).",
            said(gaps_of(-10, -10, -9.9, -9, 1.0), "coupling"),
            said(gaps_of(-10, -10, -9.9, -9, 0.1), "coupling"),
        ),
        (
            "In 20 % of the rows log p(x) cannot be trusted, and neither can the gap.",
            said(ENCODER, in_doubt=DOUBT),
            said(ENCODER, in_doubt=np.arange(50) < 2),
        ),
        (
            "The ELBO is 2.20 ± 0.00 nats below log p(x) (50 rows), if log p(x) can be believed.",
            said(ENCODER, in_doubt=DOUBT),
            said(ENCODER, in_doubt=np.arange(50) < 2),
        ),
        (
            "nats below log p(x) (50 rows).",
            said(ENCODER, in_doubt=DOUBT, lower_bound=True),
            said(ENCODER, in_doubt=DOUBT),
        ),
    ],
)
def test_sentences_on_the_gaps(sentence, words, other):
    assert sentence in words
    assert sentence not in other


@pytest.mark.parametrize("posterior", ["gaussian", "full-covariance", "iaf", "coupling", "laplace", "elliptical"])
@pytest.mark.parametrize(
    "numbers",
    [(-10, -8, -7, -6), (-10, -11, -12, -9), (-10, -10.2, -9, -11), (-10, -10, -10, -10), (-10, -9.9, -9, -6)],
)
@pytest.mark.parametrize("sd", [0.0, 3.0])
def test_no_loss_is_negative_and_no_model_is_advised_to_be_what_it_is(posterior, numbers, sd):
    verdict = verdict_on(gaps_of(*numbers, sd), posterior)
    words = str(verdict)
    assert f"--posterior {posterior})" not in words
    if posterior in ("iaf", "coupling"):
        assert "--posterior" not in words
    for sentence in words.split(". "):
        assert (
            "-" not in sentence.replace("--", "").split("nats")[0].replace("full-cov", "")
            or "cannot be told" in sentence
        )
    assert len(verdict.headline) < 120


# --- calibration ------------------------------------------------------------------------------------------------------


def test_sentences_on_calibration():
    even, one = np.arange(200)[:, None] % 20, np.zeros((200, 1), int)
    good = calibration_verdict(rank_calibration(even, 19, ("z_1",)))
    bad = calibration_verdict(rank_calibration(np.concatenate([even, one], axis=1), 19, ("z_1", "log p(x, z)")))
    many = calibration_verdict(rank_calibration(np.zeros((100, 5), int), 9, tuple("abcde")))
    for sentence, words, other in (
        ("No error of q(z | x) was found in 200 simulations (smallest of 1 p-values 1, limit 0.01).", good, bad),
        ("That is necessary for q(z | x) to be the posterior, not sufficient: it does not prove it", good, bad),
        ("q(z | x) differs from the model's posterior: 1 of 2 quantities", bad, good),
        ("log p(x, z) shifted high (the draws have too high a p(x, z): q is too narrow; p-value", bad, many),
        (
            "(limit 0.005). Do not take the spreads and intervals of q(z | x) at their word.",
            bad,
            good,
        ),
        ("; and 2 more (limit", many, bad),
    ):
        assert sentence in str(words)
        assert sentence not in str(other)
    for words in (good, bad, many):
        assert "The data are the model's own: this says nothing of its fit to real data." in words.details
        assert "trusted" not in str(words)
        assert len(words.headline) < 120


# --- predictive checks ------------------------------------------------------------------------------------------------


def predictive(p_values, num_replicates=299, same=0) -> PredictiveCheck:
    """The last statistics of these are the same number everywhere."""
    s = len(p_values)
    one = np.ones(s)
    names = tuple("abcdefghij"[:s])
    made = np.ones((num_replicates, s))
    made[:, s - same :] = 5
    return PredictiveCheck("posterior", names, 5 * one, made, one, 0.1 * one, np.ones((s, 3)), np.array(p_values))


def test_sentences_on_predictive_checks():
    good, bad = (
        predictive_verdict(predictive([0.02] + 6 * [0.5])),
        predictive_verdict(predictive([2 / 300] + 6 * [0.5])),
    )
    alike, found = (predictive_verdict(predictive([p, *4 * [0.5], 1.0, 1.0], same=2)) for p in (0.02, 0.01))
    fewer, nothing = (predictive_verdict(predictive(7 * [1.0], 100, same=same)) for same in (2, 7))
    both, few = predictive_verdict(predictive([0.001, 0.002])), predictive_verdict(predictive(7 * [0.5], 100))
    for sentence, words, other in (
        ("No misfit was found in 7 statistics of replicated data (least p-value 0.02).", good, bad),
        ("Checked: a, b, c, d, e, f, g.", good, bad),
        ("Other statistics may differ.", good, bad),
        ("All 7 are tested at once: limit 0.0071 for each p-value, 5 % together.", good, both),
        ("1 of 7 statistics of the data is not reproduced: a.", bad, good),
        ("a: 5 in the data, 1 ± 0.1 in replicated data (p-value 0.0067).", bad, good),
        ("2 of 2 statistics of the data are not reproduced: a, b.", both, bad),
        ("100 replicated data sets are too few to test 7 statistics at once.", few, good),
        ("Make 279 or more, so that a p-value can be below 0.0071.", few, good),
        ("No misfit was found in 5 statistics of replicated data (least p-value 0.02).", alike, good),
        ("Checked: a, b, c, d, e. All 5 are tested at once: limit 0.01 for each p-value, 5 % together.", alike, good),
        ("Not tested, the same number in the data and in all replicated data: f, g.", alike, good),
        ("1 of 5 statistics of the data is not reproduced: a.", found, bad),
        ("Not tested, the same number in the data and in all replicated data: f, g.", found, bad),
        ("Make 199 or more, so that a p-value can be below 0.01. Not tested", fewer, few),
        ("No statistic of the data could be tested. Not tested, the same number", nothing, alike),
    ):
        assert sentence in str(words)
        assert sentence not in str(other)


@pytest.mark.parametrize("num", [1, 2, 7, 10])
def test_so_many_replicates_as_are_asked_for_are_enough_and_one_less_is_not(num):
    """With R of them the least p-value is 2 / (R + 1), which must be able to reach 5 % / S."""
    least = int(str(predictive_verdict(predictive(num * [1.0], 5))).split("Make ")[1].split(" or")[0])
    assert 2 / (least + 1) <= 0.05 / num * (1 + 1e-9) < 2 / least
    assert f"{num} of {num} statistics" in predictive_verdict(predictive(num * [2 / (least + 1)], least)).headline
    assert "too few" in predictive_verdict(predictive(num * [1.0], least - 1)).headline


# --- samples ----------------------------------------------------------------------------------------------------------


def test_sentences_on_columns():
    rows = np.random.default_rng(0).normal(size=(400, 3))
    none = columns_verdict(column_statistics(rows[:200], rows[200:]))
    one = columns_verdict(column_statistics(rows + np.array([0, 9, 0]), rows))
    two = columns_verdict(column_statistics(rows + np.array([0, 9, 1]), rows), ("age", "height", "weight"))
    single = columns_verdict(column_statistics(rows[:200, :1], rows[200:, :1]))
    by_chance = columns_verdict(column_statistics(rows + np.array([0, 9, 0]), rows)._replace(limit=70.5))
    away = "a mean in samples that is more than 5 standard errors from the data's."
    for sentence, words, other in (
        (f"None of 3 columns has {away}", none, one),
        (f"1 of 3 columns has {away}", one, none),
        (f"2 of 3 columns have {away}", two, one),
        ("The one column has no mean in samples that is more than", single, none),
        ("The worst is x_2: 9.02 in samples, 0.0195 in the data.", one, none),
        ("The worst is height:", two, one),
        ("Chance alone does that in one column or more with a probability of 0.001 at most.", one, none),
        ("None of 3 columns has a mean in samples that is more than 70.5 standard errors", by_chance, none),
    ):
        assert sentence in str(words), str(words)
        assert sentence not in str(other)


def near(ratio: float, copies: int = 0, num: int = 500) -> NearestRows:
    """Distances that are exactly those of held-out rows times `ratio`, but for some copies."""
    held = np.linspace(1.0, 2.0, num)
    distance = ratio * held
    distance[:copies] = 0.0
    return NearestRows(np.zeros((num, 1), np.int64), distance[:, None], held)


def test_sentences_on_copies():
    alike, close, far = (memorisation_verdict(near(ratio)) for ratio in (1.0, 0.2, 3.0))
    few = memorisation_verdict(near(1.0, copies=40))
    nothing = memorisation_verdict(NearestRows(np.zeros((5, 1), np.int64), np.zeros((5, 1)), np.zeros(60)))
    single = memorisation_verdict(near(0.2)._replace(held_out_distance=np.ones(1)))
    for sentence, words, other in (
        (
            "No copies of training rows were found: the median distance of samples is 1.00 times that of held-out "
            "rows.",
            alike,
            few,
        ),
        ("A few copies among many samples can be missed.", alike, few),
        (
            "Samples are too near to training rows: the median distance of samples is 0.20 times that of held-out "
            "rows.",
            close,
            alike,
        ),
        ("Samples are too near to training rows", few, far),
        ("Either training rows are copied, or samples vary less than data do.", few, alike),
        ("No copies were found, but samples lie too far away: the median distance", far, alike),
        ("The model makes rows that are unlike the data.", far, alike),
        ("0.8 % of the samples are nearer than all but the nearest 1.0 % of 500 held-out rows.", alike, few),
        ("p-values, of three tests at once: nearer 1, very near 1, farther 1.", alike, close),
        ("No check of copies.", single, alike),
        ("1 held-out row is too few to tell by 500 samples.", single, alike),
        ("No check of copies. At least half of the held-out rows equal a training row", nothing, alike),
    ):
        assert sentence in str(words), str(words)
        assert sentence not in str(other)
        assert len(words.headline) < 120


def test_three_readings_are_tested_at_once():
    """The limit is 0.1 % for all three: each p-value is three times that of its own test."""
    found = near(0.985)
    words = str(memorisation_verdict(found))
    m = memorisation(found)
    assert f"nearer {min(1.0, 3 * m.p_value_nearer):.2g}, very near {min(1.0, 3 * m.p_value_close):.2g}" in words
    assert m.p_value_nearer < 0.5
