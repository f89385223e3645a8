"""Everything that can be said about a fitted model on some rows, in one object."""

import dataclasses
import importlib.metadata
import math
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aevb import evaluate
from aevb._version import __version__
from aevb.data import DataInfo
from aevb.errors import ConfigError, UnavailableError
from aevb.estimators import SgvbB
from aevb.fitted import FittedModel, Key

from . import _verdicts
from ._diagnose import LogP, Subject, diagnose, plain
from ._log_p import Progress, log_p_of_rows
from ._settings import KEYS, ReportSettings

LOWEST = 20  # rows that are listed
MAX_HARMONIC_DIM = 4  # of the paper's estimator; told before anything is computed


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """How good a model is on some rows, what is known about the error of each number, and plain words on it.

    `content` is what `evaluation.json` holds. The rest is what the figures are drawn from.
    """

    content: dict[str, Any]
    verdicts: tuple[str, ...]
    rows: np.ndarray  # stored rows of the data set, (N, D)
    elbo: np.ndarray  # (N,), nats
    index: np.ndarray  # (M,), the rows that log p(x) was estimated on
    per_row: dict[str, np.ndarray]  # (M,) each: log_likelihood, standard_error, ...; empty for method "elbo"
    lowest: np.ndarray  # (L,), the rows with the lowest log p(x), or else ELBO
    latent: evaluate.LatentDiagnostics | None
    calibration: evaluate.Calibration | None
    samples: np.ndarray | None  # ancestral samples with their noise as the models see them
    nearest: np.ndarray | None  # the training row nearest to each of the first samples


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
        train_rows: the rows that the model was fitted to, to see whether its samples are copies of them. None: that is
            not looked at.
        part: what the rows are called in the report.
        unfinished: directory for the rows that are done, from which the same call goes on if it is interrupted.
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
    dataset, x = fitted.prepare(rows)
    settings = _applicable(settings or ReportSettings(), fitted, len(dataset))
    models = (fitted.generative, fitted.recognition)
    on_progress("ELBO", 0, 1)
    estimator = evaluate.elbo_estimator(*models)
    estimate = evaluate.elbo(*models, x, fitted.evaluation_key(Key.ELBO), estimator=estimator)
    assert estimate.log_likelihood is not None
    assert estimate.kl is not None
    on_progress("ELBO", 1, 1)
    bound, reconstruction, kl = fitted.measures
    content: dict[str, Any] = {
        "part": part,
        "num_rows": len(dataset),
        "unit": "nats per example",
        "data": dataclasses.asdict(DataInfo.of(dataset)),
        "data_kind": data_kind(fitted),
        "binarization": fitted.preprocessing.binarization,
        "scaling": fitted.preprocessing.scaling,
        "log_jacobian": fitted.log_jacobian,
        "settings": settings.to_dict(),
        "versions": versions(fitted),
        bound: plain(evaluate.mean(estimate.bound)),
        reconstruction: plain(evaluate.mean(estimate.log_likelihood)),
        kl: plain(evaluate.mean(estimate.kl)),
        "kl_is_exact": isinstance(estimator, SgvbB),
    }
    assert settings.num_rows is not None
    index = np.arange(len(dataset))
    if settings.num_rows < len(dataset):
        chosen = jax.random.permutation(fitted.evaluation_key(Key.CHOICE), len(dataset))[: settings.num_rows]
        index = np.sort(np.asarray(chosen))
    elbo = np.asarray(estimate.bound, np.float64)
    per_row: dict[str, np.ndarray] = {}
    if settings.method != "elbo":
        key = fitted.evaluation_key(Key.IMPORTANCE if settings.method == "is" else Key.CHAINS)
        try:
            per_row = log_p_of_rows(fitted, x[index], key, settings, unfinished=unfinished, on_progress=on_progress)
        except UnavailableError as error:
            raise ConfigError(f"method {settings.method} cannot be used with this model: {error}") from None
        content[KEYS[settings.method]] = _log_p_summary(per_row, settings)
        if settings.method == "ais" and settings.num_simulated:
            content["bidirectional_gap"] = _bidirectional_gap(fitted, settings, on_progress)
    verdicts = _verdicts.of_log_p(content, settings, elbo[index], per_row)
    score, scored = (per_row["log_likelihood"], index) if per_row else (elbo, np.arange(len(elbo)))
    lowest = scored[np.argsort(score, kind="stable")[:LOWEST]]
    content["lowest_rows"] = [{"row": int(i), "nats": float(score[np.searchsorted(scored, i)])} for i in lowest]
    found: dict[str, Any] = {}
    if settings.diagnostics:
        train = None if train_rows is None else fitted.prepare(train_rows, part="training")[1]
        log_p = LogP(settings.method, settings.num_samples or 0, per_row) if per_row else None
        for name, finding in diagnose(Subject(fitted, x, index, log_p, train), on_progress):
            content[name] = finding.content
            verdicts.append(finding.words)
            found |= finding.pictured
    content["verdicts"] = verdicts
    return Report(
        content=_json(content),
        verdicts=tuple(verdicts),
        rows=dataset.rows,
        elbo=elbo,
        index=index,
        per_row=per_row,
        lowest=lowest,
        latent=found.get("latent"),
        calibration=found.get("calibration"),
        samples=found.get("samples"),
        nearest=found.get("nearest"),
    )


