"""Everything that can be said about a fitted model on some rows, in one object."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aevb import evaluate
from aevb.data import (
    Dataset,
    Values,
    columns_of_one_value,
    more_than_by_chance,
    rows_found_in,
    share_repeated,
)
from aevb.data import load as load_data
from aevb.errors import ConfigError, OutputError, UnavailableError
from aevb.fitted import FittedModel, Purpose
from aevb.models import LocationScaleLikelihood, Rows, num_rows_of, take
from aevb.plots import is_dark

from ._diagnose import Finding, Subject, diagnose
from ._facts import as_json, data_kind, versions
from ._log_p import LogP, Progress, log_p_of_rows
from ._sections import Answer, Section, sections_of, what_next
from ._settings import KEYS, ReportSettings
from ._text import without_flags
from ._unfinished import Unfinished, digest_of
from ._verdicts import (
    Scores,
    against_columns,
    before_all,
    believed,
    bound_and_log_p,
    gap_of_all,
    how_good,
    trust,
)

LOWEST = 20  # rows that are listed
MAX_HARMONIC_DIM = 4  # of the paper's estimator; told before anything is computed


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """How good a model is on some rows, what is known about the error of each number, and plain words on it.

    `content` is what `evaluation.json` holds, `answers` and `sections` are the words. The rest is what the figures are
    drawn from. Log densities are in the data's own units throughout.
    """

    content: dict[str, Any]
    answers: tuple[Answer, ...]
    sections: tuple[Section, ...]
    event_shape: tuple[int, ...]
    white: float | None  # the value of white in the rows; None where they are no pixels
    dark: bool  # whether the typical pixel of the rows is dark, so that pictures are shown inverted
    columns: tuple[str, ...] | None
    row_numbers: np.ndarray  # (N,), of the rows in the file or array that the user gave, from 0
    elbo: np.ndarray  # (N,), nats
    index: np.ndarray  # (M,), the rows that log p(x) was estimated on
    per_row: dict[str, np.ndarray]  # (M,) each: log_likelihood, standard_error, ...; empty for method "elbo"
    lowest_rows: np.ndarray  # (L, D), those with the lowest log p(x), or else ELBO, as they are stored, lowest first
    latent: evaluate.LatentDiagnostics | None
    calibration: evaluate.Calibration | None
    samples: np.ndarray | None  # ancestral samples with their noise, in the units of the rows
    nearest: np.ndarray | None  # the training row nearest to each of the first samples
    unfinished: Unfinished  # what is kept until the report is written


def make_report(
    fitted: FittedModel,
    rows: Any,
    *,
    settings: ReportSettings | None = None,
    train_rows: Any = None,
    part: str = "data",
    unfinished: Path | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Evaluate a fitted model on held-out rows.

    Args:
        fitted: the model.
        rows: held-out data: an array, a `Dataset`, a data name or a path. Binarised once, with a fixed key, if the
            model saw its data binarised at random.
        settings: of the estimate of log p(x); None: by quadrature for one or two latent dimensions, else by importance
            sampling with 1,000 samples.
        train_rows: the rows that the model was fitted to, to see whether its samples are copies of them, and whether
            some of `rows` are among them. None: that is not looked at.
        part: what the rows are called in the report.
        unfinished: directory for what is done of log p(x), from which the same call goes on if it is interrupted. It
            is kept there until `save_report` has written the report, or `report.unfinished.discard()`.
        on_progress: called with a stage's name, what is done of it, and its total.

    Raises:
        DataError: the rows do not fit the model.
        ConfigError: the method cannot be used with this model; says why.

    Example:
        >>> import aevb
        >>> rows = np.random.default_rng(0).integers(0, 2, (64, 9), dtype=np.uint8)
        >>> fitted = aevb.fit(rows, latent_dim=2, hidden=(8,), epochs=1, batch_size=16, evaluation_samples=0)
        >>> report = make_report(fitted, rows, settings=ReportSettings(diagnostics=False))
        >>> report.content["num_rows"], sorted(report.per_row)
        (64, ['error', 'log_likelihood'])
    """
    stored, x = fitted.prepare(rows)
    dataset, num_rows = fitted.shown(stored), num_rows_of(x)
    train_set = None if train_rows is None else _shown_of_training(fitted, train_rows)
    settings = _applicable(settings or ReportSettings(), fitted, num_rows)
    kept = Unfinished(unfinished)
    units = fitted.log_jacobian
    on_progress("ELBO", 0, 1)
    estimate, kl_is_exact = fitted.elbo_of(x)
    on_progress("ELBO", 1, 1)
    bound, reconstruction, kl = fitted.measures
    elbo = np.asarray(estimate.bound, np.float64) + units
    known = None if train_set is None or dataset is None else rows_found_in(dataset, train_set)
    repeated = None if train_set is None else share_repeated(train_set)
    content: dict[str, Any] = {
        "part": part,
        "num_rows": num_rows,
        "num_rows_in_training": None if known is None else int(known.sum()),
        "share_repeated_in_training": repeated,
        "unit": "nats per example",
        "data": dataclasses.asdict(fitted.feed.info(stored)),
        "data_kind": data_kind(fitted),
        "binarization": "none" if fitted.spec is None else fitted.preprocessing.binarization,
        "scaling": "none" if fitted.spec is None else fitted.preprocessing.scaling,
        "log_jacobian": units,
        "settings": settings.to_dict(),
        "versions": versions(fitted),
        bound: evaluate.mean(elbo).to_dict(),
        reconstruction: _mean_of(estimate.log_likelihood, units),
        kl: _mean_of(estimate.kl, 0.0),
        **_layers_of(estimate.kl_per_layer),
        "kl_is_exact": kl_is_exact,
    }
    index = _chosen(fitted, settings, num_rows)
    per_row: dict[str, np.ndarray] = {}
    log_p = as_seen = None
    if settings.method != "elbo":
        key = fitted.evaluation_key(Purpose.IMPORTANCE if settings.method == "is" else Purpose.CHAINS)
        try:
            per_row = log_p_of_rows(fitted, take(x, index), key, settings, unfinished=kept, on_progress=on_progress)
        except UnavailableError as error:
            raise ConfigError(f"method {settings.method} cannot be used with this model: {error}") from None
        as_seen = LogP(settings.method, settings.num_samples or 0, per_row)  # of x as the models see it
        log_p = as_seen.shifted(units)
        per_row = dict(log_p.per_row)
        content[KEYS[settings.method]] = log_p.to_dict()
        if len(index) < num_rows:  # the two are never set beside each other without a word
            content["elbo_of_these_rows"] = {**evaluate.mean(elbo[index]).to_dict(), "num_rows": len(index)}
        if settings.method == "ais" and settings.num_simulated:
            content["bidirectional_gap"] = _bidirectional_gap(fitted, x, settings, kept, on_progress)
    score, scored = (per_row["log_likelihood"], index) if per_row else (elbo, np.arange(len(elbo)))
    order = np.argsort(score, kind="stable")[:LOWEST]
    own = None if dataset is None else dataset.row_numbers
    numbers = np.arange(num_rows) if own is None else own
    lowest = scored[order]
    content["lowest_rows"] = [
        {"row": int(numbers[i]), "nats": float(nats)} for i, nats in zip(lowest, score[order], strict=True)
    ]
    train = None if train_set is None else fitted.prepare(train_rows, part="training")[1]
    better = None
    if train is not None and (yardstick := _independent_columns(fitted, train, take(x, scored))) is not None:
        better = score - yardstick
        content["over_independent_columns"] = evaluate.mean(better).to_dict()
    if known is not None and repeated is not None and not more_than_by_chance(int(known.sum()), len(known), repeated):
        known = None  # new rows, of which some equal a training row as they equal each other
    as_stored = None if dataset is None else dataset.rows
    subject = Subject(fitted, x, as_stored, index, as_seen, train, known, repeated or 0.0)
    findings = _findings(subject, settings, on_progress)
    gaussian = fitted.values is Values.REAL
    content |= {name: finding.content for name, finding in findings.items()}
    of_one_value = columns_of_one_value(dataset) if gaussian and dataset is not None else ()
    scores = Scores(content, settings, elbo[index], log_p, better, gaussian, of_one_value)
    answers, sections = _words(fitted, scores, findings, dataset)
    content["answers"] = [answer._asdict() for answer in answers]
    content["sections"] = [section._asdict() for section in sections]
    pictured = {name: value for finding in findings.values() for name, value in finding.pictured.items()}
    return Report(
        content=as_json(content),
        answers=answers,
        sections=sections,
        event_shape=() if dataset is None else dataset.event_shape,
        white=fitted.white,
        dark=dataset is not None and is_dark(dataset.rows, fitted.white),
        columns=fitted.columns,
        row_numbers=numbers,
        elbo=elbo,
        index=index,
        per_row=per_row,
        lowest_rows=np.zeros((len(lowest), 0)) if dataset is None else dataset.rows[lowest],
        latent=pictured.get("latent"),
        calibration=pictured.get("calibration"),
        **{
            name: fitted.feed.restored(pictured[name]).reshape(len(pictured[name]), -1) if name in pictured else None
            for name in ("samples", "nearest")
        },
        unfinished=kept,
    )


