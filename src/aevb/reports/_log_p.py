"""log p(x) row by row, in blocks: with progress, and with a file from which an interrupted run goes on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PRNGKeyArray

from aevb import evaluate
from aevb.errors import OutputError
from aevb.fitted import FittedModel
from aevb.models import Rows, num_rows_of, take

from ._settings import ReportSettings
from ._unfinished import Unfinished, digest_of

Progress = Callable[[str, int, int], None]  # stage, done, total


# Nats of error below which a row counts as resolved by quadrature: twice its tolerance, for rounding.
RESOLVED = 0.002
# So many chains or posterior samples that are effective are too few.
_FEW = 2.0


class LogP(NamedTuple):
    """An estimate of log p(x) of M rows, and how far it can be trusted."""

    method: str  # of `ReportSettings`
    num_samples: int
    per_row: Mapping[str, np.ndarray]  # what the method tells of each row, (M,) each
    units: float = 0.0  # nats of log p(x) that are due to the data's units

    def take(self, index: np.ndarray) -> "LogP":
        """Of some of the rows."""
        return self._replace(per_row={name: values[index] for name, values in self.per_row.items()})

    def shifted(self, nats: float) -> "LogP":
        """With log p(x) in other units."""
        moved = np.asarray(self.per_row["log_likelihood"], np.float64) + nats
        return self._replace(per_row={**self.per_row, "log_likelihood": moved}, units=self.units + nats)

    @property
    def error(self) -> np.ndarray:
        """Of log p(x), in nats: a standard error, or what quadrature knows of its own."""
        return self.per_row["error" if self.method == "quadrature" else "standard_error"]

    @property
    def rounding(self) -> np.ndarray:
        """What float32 leaves unknown of numbers of this size, in nats."""
        size = np.abs(self.per_row["log_likelihood"] - self.units)
        return 32 * float(np.finfo(np.float32).eps) * size

    @property
    def in_doubt(self) -> np.ndarray:
        """Rows in which neither the estimate nor its error can be trusted."""
        if self.method == "quadrature":
            return ~(self.error <= RESOLVED + self.rounding)  # which is no fault of the grid
        effective = self.per_row["effective_sample_size"]
        if self.method == "is":
            return evaluate.untrustworthy(self.per_row["khat"], effective, self.error, self.num_samples)
        # A single chain or sample carries the estimate. Of two that agree, two are effective.
        return effective < min(_FEW, 0.75 * self.num_samples)

    def to_dict(self) -> dict[str, Any]:
        """The mean over the rows, and what is known of its error, as plain values."""
        of_rows = evaluate.mean(self.per_row["log_likelihood"])
        summary: dict[str, Any] = {**of_rows.to_dict(), "num_rows": of_rows.num_rows}
        summary["rows_in_doubt"] = int(self.in_doubt.sum())
        errors = self.error.astype(np.float64)
        if self.method == "quadrature":
            return {**summary, "largest_error": float(np.max(errors))}
        # What other random numbers would change, the rows being these: part of the standard error over rows. Of the
        # rows in doubt it is not known.
        summary["standard_error_by_samples"] = float(np.sqrt(np.sum(errors[~self.in_doubt] ** 2)) / len(errors))
        effective = self.per_row["effective_sample_size"]
        summary["effective_sample_size"] = {"median": float(np.median(effective)), "smallest": float(np.min(effective))}
        if "khat" in self.per_row:
            khat = self.per_row["khat"]
            above = None if np.isnan(khat).any() else float(np.mean(khat > evaluate.KHAT_LIMIT))
            summary["khat"] = {"median": float(np.median(khat)), "largest": float(np.max(khat))}
            summary["khat"]["share_above_0.7"] = above
        if "acceptance" in self.per_row:
            summary["acceptance"] = float(np.mean(self.per_row["acceptance"]))
        return summary


def log_p_of_rows(
    fitted: FittedModel,
    x: Rows,
    key: PRNGKeyArray,
    settings: ReportSettings,
    *,
    unfinished: Unfinished,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, np.ndarray]:
    """The per-row arrays of the method's result, by name; each of shape (N,), in nats where it is a log-likelihood.

    Row i's noise is a function of `key` and i, so that neither blocks nor an interruption change the result.

    Args:
        fitted: the model.
        x: rows as the models see them.
        key: of the samples.
        settings: resolved ones; the method is not "elbo".
        unfinished: keeps the rows that are done, also when all are: what follows may be interrupted, too.
        on_progress: called after each block.

    Raises:
        UnavailableError: the method cannot be used with this model; says why.
        OutputError: `unfinished` cannot be written.
    """
    block = _block_size(fitted, settings)
    digest = digest_of(fitted, x, key, settings)
    parts = [kept] if (kept := unfinished.read(digest)) else []
    done = sum(len(next(iter(part.values()))) for part in parts)
    num_rows = num_rows_of(x)
    on_progress("log p(x)", done, num_rows)
    while done < num_rows:
        rows = take(x, slice(done, done + block))
        size = num_rows_of(rows)
        # The last block is filled up, or its shape would be compiled anew.
        fill = done and settings.method != "quadrature"
        filled = take(rows, np.minimum(np.arange(block), size - 1)) if fill else rows
        found = _method(fitted, filled, key, settings, done)
        parts.append({name: values[:size] for name, values in found.items()})
        done += size
        try:
            unfinished.keep(digest, _joined(parts))
        except OutputError:
            if done < num_rows:  # else all is done and can be shown
                raise
        on_progress("log p(x)", done, num_rows)
    return _joined(parts)


def _method(
    fitted: FittedModel, x: Rows, key: PRNGKeyArray, settings: ReportSettings, first_row: int
) -> dict[str, np.ndarray]:
    models = (fitted.generative, fitted.encoder)
    assert settings.num_samples is not None
    found: Any
    if settings.method == "quadrature":
        generative = fitted.in_two_parts("quadrature")
        return dict(evaluate.quadrature_log_likelihood(generative, x, fitted.encoder)._asdict())
    if settings.method == "is":
        found = evaluate.importance_sampling(*models, x, key, num_samples=settings.num_samples, first_row=first_row)
        names = ("log_likelihood", "standard_error", "effective_sample_size", "khat")
        return {name: getattr(found, name) for name in names}
    if settings.method == "ais":
        found = evaluate.annealed_importance_sampling(*models, x, key, settings.annealing(), first_row=first_row)
    else:
        chains = evaluate.HarmonicSettings(num_samples=settings.num_samples, num_leapfrog=settings.num_leapfrog)
        found = evaluate.harmonic_log_likelihood(*models, x, key, chains, first_row=first_row)
    return dict(found._asdict())


def _block_size(fitted: FittedModel, settings: ReportSettings) -> int:
    """Rows in a block: a few seconds' work, and a multiple of what the methods take at once."""
    assert settings.num_samples is not None
    if settings.method == "quadrature":  # the grid goes through the decoder once a block
        return 10_000
    if settings.method == "is":
        return int(np.clip(500_000 // settings.num_samples // 20 * 20, 20, 10_000))
    return 10


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
