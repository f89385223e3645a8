"""The front door: data and a configuration in, a fitted object out."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from aevb import estimators, evaluate, train
from aevb._version import __version__
from aevb.config import Config
from aevb.data import (
    NAMES,
    DataInfo,
    Dataset,
    Preprocessing,
    check_compatible,
    choose_preprocessing,
    fix,
    load,
    load_test,
    split,
)
from aevb.errors import ConfigError, DataError, DivergenceError
from aevb.fitted import BINARIZATION_KEY, FittedModel, measures
from aevb.models import Architecture, build

Record = dict[str, Any]

# What the run's key is folded with. Never reuse a number for another purpose: old runs would change.
_INIT, _ORDER, _NOISE, _VALIDATION = range(4)


class Splits(NamedTuple):
    """The three parts of the data. Validation and test may be absent."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None

    @property
    def held_out(self) -> tuple[str, Dataset]:
        """The part to judge the model on: test data, else validation data, else the training rows themselves."""
        if self.test is not None:
            return "test", self.test
        if self.validation is not None:
            return "validation", self.validation
        return "train", self.train


def load_splits(data: Any, config: Config, *, validation: Any = None, test: Any = None) -> Splits:
    """Load the data of a configuration and cut off the validation share.

    Args:
        data: array, `Dataset`, data name or path.
        config: for the validation share, the paths of validation and test data, and the seed of the cut.
        validation, test: data given directly; they go before the configuration's.

    Raises:
        DataError: a part is missing, unreadable, or does not fit the others.
    """
    dataset = load(data)
    held_out = load(validation) if validation is not None else None
    if held_out is None and isinstance(config.validation, str) and config.validation:
        held_out = load(config.validation)
    if held_out is None and isinstance(config.validation, float) and config.validation > 0:
        train_index, validation_index = split(len(dataset), config.validation, config.seed)
        dataset, held_out = dataset.take(train_index), dataset.take(validation_index)
    test_set = load(test if test is not None else config.test) if test is not None or config.test else load_test(data)
    return Splits(dataset, held_out, test_set)