def _shown_of_training(fitted: FittedModel, train_rows: Any) -> Dataset | None:
    """The training rows as a data set, as far as they are one."""
    return load_data(train_rows) if fitted.spec is not None else fitted.shown(fitted.feed.stored(train_rows))


def _mean_of(terms: Any, units: float) -> dict[str, Any] | None:
    """Of a term of the bound, which not every model tells."""
    return None if terms is None else evaluate.mean(np.asarray(terms, np.float64) + units).to_dict()


def _layers_of(kl_per_layer: Any) -> dict[str, Any]:
    """What each layer of a latent in layers adds to the KL, where there are any."""
    layers = evaluate.means(kl_per_layer)
    return {} if layers is None else {"kl_per_layer": {name: layer.to_dict() for name, layer in layers.items()}}


def _mean_of_rows(plain: Mapping[str, Any], num_rows: int) -> evaluate.Mean:
    """What `Mean.to_dict` gave, of so many rows."""
    error = plain["standard_error"]
    return evaluate.Mean(plain["mean"], np.inf if error is None else error, num_rows)


def _independent_columns(fitted: FittedModel, train: Rows, x: Rows) -> np.ndarray | None:
    """The yardstick's log p(x) of each row, where there is one for the likelihood."""
    if fitted.spec is None:
        return None
    likelihood = fitted.spec.likelihood
    if likelihood.values not in (Values.BINARY, Values.REAL) or fitted.is_grey:
        return None
    floor = {"min_scale": likelihood.min_scale} if isinstance(likelihood, LocationScaleLikelihood) else {}
    return evaluate.independent_columns(train, x, likelihood.values, **floor) + fitted.log_jacobian