def data_kind(fitted: FittedModel) -> str:
    """What the numbers are about. Results on different kinds are results on different data sets."""
    p = fitted.preprocessing
    if p.grey:
        return "grey pixels: a cross-entropy, not a likelihood"
    if p.binarization == "dynamic":
        return "binarised: drawn afresh at each presentation in training, once with a fixed key here"
    if p.binarization == "threshold":
        return "binarised at one half of the maximum"
    if p.binary:
        return "binary as they are (static)"
    return {"none": "values as they are", "unit": "values scaled to [0, 1]", "standardize": "values standardised"}[
        p.scaling
    ]


def versions(fitted: FittedModel) -> dict[str, str]:
    """Of what computed the numbers, and of what fitted the model."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "numpyro", "equinox", "numpy")}
    return {
        "aevb": __version__,
        "fitted_with_aevb": fitted.aevb_version,
        "python": platform.python_version(),
        **packages,
    }


def _applicable(settings: ReportSettings, fitted: FittedModel, total_rows: int) -> ReportSettings:
    settings = settings.resolved(total_rows, quadrature=evaluate.has_quadrature(fitted.generative))
    if settings.method == "hmc" and fitted.latent_dim > MAX_HARMONIC_DIM:
        raise ConfigError(
            f"method hmc, the paper's Appendix D, is for fewer than five latent dimensions, and this model has "
            f"{fitted.latent_dim}: a density cannot be fitted to samples of so many; use method ais"
        )
    if fitted.preprocessing.grey and settings.method != "elbo":
        # There is no p(x) to estimate; the report says so.
        settings = dataclasses.replace(settings, method="elbo", num_samples=0)
    return settings


def _log_p_summary(per_row: dict[str, np.ndarray], settings: ReportSettings) -> dict[str, Any]:
    of_rows = evaluate.mean(per_row["log_likelihood"])
    if "error" in per_row:  # quadrature: no samples
        errors = per_row["error"]
        return {
            **plain(of_rows),
            "num_rows": of_rows.num_rows,
            "largest_error": float(np.max(errors)),
            "rows_in_doubt": int(np.sum(~(errors <= _verdicts.RESOLVED))),
        }
    errors = per_row["standard_error"].astype(np.float64)
    effective = per_row["effective_sample_size"]
    summary = {
        **plain(of_rows),
        # What other random numbers would change, the rows being these: part of the standard error above.
        "standard_error_by_samples": float(np.sqrt(np.sum(errors**2)) / len(errors)),
        "num_rows": of_rows.num_rows,
        "effective_sample_size": {"median": float(np.median(effective)), "smallest": float(np.min(effective))},
    }
    if "khat" in per_row:
        khat = per_row["khat"]
        summary["khat"] = {
            "median": float(np.median(khat)),
            "largest": float(np.max(khat)),
            "share_above_0.7": float(np.mean(khat > _verdicts.KHAT_LIMIT)) if not np.isnan(khat).any() else None,
            "share_untrustworthy": float(np.mean(_verdicts.untrustworthy_rows(per_row, settings))),
        }
    if "acceptance" in per_row:
        summary["acceptance"] = float(np.mean(per_row["acceptance"]))
    return summary


def _bidirectional_gap(fitted: FittedModel, settings: ReportSettings, on_progress: Progress) -> dict[str, Any]:
    assert settings.num_samples is not None
    on_progress("AIS both ways", 0, settings.num_simulated)
    found = evaluate.bidirectional_gap(
        fitted.generative,
        fitted.recognition,
        settings.num_simulated,
        fitted.evaluation_key(Key.SIMULATED),
        settings.annealing(),
    )
    on_progress("AIS both ways", settings.num_simulated, settings.num_simulated)
    return {
        **plain(found.gap),
        "num_simulated": settings.num_simulated,
        "lower": plain(evaluate.mean(found.lower)),
        "upper": plain(evaluate.mean(found.upper)),
    }


def _json(value: Any) -> Any:
    """As JSON knows it: lists for arrays, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, np.generic):
        return _json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
