"""Two models or more on the same rows: paired differences."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb import evaluate
from aevb.data import Values, columns_of_one_value, is_binary
from aevb.errors import ConfigError, DataError
from aevb.fitted import FittedModel, Purpose
from aevb.models import (
    AbstractPriorLikelihood,
    Rows,
    as_floats,
    given_of,
    likelihood_given,
    num_rows_of,
    prior_of,
    take,
)

from ._facts import data_kind
from ._log_p import LogP, log_p_of_rows
from ._settings import ReportSettings
from ._unfinished import Unfinished


class Compared(NamedTuple):
    """One model of a comparison; all in nats per example, in the data's own units."""

    name: str
    elbo: evaluate.Mean
    log_p: evaluate.Mean | None
    elbo_difference: evaluate.Mean  # this model's less the first one's, row by row
    log_p_difference: evaluate.Mean | None
    rows_better: float  # share of rows that this model explains better than the first one
    log_jacobian: float  # what of `elbo` and `log_p` is due to the units; less it, they are those of the scaled data
    method: str  # of log p(x): "quadrature", "is" (importance sampling), or "elbo" where there is none
    rows_in_doubt: int = 0  # in which neither log p(x) nor its error can be trusted
    # Nats by which the mean log p(x) can be off for all that quadrature knows; None by another method, or if a row's
    # integral did not settle.
    quadrature_error: float | None = None
    of_one_value: tuple[str, ...] = ()  # `aevb.data.columns_of_one_value`, under a Gaussian likelihood

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            name: value.to_dict() if isinstance(value, evaluate.Mean) else value
            for name, value in self._asdict().items()
        }


def compare(
    models: Sequence[tuple[str, FittedModel]], rows: Any, *, num_samples: int = 1000
) -> tuple[list[Compared], str]:
    """ELBO and log p(x) of several models on the same rows, with paired differences.

    log p(x) is by quadrature for a model of one or two latent dimensions, else by importance sampling, which is a
    little too low in expectation: `method` says which.

    The rows' own spread, which dominates the standard error of each model alone, cancels in the difference.

    Args:
        models: (name, model) each; the differences are to the first.
        rows: data that suit all of them.
        num_samples: K, of importance sampling; 0: the ELBO alone.

    Returns:
        A line per model, and the fingerprint of the rows.

    Raises:
        ConfigError: fewer than two models, ones without a name, or they see different data: grey, dynamically and
            statically binarised pixels, densities and probabilities, are different data sets.
        DataError: the rows do not suit one of them.
    """
    _check_pairs(models)
    if len(models) < 2:
        raise ConfigError(f"a comparison needs two runs or more, got {len(models)}")
    kinds = {name: _kind(model, rows) for name, model in models}
    first = models[0][0]
    for name, kind in kinds.items():
        if kind != kinds[first]:
            raise ConfigError(
                f"{name} and {first} cannot be compared: the one is about {kind}, the other about {kinds[first]}; "
                "these are different data sets"
            )
    table: list[tuple[np.ndarray, np.ndarray | None, str, int, float | None]] = []
    fingerprint = ""
    for name, model in models:
        stored, x = model.prepare(rows)
        dataset = model.shown(stored)
        found_print = model.feed.info(stored).fingerprint if dataset is None else dataset.fingerprint
        if fingerprint and found_print != fingerprint:
            raise DataError(f"{name} was given other rows than {first}")
        fingerprint = found_print
        bound = model.elbo_of(x)[0].bound
        log_p, method, in_doubt, error = None, "elbo", 0, None
        if num_samples and not model.is_grey:
            exact = evaluate.has_quadrature(model.generative)
            settings = ReportSettings("quadrature") if exact else ReportSettings("is", num_samples)
            settings = settings.resolved(num_rows_of(x), quadrature=exact)
            method = settings.method
            key = model.evaluation_key(Purpose.IMPORTANCE)
            per_row = log_p_of_rows(model, x, key, settings, unfinished=Unfinished(None))
            found = LogP(method, settings.num_samples or 0, per_row).shifted(model.log_jacobian)
            log_p, in_doubt = found.per_row["log_likelihood"], int(found.in_doubt.sum())
            if exact and np.isfinite(found.error).all():
                error = float(np.mean(found.error, dtype=np.float64))
        table.append((np.asarray(bound, np.float64) + model.log_jacobian, log_p, method, in_doubt, error))
    real = [model.values is Values.REAL for _, model in models]
    of_one_value = columns_of_one_value(dataset) if any(real) and dataset is not None else ()
    lines = []
    for (name, model), (own, log_p, method, in_doubt, error), is_real in zip(models, table, real, strict=True):
        reference_bound, reference = table[0][:2]
        score, reference_score = (own, reference_bound) if log_p is None or reference is None else (log_p, reference)
        lines.append(
            Compared(
                name=name,
                elbo=evaluate.mean(own),
                log_p=None if log_p is None else evaluate.mean(log_p),
                elbo_difference=evaluate.mean(own - reference_bound),
                log_p_difference=None if log_p is None or reference is None else evaluate.mean(log_p - reference),
                rows_better=float(np.mean(score > reference_score)),
                log_jacobian=model.log_jacobian,
                method=method,
                rows_in_doubt=in_doubt,
                quadrature_error=error,
                of_one_value=of_one_value if is_real else (),
            )
        )
    return lines, fingerprint


def _check_pairs(models: Any) -> None:
    expected = "models must be a list of pairs (name, model), as [('first', first), ('second', second)]"
    if not isinstance(models, Sequence):
        raise ConfigError(f"{expected}, got {type(models).__name__}")
    for place, pair in enumerate(models, start=1):
        parts = pair if isinstance(pair, tuple | list) else [pair]
        if len(parts) != 2 or not isinstance(parts[0], str) or not isinstance(parts[1], FittedModel):
            found = ", ".join(type(part).__name__ for part in parts)
            raise ConfigError(f"{expected}, but number {place} is of type {found}")


def _kind(model: FittedModel, rows: Any) -> str:
    """What a model's numbers are about: such models alone can be compared."""
    values = model.values
    if not isinstance(model.generative, AbstractPriorLikelihood):
        return "what a model in one piece gives, which does not say whether these are densities"
    if values is None and _is_discrete(model, model.prepare(rows)[1]):
        shown = model.shown(model.feed.stored(rows))
        static = shown is not None and is_binary(shown.rows)
        return "binary as they are (static)" if static else "probabilities of a model of one's own"
    if values is Values.BINARY:
        return data_kind(model)
    if values is Values.LEVELS:
        return "probabilities of levels"
    return "densities of the data"  # in the data's own units, whatever the scaling


def _is_discrete(model: FittedModel, x: Rows) -> bool:
    """Whether p(x | z) gives probabilities, by shapes alone."""
    generative = model.in_two_parts("a comparison")
    found: list[bool] = []

    def ask() -> None:
        row = as_floats(take(x, 0))
        z = jnp.zeros(prior_of(generative, row).event_shape)
        found.append(bool(likelihood_given(generative, z, *given_of(generative, row)).support.is_discrete))

    jax.eval_shape(ask)
    return found[0]