def _findings(subject: Subject, settings: ReportSettings, on_progress: Progress) -> dict[str, Finding]:
    return dict(diagnose(subject, on_progress)) if settings.diagnostics else {}


def _words(
    fitted: FittedModel, scores: Scores, findings: dict[str, Finding], dataset: Dataset | None
) -> tuple[tuple[Answer, ...], tuple[Section, ...]]:
    """Three answers, then a section for each question."""
    trusted = trust(scores)
    selected = fitted.result.get("selected_on") == scores.content["part"]
    # An image's score is also told in bits; of a density, in units of its own, these would say nothing.
    density = fitted.spec is None or fitted.spec.likelihood.has_density
    pixels = fitted.spec.data_dim if fitted.spec is not None and len(fitted.event_shape) > 1 and not density else 0
    answers: tuple[Answer, ...] = (
        Answer("How good is it?", how_good(scores, pixels)),
        Answer("Can it be believed?", believed(scores, trusted, selected=selected)),
        Answer("What to do next?", what_next(before_all(scores, trusted), findings, against_columns(scores))),
    )
    if fitted.spec is None:
        answers = tuple(Answer(question, without_flags(text)) for question, text in answers)
    gaps = findings["gaps"].content.get("diagonal") if "gaps" in findings else None
    gap = gaps and gaps["gap"]
    explained = Section(
        "How well is each row explained?",
        bound_and_log_p(scores, gap and _mean_of_rows(gap, findings["gaps"].content["num_rows"])),
        (
            "The ELBO is a lower bound on log p(x), the log density that the model gives to a row. It is what "
            "training climbs.",
        ),
        ("log_likelihood", "khat"),
        "numbers",
    )
    where = "the data" if dataset is None else dataset.name
    which = f"The rows are numbered from 0, as they stand in {where}."
    worst = Section("Which rows fit worst?", _lowest(scores), (which,), ("lowest_rows",), "lowest rows")
    also = {"gaps": gap_of_all(scores, gap)}
    return answers, (explained, *sections_of(findings, also), worst)


