"""Every sentence of a report's own words: a result in which it must stand, and one beside it in which it must not."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb.distributions import kl_per_dimension
from aevb.evaluate import Mean, mean
from aevb.reports import ReportSettings, nats
from aevb.reports._diagnose import Finding
from aevb.reports._log_p import LogP
from aevb.reports._page import CAPTIONS
from aevb.reports._sections import QUESTIONS, sections_of, what_next
from aevb.reports._settings import KEYS
from aevb.reports._verdicts import (
    Scores,
    _of_the_choice,
    against_columns,
    before_all,
    believed,
    bound_and_log_p,
    gap_of_all,
    how_good,
    trust,
)

N = 400
NOISE = np.linspace(-1, 1, N)  # of mean 0


def scores(
    method="is",
    *,
    elbo=-7.0,
    log_p=-5.0,
    better=None,
    trained=0,
    repeated=0.0,
    rows=N,
    noise=0.1,
    quick=False,
    num_samples=1000,
    content=(),
    **per_row,
):
    """N rows with a log p(x), an ELBO and a yardstick of these means, and what the method tells of each row."""
    num = 1000 if method in ("is", "ais", "hmc") else None
    settings = ReportSettings(method=method, num_samples=num, diagnostics=not quick)
    told = {
        "quadrature": {"error": 0.0004},
        "is": {"standard_error": 0.01, "effective_sample_size": 800.0, "khat": 0.1},
        "ais": {"standard_error": 0.01, "effective_sample_size": 9.0},
        "hmc": {"standard_error": 0.01, "effective_sample_size": 90.0},
    }.get(method, {})
    bound = np.full(N, elbo)
    found = {"num_rows": rows, "num_rows_in_training": trained, "share_repeated_in_training": repeated}
    found["elbo"] = mean(bound + noise * NOISE).to_dict()
    estimate = None
    if told:
        arrays = {name: np.broadcast_to(value, N) for name, value in (told | per_row).items()}
        estimate = LogP(method, num_samples, {"log_likelihood": log_p + noise * NOISE, **arrays})
        found[KEYS[method]] = estimate.to_dict()
    found |= dict(content)
    return Scores(found, settings, bound, estimate, None if better is None else better + noise * NOISE)


GREY = {"grey_objective": {"mean": -90.0, "standard_error": 0.5}}
GAP = {"bidirectional_gap": {"mean": 0.11, "standard_error": 0.09, "num_simulated": 16}}
WIDE_GAP = {"bidirectional_gap": {"mean": 0.5, "standard_error": 0.09, "num_simulated": 16}}
GAPS = {"gaps": {"diagonal": {"gap": {"mean": 0.58, "standard_error": 0.06}}}}
NO_GAPS = {"gaps": {"left_out": "a reason"}}
HEAVY = np.where(np.arange(N) < N // 10, 0.9, 0.1)  # k-hat in a tenth of the rows
SOME_HEAVY = np.where(np.arange(N) < N // 25, 0.9, 0.1)  # in 4 %
PAIR = {"effective_sample_size": np.full(N, 1.999)}
UNSETTLED = np.where(HEAVY > 0.5, np.inf, 0.0)
FEW = np.where(np.arange(N) < N // 10, 1.2, 9.0)


@pytest.mark.parametrize(
    ("sentence", "words", "here", "there"),
    [
        # how good
        ("log p(x) is -5.000 ± 0.003 nats a row (by quadrature).", how_good, scores("quadrature"), scores("elbo")),
        ("log p(x) is at least -5.00", how_good, scores(), scores("quadrature")),
        ("log p(x) is at least -7.00", how_good, scores("elbo"), scores("quadrature")),
        ("cross-entropy of grey pixels and no likelihood", how_good, scores("elbo", content=GREY), scores("elbo")),
        ("That is 3.000 ± 0.003 nats better than a model of independent columns.", how_good,
         scores("quadrature", better=3.0), scores(better=3.0)),
        ("nats better than a model of independent columns.", how_good, scores("hmc", better=3.0),
         scores("hmc", better=0.001)),
        ("That is 3.000 ± 0.003 nats WORSE than a model of independent columns.", how_good,
         scores("quadrature", better=-3.0), scores("quadrature", better=0.001)),
        ("It cannot be told from a model of independent columns (the", how_good, scores("quadrature", better=0.001),
         scores(better=0.001)),
        # A lower bound that is below the yardstick says nothing against the model.
        *(("That is at least 3.000 ± 0.003 nats better than a model of independent columns.", how_good,
           scores(method, better=3.0), scores("quadrature", better=3.0)) for method in ("elbo", "is", "ais")),
        *(("It is not shown to be better than a model of independent columns: the bound is 3.000 ± 0.003 nats below "
           "it, and log p(x) may lie above.", how_good, scores(method, better=-3.0), scores(method, better=0.001))
          for method in ("elbo", "is", "ais")),
        ("not shown to be better than a model of independent columns: the bound cannot be told from it (the difference "
         "is 0.001 ± 0.003 nats), and log p(x) may lie above.", how_good, scores(better=0.001),
         scores("quadrature", better=0.001)),
        ("independent columns", how_good, scores(better=3.0), scores()),
        # numbers that cannot be believed are no finding
        *((f"{sentence}, if the numbers can be believed.", words, scores(method, better=better, **unknown),
           scores(method, better=better))
          for method, unknown in (("quadrature", {"error": UNSETTLED}), ("quadrature", {"error": np.nan}),
                                  ("hmc", {"effective_sample_size": FEW}))
          for sentence, words, better in (("better than a model of independent columns", how_good, 3.0),
                                          ("WORSE than a model of independent columns", how_good, -3.0),
                                          ("so much the bound misses", bound_and_log_p, None))),
        ("so much the bound misses.", bound_and_log_p, scores(effective_sample_size=1.0, khat=0.9),
         scores("quadrature", error=np.inf)),
        ("better than a model of independent columns.", how_good, scores("quadrature", better=0.05),
         scores("quadrature", better=0.05, error=0.1)),
        # the bound beside log p(x): what all rows have in common is not told by their spread
        ("the ELBO cannot be told from log p(x)", bound_and_log_p,
         scores("quadrature", elbo=-5.00001, noise=1e-7), scores("quadrature", elbo=-5.01, noise=1e-7)),
        ("it is too low", bound_and_log_p,
         scores("quadrature", elbo=-4.99, noise=1e-7), scores("quadrature", elbo=-4.99999, noise=1e-7)),
        ("the ELBO is 2.000", bound_and_log_p, scores("quadrature"), scores("quadrature", elbo=-8.0)),
        ("the ELBO is at least 2.000", bound_and_log_p, scores(), scores("hmc")),
        ("so much the bound misses", bound_and_log_p, scores(), scores(elbo=-5.001)),
        ("By these 400 rows the ELBO cannot be told from log p(x)", bound_and_log_p, scores(elbo=-5.001), scores()),
        ("nats below the ELBO, which is a bound: it is too low", bound_and_log_p, scores(elbo=-4.0), scores()),
        ("On these 400 rows", bound_and_log_p, scores(), scores(rows=1000)),
        ("On 400 rows, of 1,000, the ELBO", bound_and_log_p, scores(rows=1000), scores()),
        ("Each row has a score of its own", bound_and_log_p, scores("elbo"), scores()),
    ],
)  # fmt: skip
def test_the_score(sentence, words, here, there):
    assert sentence in words(here)
    assert sentence not in words(there)


def test_bits_per_pixel():
    found = scores("quadrature", log_p=-784 * np.log(2), noise=0.0)
    assert "(by quadrature; 1.000 bits per dimension)" in how_good(found, 784)
    assert "bits" not in how_good(found)


@pytest.mark.parametrize(
    ("sentence", "here", "there"),
    [
        ("Yes: p(x) was integrated over z on a grid that was refined to 0.001 nats in every row", scores("quadrature"),
         scores("quadrature", error=0.1)),
        ("To 0.1 nats: p(x) was integrated over z, but in 400 of 400 rows the grid was not fine or wide enough, "
         "and log p(x) may be off by 0.1 nats or more there; rows.csv has each row's error.",
         scores("quadrature", error=0.1), scores("quadrature")),
        ("To 0.08 nats: p(x) was integrated over z, but in 40 of 400 rows", scores("quadrature", error=HEAVY - 0.1),
         scores("quadrature", error=0.1)),
        ("Not as it stands: in 40 of 400 rows the integral over z did not settle, and how much is missing is not known",
         scores("quadrature", error=UNSETTLED), scores("quadrature", error=0.1)),
        # There is no rows.csv where no page is written.
        ("rows.csv has each row's error.", scores("quadrature", error=UNSETTLED),
         scores("quadrature", error=UNSETTLED, quick=True)),
        ("how much is missing is not known. Use", scores("quadrature", error=UNSETTLED, quick=True),
         scores("quadrature", error=UNSETTLED)),
        ("or more there. The ±", scores("quadrature", error=0.1, quick=True), scores("quadrature", error=0.1)),
        # What rounding leaves of a large number is no fault of the grid.
        ("Yes: p(x) was integrated", scores("quadrature", log_p=-2000.0, error=0.005),
         scores("quadrature", error=0.005)),
        ("Not for 10 % of the rows: their importance weights have so heavy a tail (k-hat above 0.7)",
         scores(khat=HEAVY, standard_error=0.5), scores(khat=0.1, standard_error=0.5)),
        # The tail matters only where the estimate hangs on it: equal weights are perfect, whatever their k-hat.
        ("so heavy a tail", scores(khat=HEAVY, standard_error=0.5),
         scores(khat=HEAVY, standard_error=1e-6, effective_sample_size=1000.0)),
        ("Use --method ais for log p(x).", scores(khat=HEAVY, standard_error=0.5), scores()),
        ("The importance weights are sound: other random", scores(), scores(khat=HEAVY, standard_error=0.5)),
        # The error bars of rows in doubt are not believed, and so not counted either.
        (f"sound in {N - N // 25} of {N} rows, and by these other random numbers would move the mean by 0.00049 nats; "
         f"in the other {N // 25} the estimate may be far too low, and no error bar shows it.",
         scores(khat=SOME_HEAVY, standard_error=np.where(SOME_HEAVY > 0.5, 0.5, 0.01)), scores()),
        ("other random numbers would move the mean by 0.0005 nats", scores(), scores(standard_error=0.1)),
        ("too few importance samples to see a tail", scores(khat=np.nan), scores()),
        ("Use --num-samples 25 or more.", scores(khat=np.nan), scores()),
        ("Not for 10 % of the rows: a single chain carries the estimate", scores("ais", effective_sample_size=FEW),
         scores("ais")),
        ("a single chain carries the estimate", scores("ais", effective_sample_size=FEW),
         scores("ais", num_samples=2, **PAIR)),
        ("Use more --distributions.", scores("ais", effective_sample_size=FEW),
         scores("hmc", effective_sample_size=FEW)),
        ("a single posterior sample carries the estimate", scores("hmc", effective_sample_size=FEW), scores("hmc")),
        ("How far below was not estimated (--simulated).", scores("ais"), scores("ais", content=GAP)),
        ("On 16 rows that the model made itself, a lower and an upper bound are 0.50 ± 0.09 nats apart",
         scores("ais", content=WIDE_GAP), scores("ais")),
        ("a lower and an upper bound cannot be told apart (the difference is 0.11 ± 0.09 nats)",
         scores("ais", content=GAP), scores("ais", content=WIDE_GAP)),
        ("in expectation the estimate is not above log p(x)", scores("ais"), scores("hmc")),
        ("chains that missed a part of the posterior make the harmonic mean too low", scores("hmc"), scores("ais")),
        ("Hold it against --method ais.", scores("hmc"), scores("ais")),
        ("As a bound: the mean of log p(x) is not below it but for the ±.", scores("elbo"), scores("quadrature")),
        ("How far above was not estimated.", scores("elbo", content=NO_GAPS), scores("elbo", content=GAPS)),
        ('An estimate of how far above stands under "Where is the bound loose?".', scores("elbo", content=GAPS),
         scores("elbo")),
    ],
)  # fmt: skip
def test_whether_it_can_be_believed(sentence, here, there):
    assert sentence in f"{trust(here).text} {trust(here).advice}"
    assert sentence not in f"{trust(there).text} {trust(there).advice}"


def of_one_row(method="is", **options):
    whole = scores(method, rows=1, **options)
    log_p = whole.log_p and whole.log_p.take(np.arange(1))
    better = None if whole.better is None else whole.better[:1]
    content = whole.content | ({KEYS[method]: log_p.to_dict()} if log_p else {"elbo": mean([-7.0]).to_dict()})
    return Scores(content, whole.settings, whole.elbo[:1], log_p, better)


def test_a_bound_that_more_draws_tell_is_pointed_to():
    more = "An ELBO of more draws of z, on fewer rows, is told from it below."
    assert more in bound_and_log_p(scores(elbo=-5.001), Mean(0.02, 0.003, 50))
    assert more not in bound_and_log_p(scores(elbo=-5.001), Mean(0.02, 0.01, 50))
    assert more not in bound_and_log_p(scores(), Mean(0.02, 0.003, 50))


@pytest.mark.parametrize("method", ["quadrature", "is", "ais", "hmc", "elbo"])
@pytest.mark.parametrize("trained", [0, 1, None])
def test_of_one_row_there_is_no_spread_and_no_word_on_one(method, trained):
    """It was "On these 1 row", "All 1 rows equal" and a "±" that stood nowhere."""
    one = of_one_row(method, trained=trained, better=-0.099)
    told = [how_good(one), believed(one, trust(one), selected=True), bound_and_log_p(one)]
    for text in told:
        for wrong in ("±", "1 row", "these row", "these 1", "rows equal", "-0.00", "nan"):
            assert wrong not in text.lower(), text
    if method != "elbo":
        assert told[2].startswith("By this row the ELBO cannot be told from log p(x)")
    few = scores(method)
    if method in ("quadrature", "elbo"):
        assert "±" in trust(few).text
    if trained:
        assert "Not for new rows: the row equals one that was trained on. For this row: " in told[1]


def test_one_row_that_quadrature_leaves_in_doubt_and_one_objective():
    assert "The ± is" in trust(scores("quadrature", error=0.1)).text
    assert "Of one row alone" in trust(of_one_row("quadrature", error=0.1)).text
    grey = of_one_row("elbo", content=GREY)
    grey.content.pop("elbo")
    assert trust(grey).text == "As an objective. Of one row alone, what another would change is not known."


def test_an_objective_is_believed_as_one():
    grey = scores("elbo", content=GREY)
    grey.content.pop("elbo")
    assert trust(grey).text.startswith("As an objective.")
    assert not trust(scores("elbo")).text.startswith("As an objective.")


@pytest.mark.parametrize(
    ("sentence", "here", "there"),
    [
        ("Not for new rows: 7 of the 400 rows equal rows that were trained on.", {"trained": 7}, {"trained": 0}),
        ("Not for new rows: All 400 rows equal rows", {"trained": 400}, {"trained": 7}),
        # Rows of few values equal each other by chance: 8 of 400 do where 2 % of the training rows repeat.
        ("Not for new rows", {"trained": 8}, {"trained": 8, "repeated": 0.02}),
        (
            "If rows repeat by themselves, as answers of a questionnaire do: As a bound",
            {"trained": 8, "repeated": 0.02},
            {"trained": 80, "repeated": 0.02},
        ),
        ("Not for new rows: All 400 rows", {"trained": 400, "repeated": 0.9}, {"trained": 400, "repeated": 1.0}),
        ("Whether rows among them were trained on is not known", {"trained": None}, {"trained": 0}),
        ("These rows also chose the parameters (early stopping)", {"selected": True}, {"selected": False}),
    ],
)
def test_which_rows_they_are(sentence, here, there):
    def said(selected=False, **options):
        found = scores(**options)
        return believed(found, trust(found), selected=selected)

    assert sentence in said(**here)
    assert sentence not in said(**there)


@pytest.mark.parametrize("method", ["quadrature", "is", "ais", "hmc", "elbo"])
def test_rows_that_equal_training_rows_are_never_believed_without_a_condition(method):
    """A file that was joined twice: its held-out rows were trained on, and "Yes" was said of them."""
    found = scores(method, trained=8, repeated=0.02)
    told = believed(found, trust(found))
    assert told.startswith("If rows repeat by themselves, ")
    assert "If they are copies, as in a file that was joined twice, they are not new rows" in told
    assert "copies" not in believed(scores(method), trust(scores(method)))


def test_advice_on_the_numbers_goes_before_advice_on_the_model():
    trained, heavy, sound = scores(trained=7), scores(khat=HEAVY, standard_error=0.5), scores()
    assert before_all(trained, trust(trained)) == "Name rows that the model has not seen: aevb evaluate RUN DATA."
    assert before_all(heavy, trust(heavy)) == "Use --method ais for log p(x)."
    assert before_all(sound, trust(sound)) == ""
    silent, first, second = (Finding({}, "Headline.", "", {}, advice) for advice in ("", "First.", "Second."))
    assert what_next("Numbers.", {"latent": silent, "gaps": first, "calibration": second}) == "Numbers. First."
    assert what_next("", {"latent": silent, "gaps": first, "calibration": second}) == "First."
    assert what_next("Numbers.", {"latent": silent}) == "Numbers."
    assert what_next("", {"latent": silent}).startswith("No check asks for a change.")
    assert what_next("", {}) == "The checks were left out: leave out --quick to have them."


def test_the_gravest_finding_gives_the_advice():
    """A model that failed the predictive checks was told how to tighten a bound by 0.12 nats."""
    findings = {name: Finding({}, "Headline.", "", {}, f"On {name}.") for name in QUESTIONS}
    on_columns = "On columns."
    for name in ("generation", "predictive", "columns", "latent", "gaps", "calibration"):
        assert what_next("Numbers.", findings, on_columns) == f"Numbers. On {name}."
        if name == "columns":
            on_columns = ""
        else:
            findings[name] = findings[name]._replace(advice="")
    assert what_next("", findings, on_columns).startswith("No check asks for a change.")


@pytest.mark.parametrize("method", ["quadrature", "is", "ais", "hmc", "elbo"])
def test_columns_of_one_value_are_told_beside_the_score(method):
    """Two columns that were 99 % one value made 10 of 11 nats "better", by a scale that shrank."""
    found = scores(method, better=3.0)._replace(gaussian=True)
    told = how_good(found._replace(of_one_value=("erl", "pox")))
    assert told.startswith(how_good(found))
    assert "of each of the columns erl, pox are one value: a density has no upper limit there" in told
    assert "upper limit" not in how_good(found)


@pytest.mark.parametrize("method", ["quadrature", "is"])
def test_gaussian_columns_are_called_so(method):
    """Of independent exponentials a model that was 0.9 nats worse than they are was called better than "independent
    columns", which were Gaussian.
    """
    for better, sentence in ((3.0, ", for which columns that are not Gaussian can be enough."), (-3.0, "")):
        bits, gaussian = scores(method, better=better), scores(method, better=better)._replace(gaussian=True)
        assert "a model of independent columns" in how_good(bits)
        assert "a model of independent Gaussian columns" in how_good(gaussian) and sentence in how_good(gaussian)
        assert "enough" not in how_good(bits)
    assert "a model of independent Gaussian columns" in against_columns(gaussian)


@pytest.mark.parametrize("method", ["quadrature", "is", "ais", "hmc", "elbo"])
def test_a_model_no_better_than_independent_columns_is_told_what_may_help(method):
    told = against_columns(scores(method, better=-3.0))
    assert told.startswith("The model is not shown to be better than a model of independent columns: longer training")
    assert against_columns(scores(method, better=0.001)) == told
    assert against_columns(scores(method, better=3.0)) == ""
    assert against_columns(scores(method)) == ""  # without training rows
    few = scores(method)._replace(better=np.linspace(-9.0, 3.0, 8))
    assert against_columns(few).endswith("but little can be told of 8 rows: evaluate more of them first.")
    assert against_columns(few._replace(better=np.linspace(-3.1, -2.9, 8))) == told  # told to be worse, few as they are
    assert against_columns(of_one_row(method, better=-3.0)) == ""


def test_a_section_for_each_diagnostic_that_was_made():
    findings = {
        "gaps": Finding({}, "Headline.", "Details.", {}, "Advice."),
        "latent": Finding({}, "Other headline.", "", {}),
    }
    latent, gaps = sections_of(findings, {"gaps": ""})  # in the order of the page
    assert latent == ("What do the latent dimensions carry?", "Other headline.", (), ("latent_dimensions",), "")
    assert gaps == ("Where is the bound loose?", "Headline.", ("Details.", "Advice."), (), "")


def test_the_kl_of_a_dimension_is_not_called_what_it_tells_about_x():
    """It is the information and the distance of all z together from the prior: two nats and nothing told of x."""
    posterior = dist.Normal(jnp.full(1, 2.0), jnp.ones(1)).to_event(1)  # the same for every x
    assert kl_per_dimension(posterior, dist.Normal(jnp.zeros(1), jnp.ones(1)).to_event(1)) == pytest.approx(2.0)
    assert "KL of each dimension's posterior from the prior" in CAPTIONS["latent_dimensions"]
    assert "what it tells about x is at most that" in CAPTIONS["latent_dimensions"]


def test_the_gap_of_some_rows_stands_beside_that_of_all():
    """The page had three gaps between ELBO and log p(x), of different rows, and no word on it."""
    gap = {"mean": 2.0, "standard_error": 0.003}
    said = gap_of_all(scores(), gap)
    assert said == "On all 400 rows with a log p(x) the same difference is at least 2.000 ± 0.003."
    assert gap_of_all(scores("quadrature"), gap) == said.replace("at least ", "")
    assert gap_of_all(scores("quadrature", error=np.inf), gap).endswith("± 0.003, if the numbers can be believed.")
    assert gap_of_all(scores(), None) == ""  # the section has no gap
    (section,) = sections_of({"gaps": Finding({}, "Of 50 rows.", "", {})}, {"gaps": said})
    assert section.headline == f"Of 50 rows. {said}"
    assert gap_of_all(scores("elbo"), gap) == ""
    few = scores()
    few = few._replace(elbo=few.elbo[:50], log_p=few.log_p.take(50))  # all of them were taken apart
    # On the same rows the section's own draws of the ELBO make another number of it.
    of_them = few.log_p.per_row["log_likelihood"] - few.elbo
    assert gap_of_all(few, mean(of_them).to_dict()) == ""
    assert gap_of_all(few, mean(of_them - 0.04).to_dict()) == (
        f"With the ELBO of the table, which is of other draws, the same difference is at least {nats(mean(of_them))}."
    )


def test_a_standard_error_of_few_rows_is_told_to_be_little_known():
    told = "The ± is what another choice of rows would change"
    assert _of_the_choice(2) == f"{told}; of 2 rows it is itself little known."
    assert _of_the_choice(10) == f"{told}."
    assert "what another would change is not known" in _of_the_choice(1)
