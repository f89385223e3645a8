"""One run of an algorithm: its records, what is kept of it, and when it ends."""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from aevb import evaluate, train
from aevb.errors import DivergenceError
from aevb.estimators import AbstractEstimator
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows

Record = dict[str, Any]

# What the run's key is folded with. Never reuse a number for another purpose: old runs would change.
INIT, _ORDER, _NOISE, _VALIDATION = range(4)


class Terms(NamedTuple):
    """A bound with its two terms where a model tells them apart, means of x as the models see it."""

    bound: float
    reconstruction: float | None = None
    kl: float | None = None
    kl_per_layer: dict[str, float] | None = None


class Named(NamedTuple):
    """What the numbers of a record are called, and in which units they are told."""

    bound: str  # elbo, or what stands in its place
    reconstruction: str
    kl: str
    units: float  # nats to add to a log density of x
    own: str | None = None  # the estimator's own bound, where it is another than the ELBO
    objective: bool = False  # whether what is climbed is no bound

    def of(self, part: str, terms: Terms) -> Record:
        """The terms of one part of the data."""
        told = {self.bound: terms.bound + self.units}
        if terms.reconstruction is not None:
            told[self.reconstruction] = terms.reconstruction + self.units
        if terms.kl is not None:
            told[self.kl] = terms.kl
        for layer, kl in (terms.kl_per_layer or {}).items():
            told[f"{self.kl}_{layer}"] = kl
        return {f"{part}_{name}": finite(value) for name, value in told.items()}

    def record(self, summary: train.EpochSummary, parts: dict[str, Terms]) -> Record:
        """The record of an epoch: a line of metrics.jsonl."""
        record: Record = {"epoch": summary.epoch}
        for part, terms in parts.items():
            record |= self.of(part, terms)
        if self.own is not None and summary.bound is not None:
            record[f"train_{self.own}"] = finite(summary.bound + self.units)
        if self.objective:
            record["train_objective"] = finite(summary.objective + self.units)
        return record | {
            "grad_norm": finite(summary.grad_norm),
            "skipped_steps": summary.skipped_steps,
            "seconds": summary.seconds,
            "examples_per_second": summary.examples_per_second,
        }


class Kept:
    """The parameters that are handed back: the last whose bounds were finite, or, with early stopping, the best."""

    def __init__(self, params: PyTree, patience: int):
        self.params, self.patience = jax.tree.map(jnp.copy, params), patience
        self.best, self.waited = -math.inf, 0

    def look_at(self, params: PyTree, bound: float) -> None:
        """After an epoch whose parameters have this bound, a finite number."""
        self.waited = 0 if bound > self.best else self.waited + 1
        if self.waited == 0 or not self.patience:
            self.params = jax.tree.map(jnp.copy, params)  # a copy: the loop goes on to reuse the state's buffers
        self.best = max(self.best, bound)

    @property
    def is_enough(self) -> bool:
        """Whether the bound has not risen for too long."""
        return bool(self.patience) and self.waited >= self.patience


class Trainer:
    """The state of one fit: what `train.Algorithm` leaves to its caller.

    Args:
        algorithm: what to do with a minibatch.
        rows: as they are stored, on the host.
        key: of the run.
        named: what records tell.
        validation: x of the validation rows, or None.
        estimator: of the ELBO of these; None: there is no recognition model to ask.
        patience: epochs without a better validation bound after which it stops; 0: it does not.
    """

    def __init__(
        self,
        algorithm: train.Algorithm,
        rows: Rows,
        key: PRNGKeyArray,
        named: Named,
        *,
        validation: Rows | None,
        estimator: AbstractEstimator | None,
        patience: int,
    ):
        self.algorithm, self.rows, self.key, self.named = algorithm, rows, key, named
        self.validation, self.estimator = validation, estimator
        self.state = algorithm.init(jax.random.fold_in(key, _NOISE))
        self.kept = Kept(self.state.params, patience)
        self.history: list[Record] = []

    def run(
        self,
        *,
        batch_size: int,
        num_epochs: int,
        on_epoch: Callable[[Record], None] | None,
        interrupted: threading.Event,
        row_numbers: np.ndarray | None = None,
    ) -> str:
        """Train; returns why it ended.

        Raises:
            DivergenceError: a bound was not finite, or no step counted.
        """
        for state, summary in train.epochs(
            self.algorithm,
            self.state,
            self.rows,
            order_key=jax.random.fold_in(self.key, _ORDER),
            batch_size=batch_size,
            num_epochs=num_epochs,
            row_numbers=row_numbers,
        ):
            self.state = state
            parts = {"train": _terms(summary)}
            if self.validation is not None and self.estimator is not None:
                parts["validation"] = self._validate(self.validation, self.estimator)
            record = self.named.record(summary, parts)
            self.history.append(record)
            if on_epoch is not None:
                on_epoch(dict(record))
            self._keep(record, summary)
            if self.kept.is_enough:
                return "early_stopping"
            if interrupted.is_set():
                return "interrupted"
        if all(record[f"train_{self.named.bound}"] is None for record in self.history):
            raise DivergenceError(
                "training came to nothing: every step had a non-finite bound or gradient and was skipped. The initial "
                "parameters are kept. Try a smaller learning rate, or look at the rows for extreme values"
            )
        return "finished"

    def models(self) -> tuple[AbstractGenerativeModel, AbstractRecognitionModel | None]:
        """With the parameters that were kept."""
        return self.algorithm.model(self.state._replace(params=self.kept.params))

    def _keep(self, record: Record, summary: train.EpochSummary) -> None:
        # An epoch whose steps were all skipped has no bound; ten such steps in a row end the loop.
        counted = [] if math.isnan(summary.objective) else [record[f"train_{self.named.bound}"]]
        if f"validation_{self.named.bound}" in record:
            counted.append(record[f"validation_{self.named.bound}"])
        if None in counted:
            raise DivergenceError(
                f"training stopped: after epoch {summary.epoch} the bound on the training or validation rows is "
                "not finite. The last good parameters are kept. Try a smaller learning rate"
            )
        if counted:
            self.kept.look_at(self.state.params, counted[-1])

    def _validate(self, x: Rows, estimator: AbstractEstimator) -> Terms:
        generative, recognition = self.algorithm.model(self.state)
        assert recognition is not None
        # The same noise at each epoch, so that the curve shows the model's change alone.
        key = jax.random.fold_in(self.key, _VALIDATION)
        estimate = evaluate.elbo(generative, recognition, x, key, estimator=estimator)
        of_rows: Terms = Terms(*jax.tree.map(lambda term: evaluate.mean(term).value, estimate))
        return of_rows


def _terms(summary: train.EpochSummary) -> Terms:
    """The ELBO by its terms, whatever bound the estimator climbs; else the algorithm's bound, or its objective."""
    if summary.log_likelihood is not None and summary.kl is not None:
        bound = summary.log_likelihood - summary.kl
        return Terms(bound, summary.log_likelihood, summary.kl, summary.kl_per_layer)
    return Terms(summary.objective if summary.bound is None else summary.bound)


def finite(value: float | None) -> float | None:
    """For JSON, which has no NaN."""
    return value if value is not None and math.isfinite(value) else None