def _lowest(scores: Scores) -> str:
    items = scores.content["lowest_rows"][:3]
    told = ", ".join(f"{item['row']} ({item['nats']:.1f} nats)" for item in items)
    lowest = f"Row{'' if len(items) == 1 else 's'} {told}"
    return f"{lowest}: outliers, what the model has not learnt, or those that happen to be the lowest."


def _chosen(fitted: FittedModel, settings: ReportSettings, total: int) -> np.ndarray:
    """The rows that log p(x) is estimated on: all, or some drawn with a fixed key."""
    assert settings.num_rows is not None
    if settings.num_rows >= total:
        return np.arange(total)
    chosen = jax.random.permutation(fitted.evaluation_key(Purpose.CHOICE), total)[: settings.num_rows]
    return np.sort(np.asarray(chosen))


def _applicable(settings: ReportSettings, fitted: FittedModel, total_rows: int) -> ReportSettings:
    settings = settings.resolved(total_rows, quadrature=evaluate.has_quadrature(fitted.generative))
    if settings.method == "hmc" and fitted.latent_dim > MAX_HARMONIC_DIM:
        raise ConfigError(
            f"method hmc, the paper's Appendix D, is for fewer than five latent dimensions, and this model has "
            f"{fitted.latent_dim}: a density cannot be fitted to samples of so many; use method ais"
        )
    if fitted.is_grey and settings.method != "elbo":
        # There is no p(x) to estimate; the report says so.
        settings = dataclasses.replace(settings, method="elbo", num_samples=0)
    return settings


def _bidirectional_gap(
    fitted: FittedModel, x: Rows, settings: ReportSettings, kept: Unfinished, on_progress: Progress
) -> dict[str, Any]:
    assert settings.num_samples is not None
    key, num_simulated = fitted.evaluation_key(Purpose.SIMULATED), settings.num_simulated
    digest = digest_of(fitted, np.zeros(0), key, settings)  # no rows: it makes its own
    if known := kept.read(digest):
        found = evaluate.BidirectionalGap(**known)
    else:
        on_progress("AIS both ways", 0, num_simulated)
        models = (fitted.generative, fitted.encoder)
        found = evaluate.bidirectional_gap(*models, num_simulated, key, settings.annealing(), like=x)
        with suppress(OutputError):  # as in `log_p_of_rows`: all is done
            kept.keep(digest, found._asdict())
    on_progress("AIS both ways", num_simulated, num_simulated)
    return {
        **found.gap.to_dict(),
        "num_simulated": num_simulated,
        "lower": evaluate.mean(np.asarray(found.lower, np.float64) + fitted.log_jacobian).to_dict(),
        "upper": evaluate.mean(np.asarray(found.upper, np.float64) + fitted.log_jacobian).to_dict(),
    }
