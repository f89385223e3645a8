"""log p(x) row by row, in blocks: with progress, and with a file from which an interrupted run goes on."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from aevb import evaluate
from aevb._container import read_container, write_container
from aevb.errors import ModelFileError
from aevb.fitted import FittedModel

from ._settings import ReportSettings

Progress = Callable[[str, int, int], None]  # stage, done, total


def log_p_of_rows(
    fitted: FittedModel,
    x: np.ndarray,
    key: PRNGKeyArray,
    settings: ReportSettings,
    *,
    unfinished: Path | None = None,
    on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, np.ndarray]:
    """The per-row arrays of the method's result, by name; each of shape (N,), in nats where it is a log-likelihood.

    Row i's noise is a function of `key` and i, so that neither blocks nor an interruption change the result.

    Args:
        fitted: the model.
        x: rows as the models see them.
        key: of the samples.
        settings: resolved ones; the method is not "elbo".
        unfinished: directory for the rows that are done, until all are. None: an interruption loses them.
        on_progress: called after each block.

    Raises:
        UnavailableError: the method cannot be used with this model; says why.
        OutputError: `unfinished` cannot be written.
    """
    block = _block_size(fitted, settings)
    path = None if unfinished is None else unfinished / f".unfinished-{_digest(fitted, x, key, settings)}.safetensors"
    parts = _read(path)
    done = sum(len(next(iter(part.values()))) for part in parts)
    on_progress("log p(x)", done, len(x))
    while done < len(x):
        rows = x[done : done + block]
        # The last block is filled up, or its shape would be compiled anew.
        fill = done and settings.method != "quadrature"
        filled = np.concatenate([rows, np.repeat(rows[-1:], block - len(rows), axis=0)]) if fill else rows
        found = _method(fitted, filled, key, settings, done)
        parts.append({name: values[: len(rows)] for name, values in found.items()})
        done += len(rows)
        if path is not None and done < len(x):
            write_container(path, {"kind": "rows that are done"}, _joined(parts))
        on_progress("log p(x)", done, len(x))
    if path is not None:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return _joined(parts)


def _method(
    fitted: FittedModel, x: np.ndarray, key: PRNGKeyArray, settings: ReportSettings, first_row: int
) -> dict[str, np.ndarray]:
    models = (fitted.generative, fitted.recognition)
    assert settings.num_samples is not None
    found: Any
    if settings.method == "quadrature":
        return dict(evaluate.quadrature_log_likelihood(fitted.generative, x)._asdict())
    if settings.method == "is":
        found = evaluate.importance_sampling(*models, x, key, num_samples=settings.num_samples, first_row=first_row)
        names = ("log_likelihood", "standard_error", "effective_sample_size", "khat")
        return {name: getattr(found, name) for name in names}
    if settings.method == "ais":
        found = evaluate.annealed_importance_sampling(
            *models,
            x,
            key,
            settings.annealing(),
            first_row=first_row,
        )
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


def _digest(fitted: FittedModel, x: np.ndarray, key: PRNGKeyArray, settings: ReportSettings) -> str:
    """Of all that the result depends on."""
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(x).tobytes() + str(x.dtype).encode())
    for leaf in jax.tree.leaves((fitted.generative, fitted.recognition, jax.random.key_data(key))):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path | None) -> list[dict[str, np.ndarray]]:
    if path is None or not path.exists():
        return []
    try:
        return [read_container(path)[1]]
    except ModelFileError:  # cut or altered: the rows are computed anew
        return []


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
