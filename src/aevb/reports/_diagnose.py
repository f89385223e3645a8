"""The diagnostics of a fitted model, one function each: what it found, in plain words, and what is pictured."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from aevb import evaluate
from aevb.errors import UnavailableError
from aevb.fitted import FittedModel, Purpose
from aevb.models import (
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    Rows,
    as_floats,
    given_of,
    num_rows_of,
    take,
)

from . import _units
from ._log_p import LogP, Progress
from ._settings import GAP_ROWS, LOW, WORDS
from ._text import without_flags

# Each is a matter of seconds to a minute for an image model.
LATENT_ROWS, GAP_SAMPLES = 10_000, 1000
SIMULATIONS, PREDICTIVE_ROWS, GENERATED, COMPARED = 500, 1000, 1000, 500


# Of the gaps: log densities, which have units; the gaps are differences of these.
_DENSITIES = ("elbo", "optimised_elbo", "log_likelihood")


class Subject(NamedTuple):
    """What is diagnosed."""

    fitted: FittedModel
    x: Rows  # held-out rows as the models see them, (N, D) of a preset
    stored: np.ndarray | None  # and what is observed of them as it is stored, (N, D); None: no single array
    chosen: np.ndarray  # of those that log p(x) was estimated on, (M,)
    log_p: LogP | None  # of these
    train: Rows | None  # training rows as the models see them
    trained_on: np.ndarray | None = None  # (N,), which of the held-out rows the model was trained on after all
    repeated: float = 0.0  # share of the training rows that equal another one

    @property
    def told(self) -> np.ndarray:
        """(N, D), the held-out rows in the units of the report.

        Raises:
            UnavailableError: what is observed of a row is no single array.
        """
        if self.stored is None:
            raise UnavailableError("what is observed of a row is no single array of numbers")
        return _units.told(self.fitted, self.stored, self.x)

    def flat(self, x: Rows) -> np.ndarray:
        """What is observed of rows as the models see them, (N, D)."""
        observed = self.fitted.observed(x)
        return np.asarray(observed).reshape(len(observed), -1)

    @property
    def models(self) -> tuple[AbstractGenerativeModel, AbstractRecognitionModel]:
        """(generative, recognition)."""
        return self.fitted.generative, self.fitted.encoder


class Finding(NamedTuple):
    """One diagnostic's part of the report."""

    content: dict[str, Any]
    headline: str  # one line
    verdict: str  # the details; may be empty
    pictured: dict[str, Any]
    advice: str = ""  # what to do about it; may be empty

    @classmethod
    def of(cls, content: dict[str, Any], verdict: evaluate.Verdict, pictured: dict[str, Any]) -> "Finding":
        """With the words of `aevb.evaluate`."""
        return cls(content, verdict.headline, verdict.details, pictured, verdict.advice)

    @property
    def words(self) -> str:
        """Headline, details and advice."""
        return " ".join(part for part in (self.headline, self.verdict, self.advice) if part)


def diagnose(subject: Subject, on_progress: Progress) -> Iterator[tuple[str, Finding]]:
    """Each diagnostic that suits the model, by name. One that this family of models has not says why.

    No other error is an answer: one of a user's own model is raised.
    """
    stages: dict[str, Callable[[Subject], Finding]] = {"latent": _latent}
    if not subject.fitted.is_grey:  # without a likelihood there is no model of the data to hold against them
        stages |= {
            "gaps": _gaps,
            "calibration": _calibration,
            "predictive": _predictive,
            "generation": _generation,
        }
    for done, (name, stage) in enumerate(stages.items()):
        on_progress(name, done, len(stages))
        try:
            found = stage(subject)
            if subject.fitted.spec is None:  # a model of one's own has no flags that it could be given
                found = found._replace(advice=without_flags(found.advice))
            yield name, found
        except UnavailableError as error:
            yield name, Finding({"left_out": str(error)}, f"No {name} check.", f"The reason: {error}.", {})
    on_progress("diagnostics", len(stages), len(stages))


