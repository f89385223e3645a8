"""What the score of the rows means, in plain words; each sentence says no more than the numbers beside it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aevb.data import more_than_by_chance, one_value_words
from aevb.evaluate import KHAT_LIMIT, Mean, above, below, mean, minus

from ._log_p import LogP
from ._sections import QUESTIONS
from ._settings import GAP_ROWS, KEYS, LOW, WORDS, ReportSettings
from ._text import nats

# A share of rows with a doubtful estimate that is worth a warning.
_SHARE = 0.05
# Rows below which the first advice is more of them.
_MANY_ROWS = 30
# Rows of which a standard error is itself known to a quarter or worse.
_FEW_ROWS = 10


class Trust(NamedTuple):
    """Whether the estimate of log p(x) can be believed, and what to do where it cannot."""

    text: str
    advice: str = ""


class Scores(NamedTuple):
    """What the words are about."""

    content: Mapping[str, Any]  # of the report
    settings: ReportSettings  # resolved
    elbo: np.ndarray  # of the rows that log p(x) was estimated on, (M,)
    log_p: LogP | None  # of these; None for method "elbo"
    better: np.ndarray | None = None  # (M,), nats above `aevb.evaluate.independent_columns`
    gaussian: bool = False  # whether these columns are Gaussian, which those of the data need not be
    of_one_value: tuple[str, ...] = ()  # `aevb.data.columns_of_one_value`, under a Gaussian likelihood

    @property
    def against(self) -> str:
        """What the yardstick is."""
        return f"a model of independent {'Gaussian ' if self.gaussian else ''}columns"

    @property
    def no_proof(self) -> str:
        """What being better than it does not show."""
        return ", for which columns that are not Gaussian can be enough" if self.gaussian else ""


def how_good(scores: Scores, num_dimensions: int = 0) -> str:
    """The score of a row, and how far it is above a yardstick; for an image in bits per dimension, too."""
    return f"{_score(scores, num_dimensions)} {one_value_words(scores.of_one_value)}".strip()


def _score(scores: Scores, num_dimensions: int) -> str:
    content, method = scores.content, scores.settings.method
    if "grey_objective" in content:
        return (
            f"The objective is {nats(content['grey_objective'])} nats a row. It is a cross-entropy of grey pixels and "
            "no likelihood: only the same objective on the same grey data can be compared with it."
        )
    bits = ""
    if method == "elbo":
        score, text = content["elbo"], f"log p(x) is at least {nats(content['elbo'])} nats a row (the ELBO"
    else:
        score = content[KEYS[method]]
        least = "at least " if method in LOW else ""
        text = f"log p(x) is {least}{nats(score)} nats a row (by {WORDS[method]}"
    if num_dimensions:
        bits = f"; {-score['mean'] / (num_dimensions * np.log(2)):.3f} bits per dimension"
    text = f"{text}{bits})."
    if scores.better is None:
        return text
    better = mean(scores.better)
    off = _unresolved(scores.log_p)
    if method == "elbo" or method in LOW:
        return f"{text} {_bound_against(scores, better, off)}"
    if above(better, off):
        return (
            f"{text} That is {nats(better)} nats better than {scores.against}{scores.no_proof}{_doubt(scores.log_p)}."
        )
    if below(better, off):
        return f"{text} That is {nats(minus(better))} nats WORSE than {scores.against}{_doubt(scores.log_p)}."
    return f"{text} It cannot be told from {scores.against} (the difference is {nats(better)} nats)."


def _bound_against(scores: Scores, better: Mean, off: float) -> str:
    """A lower bound that is above shows that log p(x) is, too; one that is not shows nothing."""
    if above(better, off):
        return f"That is at least {nats(better)} nats better than {scores.against}{scores.no_proof}."
    where = (
        f"is {nats(minus(better))} nats below it"
        if below(better, off)
        else f"cannot be told from it (the difference is {nats(better)} nats)"
    )
    return f"It is not shown to be better than {scores.against}: the bound {where}, and log p(x) may lie above."


def trust(scores: Scores) -> Trust:
    """What is known of the error of the estimate."""
    content, log_p = scores.content, scores.log_p
    if log_p is None and "elbo" in content:
        one = content["num_rows"] == 1
        what, but = ("log p(x)", "its noise") if one else ("the mean of log p(x)", "the ±")
        above_it = (
            f'An estimate of how far above stands under "{QUESTIONS["gaps"]}".'
            if "diagonal" in content.get("gaps", {})
            else "How far above was not estimated."
        )
        return Trust(f"As a bound: {what} is not below it but for {but}. {above_it}")
    if log_p is None:
        return Trust(f"As an objective. {_of_the_choice(content['num_rows'])}")
    match log_p.method:
        case "quadrature":
            return _of_quadrature(log_p, written=scores.settings.diagnostics)
        case "is":
            return _of_weights(log_p, content[KEYS["is"]])
    return _of_chains(log_p, content.get("bidirectional_gap"))


def believed(scores: Scores, trusted: Trust, *, selected: bool = False) -> str:
    """The same with what the rows are: trained on, or those that chose the parameters."""
    found, total, text = scores.content["num_rows_in_training"], scores.content["num_rows"], trusted.text
    one = total == 1
    these = "this row" if one else "these rows"
    if found:
        some = f"All {total:,}" if found == total else f"{found:,} of the {total:,}"
        equal = "the row equals one that was trained on" if one else f"{some} rows equal rows that were trained on"
        if trained_on(scores):
            text = f"Not for new rows: {equal}. For {these}: {text}"
        else:
            text = (
                f"If rows repeat by themselves, as answers of a questionnaire do: {text} {equal}, no more than the "
                "training rows repeat each other. If they are copies, as in a file that was joined twice, they are not "
                "new rows, and new ones are expected to get less."
            )
    if selected:
        text += (
            f" {these.capitalize()} also chose the parameters (early stopping), so new rows are expected to get less."
        )
    if found is None:
        them = "it was" if one else "rows among them were"
        text += f" Whether {them} trained on is not known: the training rows were not given."
    return text


def trained_on(scores: Scores) -> bool:
    """Whether more rows are found among the training rows than chance puts there, if these are new."""
    content = scores.content
    found, chance = content["num_rows_in_training"], content["share_repeated_in_training"]
    return bool(found) and more_than_by_chance(found, content["num_rows"], chance)


def before_all(scores: Scores, trusted: Trust) -> str:
    """Advice on the numbers themselves, which goes before that on the model."""
    if trained_on(scores):
        return "Name rows that the model has not seen: aevb evaluate RUN DATA."
    return trusted.advice


def against_columns(scores: Scores) -> str:
    """Advice where `how_good` does not find the model better than independent columns. A single row shows nothing."""
    if scores.better is None or len(scores.better) == 1:
        return ""
    better, off = mean(scores.better), _unresolved(scores.log_p)
    if above(better, off):
        return ""
    found = f"The model is not shown to be better than {scores.against}"
    if better.num_rows < _MANY_ROWS and not below(better, off):
        return f"{found}, but little can be told of {better.num_rows} rows: evaluate more of them first."
    return f"{found}: longer training, a larger network (--hidden) or --kl-warmup may help."


def bound_and_log_p(scores: Scores, gap: Mean | None = None) -> str:
    """How far the ELBO is from log p(x), on the same rows.

    Args:
        scores: of all rows.
        gap: the same distance by the check of the bound, on fewer rows with more draws of z; None: was not made.
    """
    content, log_p = scores.content, scores.log_p
    if log_p is None:
        return "Each row has a score of its own; above is their mean."
    slack = mean(log_p.per_row["log_likelihood"].astype(np.float64) - scores.elbo)
    one, some = slack.num_rows == 1, slack.num_rows < content["num_rows"]
    rows = f"{slack.num_rows:,} row{'' if one else 's'}"
    rows = f"On {rows}, of {content['num_rows']:,}," if some else "On this row" if one else f"On these {rows}"
    if above(slack, _unresolved(log_p)):
        least = "at least " if log_p.method in LOW else ""
        return f"{rows} the ELBO is {least}{nats(slack)} nats below log p(x): so much the bound misses{_doubt(log_p)}."
    if below(slack, _unresolved(log_p)):
        return (
            f"{rows} the estimate of log p(x) is {nats(minus(slack))} nats below the ELBO, which is a bound: it is "
            "too low."
        )
    told = f"{rows.replace('On', 'By', 1)} the ELBO cannot be told from log p(x): the difference is {nats(slack)} nats."
    if gap is not None and above(gap):
        told += " An ELBO of more draws of z, on fewer rows, is told from it below."
    return told


def _unresolved(log_p: LogP | None) -> float:
    """Nats by which the mean can be off that its spread over rows does not show: the same in every row."""
    if log_p is None:
        return 0.0
    rounding = float(np.mean(log_p.rounding))
    if log_p.method != "quadrature":
        return rounding
    # Of the other rows nothing is known, which `_doubt` tells.
    return rounding + float(np.sum(log_p.error, where=np.isfinite(log_p.error))) / len(log_p.error)


def _doubt(log_p: LogP | None) -> str:
    """For a headline where `trust` says "Not ..." of a number that is no bound, either: it may be off to both sides."""
    if log_p is None or log_p.method in LOW:
        return ""
    unsettled = log_p.method == "quadrature" and not np.isfinite(log_p.error).all()
    few = log_p.method == "hmc" and np.mean(log_p.in_doubt) > _SHARE
    return ", if the numbers can be believed" if unsettled or few else ""


def gap_of_all(scores: Scores, taken_apart: Mapping[str, Any] | None) -> str:
    """The same distance for the section that takes some of these rows apart, so that the two are not taken for two.

    Args:
        scores: of all rows.
        taken_apart: the distance that the section tells, of the first of these rows and an ELBO of its own; None if
            there is none.
    """
    if scores.log_p is None or taken_apart is None:
        return ""
    slack = mean(scores.log_p.per_row["log_likelihood"].astype(np.float64) - scores.elbo)
    told = (
        f"{'at least ' if scores.log_p.method in LOW and above(slack, _unresolved(scores.log_p)) else ''}{nats(slack)}"
    )
    if slack.num_rows > GAP_ROWS:
        return f"On all {slack.num_rows:,} rows with a log p(x) the same difference is {told}{_doubt(scores.log_p)}."
    if nats(slack) == nats(taken_apart):
        return ""
    return f"With the ELBO of the table, which is of other draws, the same difference is {told}."


def _of_the_choice(num_rows: int) -> str:
    """A single row has no spread, and no ±."""
    if num_rows == 1:
        return "Of one row alone, what another would change is not known."
    told = "The ± is what another choice of rows would change"
    return f"{told}; of {num_rows} rows it is itself little known." if num_rows < _FEW_ROWS else f"{told}."


def _of_quadrature(log_p: LogP, *, written: bool) -> Trust:
    """`written`: whether there are files that the report is kept in."""
    doubtful, error = log_p.in_doubt, log_p.error
    if not doubtful.any():
        return Trust(
            f"Yes: p(x) was integrated over z on a grid that was refined to {max(float(error.max()), 0.001):.3f} nats "
            f"in every row, and samples of the encoder know of no place that it missed. {_of_the_choice(len(error))}"
        )
    some = f"{doubtful.sum():,} of {len(error):,} rows"
    where = "; rows.csv has each row's error" if written else ""
    if not np.isfinite(error).all():
        return Trust(
            f"Not as it stands: in {some} the integral over z did not settle, and how much is missing is not known"
            f"{where}.",
            "Use --method ais for log p(x).",
        )
    effect = float(error.sum()) / len(error)
    return Trust(
        f"To {effect:.2g} nats: p(x) was integrated over z, but in {some} the grid was not fine or wide enough, and "
        f"log p(x) may be off by {error.max():.2g} nats or more there{where}. {_of_the_choice(len(error))}"
    )


def _of_weights(log_p: LogP, estimate: Mapping[str, Any]) -> Trust:
    if np.isnan(log_p.per_row["khat"]).all():
        return Trust(
            "That cannot be told: there are too few importance samples to see a tail of their weights.",
            "Use --num-samples 25 or more.",
        )
    share = float(np.mean(log_p.in_doubt))
    if share > _SHARE:
        return Trust(
            f"Not for {100 * share:.0f} % of the rows: their importance weights have so heavy a tail (k-hat above "
            f"{KHAT_LIMIT}) that the estimate, which is too low in expectation, may be far too low, and no error bar "
            "shows it.",
            "Use --method ais for log p(x).",
        )
    num, doubtful = len(log_p.in_doubt), int(log_p.in_doubt.sum())
    all_sound = f"sound: other random numbers would move the mean by {estimate['standard_error_by_samples']:.2g} nats"
    some_sound = (
        f"sound in {num - doubtful:,} of {num:,} rows, and by these other random numbers would move the mean by "
        f"{estimate['standard_error_by_samples']:.2g} nats; in the other {doubtful:,} the estimate may be far too low, "
        "and no error bar shows it"
    )
    return Trust(
        "As a bound: in expectation the estimate is not above log p(x). The importance weights are "
        f"{some_sound if doubtful else all_sound}. Of a place that no sample met they say nothing."
    )


def _of_chains(log_p: LogP, gap: Mapping[str, Any] | None) -> Trust:
    share = float(np.mean(log_p.in_doubt))
    if share > _SHARE:
        what, more = (
            ("chain", "Use more --distributions.")
            if log_p.method == "ais"
            else ("posterior sample", "Use --method ais for log p(x).")
        )
        return Trust(
            f"Not for {100 * share:.0f} % of the rows: a single {what} carries the estimate there, and no error bar "
            "shows how far it is off.",
            more,
        )
    if log_p.method == "hmc":
        return Trust(
            "That cannot be told: chains that missed a part of the posterior make the harmonic mean too low, tails "
            "that no sample met make it too high, and no error bar knows of either.",
            "Hold it against --method ais.",
        )
    if gap is None:
        return Trust(
            "As a bound: in expectation the estimate is not above log p(x). How far below was not estimated "
            "(--simulated)."
        )
    error = gap["standard_error"]
    apart = Mean(gap["mean"], np.inf if error is None else error, gap["num_simulated"])
    told = (
        f"are {nats(gap)} nats apart: so much it may be off by, if the data are like the model's own"
        if above(apart)
        else f"cannot be told apart (the difference is {nats(gap)} nats), which holds if the data are like the model's"
    )
    return Trust(
        f"As a bound: in expectation the estimate is not above log p(x). On {gap['num_simulated']} rows that the model "
        f"made itself, a lower and an upper bound {told}."
    )
