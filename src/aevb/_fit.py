"""The front door: data and a configuration in, a fitted object out."""

import contextlib
import dataclasses
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from aevb import evaluate, train
from aevb._version import __version__
from aevb.config import Config
from aevb.data import DataInfo, Dataset, Preprocessing, fix
from aevb.distributions import ContinuousBernoulli
from aevb.errors import ConfigError, DivergenceError, GuessWarning, HeldOutWarning
from aevb.fitted import BINARIZATION_KEY, FittedModel
from aevb.models import build

from ._measures import log_jacobian, measures
from ._plan import Plan, make_plan
from ._progress import watched_progress
from ._splits import Splits, load_splits, not_held_out

Record = dict[str, Any]

# What the run's key is folded with. Never reuse a number for another purpose: old runs would change.
_INIT, _ORDER, _NOISE, _VALIDATION = range(4)


def fit(
    data: Any,
    config: Config | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    on_start: Callable[[Config, Splits], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    on_trained: Callable[[FittedModel], None] | None = None,
    quiet: bool = False,
    **changes: Any,
) -> FittedModel:
    """Fit a variational auto-encoder by AEVB.

    Ctrl-C during training ends it after the current epoch, and the model fitted so far is returned
    (`result["stopped"]` says `interrupted`); a second Ctrl-C raises KeyboardInterrupt at once.

    Args:
        data: training rows: an array (N, ...), a `Dataset`, a data name (`mnist`) or a path (.npy, .npz, .csv, IDX).
        config: what to fit and how; None: the defaults.
        validation: validation rows, or the share of the training rows to hold out; None: as `config.validation` says.
        test: test rows; None: `config.test`, or the data's own.
        on_start: called once with the resolved configuration and the data, before anything is compiled.
        on_epoch: called after each epoch with its record, the same as a line of `metrics.jsonl`.
        on_trained: called with the model when training has ended, before it is evaluated.
        quiet: no progress display. There is one only where somebody watches, on a terminal or in a notebook, and where
            no `on_epoch` takes its place.
        **changes: fields of `Config` to change.

    Returns:
        The fitted model. Its `result` is the evaluation on held-out rows: the test part, else the validation part, else
        the training rows (`held_out` says which). With early stopping, `selected_on` is the part whose bound chose the
        parameters; if that is also `held_out`, the evaluation is of the best of several epochs and comes out too high.

    Warns:
        GuessWarning: what was made of the data is not evident from them: the likelihood is `auto`, or one of pixels was
            named for a table of whole numbers.
        HeldOutWarning: more of the held-out rows equal training rows than would by chance; `held_out_in_training` of
            the result is how many (0: no more than by chance; None: they were cut from the training data by the fit).

    Raises:
        ConfigError: the configuration does not fit together, or does not fit the data.
        DataError: the data are missing, unreadable, or outside the likelihood's support.
        DivergenceError: training met non-finite values; its attribute `fitted` has the last good model.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(200, 3))
        >>> fitted = fit(rows, latent_dim=1, hidden=(8,), epochs=2, evaluation_samples=10)
        >>> fitted.config.likelihood, fitted.preprocessing.scaling, len(fitted.history)
        ('gaussian', 'standardize', 2)
    """
    if config is not None and not isinstance(config, Config):
        raise ConfigError(
            f"config must be an aevb.Config, got {type(config).__name__}; give fields as keywords instead"
        )
    if isinstance(validation, float | int):
        changes, validation = {**changes, "validation": float(validation)}, None
    config = (config or Config()).replace(**changes)
    splits = load_splits(data, config, validation=validation, test=test)
    plan = make_plan(config, splits)
    config = plan.config
    if plan.guessed:
        warnings.warn(plan.guessed, GuessWarning, stacklevel=2)
    name, held_out = splits.held_out
    if trained_on := splits.count_trained_on():
        warnings.warn(not_held_out(trained_on, len(held_out), name), HeldOutWarning, stacklevel=2)
    if on_start is not None:
        on_start(config, splits)
    start = time.perf_counter()
    with watched_progress(quiet=quiet or on_epoch is not None) as progress, _stop_after_epoch() as interrupted:
        progress.start(config, splits)
        trainer = _Trainer(plan, splits)
        try:
            stopped = trainer.run(on_epoch or progress.epoch, interrupted)
        except DivergenceError as error:
            error.fitted = trainer.fitted({"stopped": "diverged"})
            raise
    speeds = [record["examples_per_second"] for record in trainer.history]
    result = {
        "stopped": stopped,
        "epochs": len(trainer.history),
        "train_rows": len(splits.train),
        "train_seconds": time.perf_counter() - start,
        "examples_per_second": float(np.median(speeds[1:] or speeds)),  # the first epoch is compiled on its way
        "skipped_steps": sum(record["skipped_steps"] for record in trainer.history),
        "held_out": name,
        "held_out_in_training": trained_on,
        "selected_on": "validation" if config.early_stopping else None,
    }
    fitted = trainer.fitted(result)
    if on_trained is not None:
        on_trained(fitted)
    num_samples: int | None = 0 if stopped == "interrupted" else config.evaluation_samples
    if num_samples and evaluate.has_quadrature(fitted.generative):
        num_samples = None  # they are of models that have no quadrature
    evaluation = fitted.evaluate(held_out, num_samples=num_samples)
    return dataclasses.replace(fitted, result={**result, "evaluation": evaluation.to_dict()})


class _Trainer:
    """The state of one fit: what `Algorithm` leaves to its caller (validation, early stopping, records)."""

    def __init__(self, plan: Plan, splits: Splits):
        self.config, self.preprocessing, self.architecture, self.estimator, self.for_evaluation, _ = plan
        config, preprocessing = plan.config, plan.preprocessing
        self.splits = splits
        self.history: list[Record] = []
        self.key = jax.random.key(config.seed)
        num_examples = len(splits.train)
        assert config.batch_size is not None
        steps_per_epoch = -(-num_examples // config.batch_size)
        self.rows, prepare = preprocessing.staged(splits.train.rows)
        generative, recognition = build(
            self.architecture,
            initialization=config.initialization,
            output_bias=_output_bias(config, preprocessing, splits.train) if config.data_bias else None,
            pseudo_inputs=self._pseudo_inputs() if config.prior == "vamp" else None,
            key=jax.random.fold_in(self.key, _INIT),
        )
        schedule = train.make_schedule(
            config.learning_rate_schedule, config.learning_rate, config.epochs * steps_per_epoch
        )
        optimizer = train.make_optimizer(
            config.optimizer,
            schedule,
            beta1=config.beta1,
            beta2=config.beta2,
            decay=config.decay,
            momentum=config.momentum,
            epsilon=config.epsilon,
        )
        kl_weight = (
            optax.linear_schedule(0.0, config.kl_weight, config.kl_warmup * steps_per_epoch)
            if config.kl_warmup
            else optax.constant_schedule(config.kl_weight)
        )
        self.algorithm = train.aevb(
            generative,
            recognition,
            self.estimator,
            optimizer,
            num_examples=num_examples,
            prepare=prepare,
            parameter_prior=config.parameter_prior,
            kl_weight=kl_weight if config.kl_warmup or config.kl_weight != 1.0 else None,
            free_bits=train.FreeBits(config.free_bits, config.free_bits_group) if config.free_bits else None,
        )
        # Nats that turn a log density of the scaled data into one in the data's own units.
        self.units = log_jacobian(self.architecture, preprocessing)
        self.validation = None
        if splits.validation is not None:
            self.validation = fix(preprocessing, splits.validation.rows, jax.random.key(BINARIZATION_KEY))
        self.state = self.algorithm.init(jax.random.fold_in(self.key, _NOISE))
        # What is handed back: the last parameters whose bounds were finite, or, with early stopping, the best ones.
        self.kept = jax.tree.map(jnp.copy, self.state.params)
        self.best = -math.inf

    def run(self, on_epoch: Callable[[Record], None] | None, interrupted: threading.Event) -> str:
        """Train; returns why it ended."""
        config, waited = self.config, 0
        assert config.batch_size is not None
        names = measures(self.preprocessing)
        for state, summary in train.epochs(
            self.algorithm,
            self.state,
            self.rows,
            order_key=jax.random.fold_in(self.key, _ORDER),
            batch_size=config.batch_size,
            num_epochs=config.epochs,
            row_numbers=self.splits.train.row_numbers,
        ):
            self.state = state
            assert summary.bound is not None
            assert summary.log_likelihood is not None
            assert summary.kl is not None
            elbo = summary.log_likelihood - summary.kl  # whatever bound the estimator climbs
            parts: dict[str, tuple[float, float, float]] = {"train": (elbo, summary.log_likelihood, summary.kl)}
            if self.validation is not None:
                parts["validation"] = self._validate()
            record: Record = {"epoch": summary.epoch}
            for part, (bound, reconstruction, kl) in parts.items():
                terms = (bound + self.units, reconstruction + self.units, kl)
                record |= {f"{part}_{name}": _finite(value) for name, value in zip(names, terms, strict=True)}
            if self.estimator.bound_name != "elbo":
                record[f"train_{self._called(self.estimator.bound_name)}"] = _finite(summary.bound + self.units)
            if config.kl_weight != 1.0 or config.kl_warmup or config.free_bits:
                record["train_objective"] = _finite(summary.objective + self.units)
            record |= {
                "grad_norm": _finite(summary.grad_norm),
                "skipped_steps": summary.skipped_steps,
                "seconds": summary.seconds,
                "examples_per_second": summary.examples_per_second,
            }
            self.history.append(record)
            if on_epoch is not None:
                on_epoch(dict(record))
            # An epoch whose steps were all skipped has no bound; ten such steps in a row end the loop.
            counted = [part for part in parts if part != "train" or not math.isnan(summary.bound)]
            bounds = [record[f"{part}_{names[0]}"] for part in counted]
            if None in bounds:
                raise DivergenceError(
                    f"training stopped: after epoch {summary.epoch} the bound on the training or validation rows is "
                    "not finite. The last good parameters are kept. Try a smaller learning rate"
                )
            if bounds:
                waited = 0 if bounds[-1] > self.best else waited + 1
                if waited == 0 or not config.early_stopping:
                    # A copy: the loop goes on to reuse the state's buffers.
                    self.kept = jax.tree.map(jnp.copy, state.params)
                self.best = max(self.best, bounds[-1])
            if config.early_stopping and waited >= config.early_stopping:
                return "early_stopping"
            if interrupted.is_set():
                return "interrupted"
        if all(record[f"train_{names[0]}"] is None for record in self.history):
            raise DivergenceError(
                "training came to nothing: every step had a non-finite bound or gradient and was skipped. The initial "
                "parameters are kept. Try a smaller learning rate, or look at the rows for extreme values"
            )
        return "finished"

    def _validate(self) -> tuple[float, float, float]:
        generative, recognition = self.algorithm.model(self.state)
        assert self.validation is not None
        assert recognition is not None
        # The same noise at each epoch, so that the curve shows the model's change alone.
        key = jax.random.fold_in(self.key, _VALIDATION)
        estimate = evaluate.elbo(generative, recognition, self.validation, key, estimator=self.for_evaluation)
        assert estimate.log_likelihood is not None
        assert estimate.kl is not None
        terms = (estimate.bound, estimate.log_likelihood, estimate.kl)
        bound, reconstruction, kl = (evaluate.mean(term).value for term in terms)
        return bound, reconstruction, kl

    def _called(self, bound_name: str) -> str:
        return f"grey_{bound_name}" if self.preprocessing.grey else bound_name

    def _pseudo_inputs(self) -> np.ndarray:
        """Training rows to start VampPrior's pseudo-inputs from, as the models see them in expectation."""
        rows = self.splits.train.rows
        index = np.random.default_rng(self.config.seed).choice(
            len(rows), self.config.prior_components, replace=len(rows) < self.config.prior_components
        )
        return self.preprocessing.expected(rows[np.sort(index)])

    def fitted(self, result: Record) -> FittedModel:
        """The model with the parameters that were kept."""
        generative, recognition = self.algorithm.model(self.state._replace(params=self.kept))
        assert recognition is not None
        return FittedModel(
            config=self.config,
            architecture=self.architecture,
            generative=generative,  # type: ignore[arg-type]  # what `build` gave to the algorithm
            recognition=recognition,
            preprocessing=self.preprocessing,
            data=DataInfo.of(self.splits.train),
            history=tuple(self.history),
            result=result,
            aevb_version=__version__,
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _output_bias(config: Config, preprocessing: Preprocessing, data: Dataset) -> Float[Array, " D"]:
    """Where the decoder's output starts: the training mean, through the inverse of what the decoder does to it."""
    total = np.zeros(data.rows.shape[1])
    for start in range(0, len(data), 10_000):
        total += preprocessing.expected(data.rows[start : start + 10_000]).sum(axis=0, dtype=np.float64)
    mean = total / len(data)
    if config.likelihood in ("bernoulli", "continuous-bernoulli") or config.sigmoid_mean:
        mean = np.clip(mean, 0.001, 0.999)  # a pixel that is always black must not start at minus infinity
    if config.likelihood == "continuous-bernoulli":
        return _logits_of_mean(mean)
    if config.likelihood == "bernoulli" or config.sigmoid_mean:
        mean = np.log(mean) - np.log1p(-mean)
    return jnp.asarray(mean, jnp.result_type(float))


def _logits_of_mean(mean: np.ndarray) -> Float[Array, " D"]:
    """Of a continuous Bernoulli, whose mean rises with the logit l, and is 1/|l| from its edge where |l| is large."""
    low, high = jnp.full(mean.shape, -1 / mean.min()), jnp.full(mean.shape, 1 / (1 - mean.max()))
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = ContinuousBernoulli(middle).mean < mean
        low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
    return 0.5 * (low + high)


@contextlib.contextmanager
def _stop_after_epoch() -> Iterator[threading.Event]:
    """Turn the first SIGINT into a request to stop; the second one acts as before. Main thread only."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(signum: int, frame: Any) -> None:
        requested.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, previous)