def _latent(subject: Subject) -> Finding:
    _at_least_two(subject.x)
    key = subject.fitted.evaluation_key(Purpose.LATENT)
    # An inverse autoregressive flow needs J passes for each of the N^2 densities.
    spec, num_rows = subject.fitted.spec, num_rows_of(subject.x)
    num_aggregate = 500 if spec is not None and spec.posterior.slow_density else 2000
    rows = _drawn(subject, np.arange(num_rows), LATENT_ROWS)
    d = evaluate.latent_diagnostics(*subject.models, take(subject.x, rows), key, num_aggregate=num_aggregate)
    verdict = _told_how_drawn(evaluate.collapse_verdict(d), len(rows), num_rows)
    return Finding.of(d.to_dict(), verdict, {"latent": d})


def _gaps(subject: Subject) -> Finding:
    picked = _drawn(subject, np.arange(len(subject.chosen)), GAP_ROWS)
    rows = take(subject.x, subject.chosen[picked])
    key = subject.fitted.evaluation_key(Purpose.GAPS)
    # Which log p(x) is taken is decided before any value is known: the larger of two noisy ones would be too high.
    if subject.log_p is None:
        gaps = evaluate.gaps_by_family(*subject.models, rows, key, num_samples=GAP_SAMPLES)
        log_p, words = _own_log_p(gaps["full-covariance"]), "importance sampling from Gaussians of full covariance"
    else:
        log_p, words = subject.log_p.take(picked), WORDS[subject.log_p.method]
        value, error = log_p.per_row["log_likelihood"], log_p.error
        gaps = evaluate.gaps_by_family(
            *subject.models, rows, key, log_likelihood=value, log_likelihood_error=error, num_samples=GAP_SAMPLES
        )
    in_doubt = log_p.in_doubt
    content: dict[str, Any] = {
        "num_rows": len(picked),
        "log_p": {"method": words, "rows_in_doubt": int(np.sum(in_doubt)), **_trust(log_p.per_row)},
    }
    for family, found in gaps.items():
        units = found._replace(**{name: getattr(found, name) + subject.fitted.log_jacobian for name in _DENSITIES})
        content[family] = {name: value.to_dict() for name, value in units.means._asdict().items()}
    q = None if subject.fitted.spec is None else subject.fitted.spec.posterior
    own, has_flow = (None, False) if q is None else (q.gaussian_family, q.has_flow)
    verdict = evaluate.gaps_verdict(gaps, own, has_flow=has_flow, in_doubt=in_doubt, lower_bound=log_p.method in LOW)
    return Finding.of(content, _told_how_drawn(verdict, len(picked), len(subject.chosen)), {})


def _own_log_p(full: evaluate.InferenceGaps) -> LogP:
    per_row = {
        "log_likelihood": full.log_likelihood,
        "standard_error": full.standard_error.log_likelihood,
        "effective_sample_size": full.effective_sample_size,
        "khat": full.khat,
    }
    return LogP("is", GAP_SAMPLES, per_row)