def fit(
    data: Any,
    config: Config | None = None,
    *,
    validation: Any = None,
    test: Any = None,
    on_start: Callable[[Config, Splits], None] | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    **changes: Any,
) -> FittedModel:
    """Fit a variational auto-encoder by AEVB.

    Ctrl-C during training ends it after the current epoch, and the model fitted so far is returned
    (`result["stopped"]` says `interrupted`); a second Ctrl-C raises KeyboardInterrupt at once.

    Args:
        data: training rows: an array (N, ...), a `Dataset`, a data name (`mnist`) or a path (.npy, .npz, .csv, IDX).
        config: what to fit and how; None: the defaults.
        validation: validation rows; None: as `config.validation` says.
        test: test rows; None: `config.test`, or the data's own.
        on_start: called once with the resolved configuration and the data, before anything is compiled.
        on_epoch: called after each epoch with its record, the same as a line of `metrics.jsonl`.
        **changes: fields of `Config` to change.

    Returns:
        The fitted model. Its `result` is the evaluation on held-out rows.

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
    config = (config or Config()).replace(**changes)
    splits = load_splits(data, config, validation=validation, test=test)
    config, preprocessing = _resolve(config, splits)
    if on_start is not None:
        on_start(config, splits)
    trainer = _Trainer(config, preprocessing, splits)
    start = time.perf_counter()
    try:
        with _stop_after_epoch() as interrupted:
            stopped = trainer.run(on_epoch, interrupted)
    except DivergenceError as error:
        trainer.state = error.state
        error.fitted = trainer.fitted({"stopped": "diverged"})
        raise
    seconds = time.perf_counter() - start
    fitted = trainer.fitted({})
    name, held_out = splits.held_out
    evaluation = fitted.evaluate(held_out, num_samples=0 if stopped == "interrupted" else config.evaluation_samples)
    speeds = [record["examples_per_second"] for record in trainer.history]
    result = {
        "stopped": stopped,
        "epochs": len(trainer.history),
        "train_rows": len(splits.train),
        "train_seconds": seconds,
        "examples_per_second": float(np.median(speeds)),
        "skipped_steps": sum(record["skipped_steps"] for record in trainer.history),
        "held_out": name,
        "evaluation": evaluation.to_dict(),
    }
    return dataclasses.replace(fitted, result=result)


class _Trainer:
    """The state of one fit: what `Algorithm` leaves to its caller (validation, early stopping, records)."""

    def __init__(self, config: Config, preprocessing: Preprocessing, splits: Splits):
        self.config, self.preprocessing, self.splits = config, preprocessing, splits
        self.history: list[Record] = []
        self.key = jax.random.key(config.seed)
        num_examples = len(splits.train)
        steps_per_epoch = -(-num_examples // config.batch_size)
        self.architecture = Architecture(
            data_dim=splits.train.rows.shape[1],
            latent_dim=config.latent_dim,
            hidden=config.hidden,
            activation=config.activation,
            likelihood="bernoulli" if config.likelihood == "bernoulli" else "gaussian",
            grey=preprocessing.grey,
            sigmoid_mean=config.sigmoid_mean,
            min_scale=config.min_scale,
        )
        generative, recognition = build(
            self.architecture,
            initialization=config.initialization,
            output_bias=_output_bias(config, preprocessing, splits.train) if config.data_bias else None,
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
        warmup = optax.linear_schedule(0.0, 1.0, config.kl_warmup * steps_per_epoch)
        self.algorithm = train.aevb(
            generative,
            recognition,
            ESTIMATORS[config.estimator](config.num_samples),
            optimizer,
            num_examples=num_examples,
            prepare=preprocessing,
            parameter_prior=config.parameter_prior,
            kl_weight=warmup if config.kl_warmup else None,
        )
        self.validation = None
        if splits.validation is not None:
            self.validation = fix(preprocessing, splits.validation.rows, jax.random.key(BINARIZATION_KEY))
        self.state = self.algorithm.init(jax.random.fold_in(self.key, _NOISE))
        self.best: tuple[float, Any] | None = None

    def run(self, on_epoch: Callable[[Record], None] | None, interrupted: threading.Event) -> str:
        """Train; returns why it ended."""
        config, waited = self.config, 0
        names = measures(self.preprocessing)
        for state, summary in train.epochs(
            self.algorithm,
            self.state,
            self.splits.train.rows,
            order_key=jax.random.fold_in(self.key, _ORDER),
            batch_size=config.batch_size,
            num_epochs=config.epochs,
        ):
            self.state = state
            terms = (summary.bound, summary.log_likelihood, summary.kl)
            record: Record = {"epoch": summary.epoch}
            record |= {f"train_{name}": value for name, value in zip(names, terms, strict=True)}
            if self.validation is not None:
                record |= {f"validation_{name}": v for name, v in zip(names, self._validate(), strict=True)}
            record |= {
                "grad_norm": summary.grad_norm,
                "skipped_steps": summary.skipped_steps,
                "seconds": summary.seconds,
                "examples_per_second": summary.examples_per_second,
            }
            self.history.append(record)
            if on_epoch is not None:
                on_epoch(dict(record))
            if config.early_stopping:
                bound = record[f"validation_{names[0]}"]
                if self.best is None or bound > self.best[0]:
                    # A copy: the loop goes on to reuse the state's buffers.
                    self.best, waited = (bound, jax.tree.map(jnp.copy, state.params)), 0
                else:
                    waited += 1
                if waited >= config.early_stopping:
                    return "early_stopping"
            if interrupted.is_set():
                return "interrupted"
        return "finished"

    def _validate(self) -> tuple[float, float, float]:
        generative, recognition = self.algorithm.model(self.state)
        assert self.validation is not None
        # The same noise at each epoch, so that the curve shows the model's change alone.
        key = jax.random.fold_in(self.key, _VALIDATION)
        estimate = evaluate.elbo(generative, recognition, self.validation, key)
        assert estimate.log_likelihood is not None
        assert estimate.kl is not None
        bound, log_likelihood, kl = (evaluate.mean(term).value for term in estimate if term is not None)
        return bound, log_likelihood, kl

    def fitted(self, result: Record) -> FittedModel:
        """The model as it is now, or, with early stopping, as it was when validation was best."""
        state = self.state if self.best is None else self.state._replace(params=self.best[1])
        generative, recognition = self.algorithm.model(state)
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


ESTIMATORS: dict[str, Callable[[int], estimators.AbstractEstimator]] = {
    "sgvb-a": estimators.SgvbA,
    "sgvb-b": estimators.SgvbB,
}


def _resolve(config: Config, splits: Splits) -> tuple[Config, Preprocessing]:
    """Replace each `auto` by what the data ask for; check data and configuration against each other."""
    data = splits.train
    likelihood = config.likelihood
    if likelihood == "auto":
        likelihood = "bernoulli" if _looks_like_pixels(data) else "gaussian"
    preprocessing = choose_preprocessing(data, likelihood, config.binarization, config.scaling)
    for other in (splits.validation, splits.test):
        if other is not None:
            check_compatible(preprocessing, data.columns, data.event_shape, other)
    if config.batch_size > len(data):
        raise DataError(
            f"{data.name} has {len(data)} training rows, fewer than the batch of {config.batch_size}; "
            f"set batch_size to {len(data)} or less"
        )
    if config.sigmoid_mean and likelihood != "gaussian":
        raise ConfigError("sigmoid_mean is an option of the gaussian likelihood; the bernoulli one has it built in")
    if config.sigmoid_mean and preprocessing.scaling == "standardize":
        raise ConfigError("sigmoid_mean needs data in [0, 1], but these are standardised; use scaling 'unit' or 'none'")
    resolved = config.replace(
        data=data.name if data.name in NAMES else _absolute(data.name),
        validation=_absolute(config.validation) if isinstance(config.validation, str) else config.validation,
        test=_absolute(config.test),
        likelihood=likelihood,
        binarization=preprocessing.binarization,
        scaling=preprocessing.scaling,
    )
    return resolved, preprocessing


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path and Path(path).exists() else path


def _looks_like_pixels(data: Dataset) -> bool:
    """Binary values of any shape, or images of grey values."""
    low, high = data.rows.min(), data.rows.max()
    if data.rows.dtype == np.uint8 and high <= 1:
        return True
    if data.rows.dtype != np.uint8 and (low < 0 or high > 1):
        return False
    return len(data.event_shape) >= 2 or bool(np.isin(data.rows, (0, 1)).all())


def _output_bias(config: Config, preprocessing: Preprocessing, data: Dataset) -> Float[Array, " D"]:
    """Where the decoder's output starts: the training mean, through the inverse of what the decoder does to it."""
    total = np.zeros(data.rows.shape[1])
    for start in range(0, len(data), 10_000):
        total += preprocessing.expected(data.rows[start : start + 10_000]).sum(axis=0, dtype=np.float64)
    mean = total / len(data)
    if config.likelihood == "bernoulli" or config.sigmoid_mean:
        mean = np.clip(mean, 0.001, 0.999)  # a pixel that is always black must not start at minus infinity
        mean = np.log(mean) - np.log1p(-mean)
    return jnp.asarray(mean, jnp.result_type(float))


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