def _trust(per_row: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of the estimates of log p(x): the median and the worst of each number."""
    worst = {"effective_sample_size": np.min, "khat": np.max}
    return {
        name: {"median": float(np.median(per_row[name])), "worst": float(of(per_row[name]))}
        for name, of in worst.items()
        if name in per_row
    }


def _calibration(subject: Subject) -> Finding:
    key = subject.fitted.evaluation_key(Purpose.CALIBRATION)
    found = evaluate.simulation_based_calibration(*subject.models, key, like=subject.x, num_simulations=SIMULATIONS)
    return Finding.of(found.to_dict(), evaluate.calibration_verdict(found), {"calibration": found})


def _predictive(subject: Subject) -> Finding:
    key = subject.fitted.evaluation_key(Purpose.PREDICTIVE)
    rows = _drawn(subject, subject.chosen, PREDICTIVE_ROWS)
    check = evaluate.posterior_predictive_check(
        *subject.models,
        take(subject.x, rows),
        key,
        stored=subject.told[rows],
        inverse=lambda x: _units.made(subject.fitted, x),
    )
    verdict = _told_in_units(subject, evaluate.predictive_verdict(check))
    verdict = _told_how_drawn(verdict, len(rows), len(subject.chosen))
    return Finding.of({**check.to_dict(), "binarised": _units.is_binarised(subject.fitted)}, verdict, {})


def _generation(subject: Subject) -> Finding:
    _at_least_two(subject.x)
    keys = jax.random.split(subject.fitted.evaluation_key(Purpose.GENERATION), GENERATED)
    like = take(subject.x, np.arange(GENERATED) % num_rows_of(subject.x))
    samples = subject.flat(_ancestral(subject.fitted.generative, keys, like))
    broken = np.count_nonzero(~np.isfinite(samples.reshape(len(samples), -1)).all(axis=1))
    if broken:
        raise UnavailableError(f"{broken} of {len(samples):,} samples of the model hold a value that is not finite")
    columns = evaluate.column_statistics(_units.made(subject.fitted, samples), subject.told)
    content: dict[str, Any] = {"num_samples": len(samples), "columns": columns.to_dict()}
    content["columns"]["binarised"] = _units.is_binarised(subject.fitted)
    verdict = _told_in_units(subject, evaluate.columns_verdict(columns, subject.fitted.columns))
    pictured = {"samples": samples}
    if subject.train is not None:
        copies, nearest = _copies(subject, samples, subject.train, content)
        # Whether rows are copied comes first: it is the graver question.
        details = " ".join(part for part in (copies.details, *verdict) if part)
        verdict = evaluate.Verdict(copies.headline, details, copies.advice)
        pictured["nearest"] = nearest
    return Finding.of(content, verdict, pictured)


def _copies(
    subject: Subject, samples: np.ndarray, train: Rows, content: dict[str, Any]
) -> tuple[evaluate.Verdict, np.ndarray]:
    """Held against held-out rows that the model was not trained on; where these are few, others fill up.

    Rows that were trained on are known by being equal to a training row. Where rows repeat by themselves, that leaves
    out new ones, too, and among the samples none: the two would differ without a copy.
    """
    known = np.zeros(num_rows_of(subject.x), bool) if subject.trained_on is None else subject.trained_on
    new = _drawn(subject, np.flatnonzero(~known), COMPARED)
    held_out = np.concatenate([new, _drawn(subject, np.flatnonzero(known), COMPARED - len(new))])
    train = subject.flat(train)
    near = evaluate.nearest_rows(samples[:COMPARED], train, held_out=subject.flat(take(subject.x, held_out)))
    try:
        if subject.repeated > 0 and known.any():
            raise UnavailableError("the model was trained on some of these rows, and which cannot be told: rows repeat")
        content["memorisation"] = evaluate.memorisation(near, known[held_out])._asdict()
        verdict = evaluate.memorisation_verdict(near, known[held_out])
        verdict = _told_how_drawn(verdict, len(new), int(np.sum(~known)))
    except UnavailableError as error:
        content["memorisation"] = {"left_out": str(error)}
        verdict = evaluate.Verdict("No check of copies.", f"The reason: {error}.")
    return verdict, train[near.row_index[:, 0]]


def _drawn(subject: Subject, rows: np.ndarray, num: int) -> np.ndarray:
    """At most `num` of the rows, drawn with a fixed key: the first ones of a file may be all of one class."""
    key = jax.random.fold_in(subject.fitted.evaluation_key(Purpose.CHOICE), 1)  # not with the key of `chosen`
    return rows[np.sort(np.asarray(jax.random.permutation(key, len(rows)))[:num])]


def _told_how_drawn(verdict: evaluate.Verdict, num: int, total: int) -> evaluate.Verdict:
    if num == total:
        return verdict
    told = f"Rows checked: {num:,}, drawn at random from {total:,}."
    return verdict._replace(details=f"{verdict.details} {told}".strip())


def _told_in_units(subject: Subject, verdict: evaluate.Verdict) -> evaluate.Verdict:
    """Values with a word on what they are, where these are not those of the file."""
    if not (verdict.details and _units.is_binarised(subject.fitted)):
        return verdict
    return verdict._replace(details=f"{verdict.details} {_units.BINARISED}")


def _at_least_two(x: Rows) -> None:
    if num_rows_of(x) < 2:
        raise UnavailableError(f"a spread over rows needs 2 rows or more, and there is {num_rows_of(x)}")


@eqx.filter_jit
def _ancestral(generative: AbstractGenerativeModel, keys: PRNGKeyArray, like: Rows) -> Rows:
    """Samples of x, given what these rows are given."""

    def of(key: PRNGKeyArray, row: Any) -> Any:
        return generative.sample(key, *given_of(generative, as_floats(row)))[0]

    return jax.vmap(of)(keys, like)
