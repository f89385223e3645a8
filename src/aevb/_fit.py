"""The front door: data and a configuration in, a fitted object out; or models of one's own and rows in."""

import contextlib
import dataclasses
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from aevb import evaluate, train
from aevb._spec import Own
from aevb._version import __version__
from aevb.config import Config, Training
from aevb.data import DataInfo
from aevb.errors import ConfigError, DataError, DivergenceError, GuessWarning, HeldOutWarning
from aevb.fitted import BINARIZATION_KEY, FittedModel
from aevb.models import (
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    Rows,
    Vae,
    as_floats,
    check_join,
    num_rows_of,
    take,
    tie,
)

from ._feed import AbstractTransform, AsStored, DatasetFeed, Feed, RowsFeed
from ._measures import measures
from ._own import RowParts, latent_shape_of, own_config
from ._plan import BATCH_SIZE, Plan, build, choose_estimator, make_plan
from ._progress import describe, watched_progress
from ._splits import VALIDATION_SHARE, Splits, load_splits, not_held_out
from ._trainer import INIT, Named, Record, Trainer

Pair = tuple[AbstractGenerativeModel, AbstractRecognitionModel]


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
        validation: validation rows, or the share of the training rows to hold out; None: as `config.data` says.
        test: test rows; None: as `config.data` says, or the data's own.
        on_start: called once with the resolved configuration and the data, before anything is compiled.
        on_epoch: called after each epoch with its record, the same as a line of `metrics.jsonl`.
        on_trained: called with the model when training has ended, before it is evaluated.
        quiet: no progress display. There is one only where somebody watches, on a terminal or in a notebook, and where
            no `on_epoch` takes its place.
        **changes: what else to change, by the names that `Config` takes: latent_dim=10, posterior=Iaf(steps=8), ...

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
        >>> fitted.config.model.likelihood.kind, fitted.preprocessing.scaling, len(fitted.history)
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
    if plan.guessed:
        warnings.warn(plan.guessed, GuessWarning, stacklevel=2)
    name, held_out = splits.held_out
    if trained_on := splits.count_trained_on():
        warnings.warn(not_held_out(trained_on, len(held_out), name), HeldOutWarning, stacklevel=2)
    if on_start is not None:
        on_start(plan.config, splits)
    job = _Job(
        config=plan.config,
        spec=plan.spec,
        feed=DatasetFeed(plan.preprocessing, DataInfo.of(splits.train), plan.spec),
        latent_shape=(plan.spec.latent_dim,),
        lines=lambda: describe(plan.config, splits),
        trainer=lambda: _preset_trainer(plan, splits),
        num_rows=len(splits.train),
        row_numbers=splits.train.row_numbers,
        held_out=(name, held_out),
        trained_on=trained_on,
    )
    return _run(job, on_epoch=on_epoch, on_trained=on_trained, quiet=quiet)


def fit_model(
    models: Pair | train.Algorithm,
    rows: Rows,
    training: Training | None = None,
    *,
    transform: AbstractTransform | None = None,
    validation: Any = None,
    test: Rows | None = None,
    on_epoch: Callable[[Record], None] | None = None,
    on_trained: Callable[[FittedModel], None] | None = None,
    quiet: bool = False,
    **changes: Any,
) -> FittedModel:
    """Fit models of one's own, or run an algorithm of one's own, and get the same fitted object as from `fit`.

    Args:
        models: (generative, recognition) at their initial parameters, to be trained by AEVB; or an `Algorithm`, such as
            `aevb.train.full_vb` makes, which knows its models, estimator and optimiser.
        rows: the training rows: an array (N, ...), or any structure of arrays with N rows each.
        training: how; None: the defaults.
        transform: from a stored row to x and back; None: x is the row.
        validation: validation rows, or the share of the training rows to hold out (a tenth by default; 0: none).
        test: test rows, of the same structure.
        on_epoch, on_trained, quiet: as for `fit`.
        **changes: what to change in `training`, by the names that `Config` takes: epochs, batch_size, early_stopping,
            seed, ...; and evaluation_samples. `estimator` is one of `aevb.estimators` or of one's own, or a kind (None
            of them: SGVB B where the KL has a closed form, else A); `optimizer` a spec, a kind, or an Optax gradient
            transformation.

    Returns:
        The fitted model, with every verb that its models allow. It is saved as arrays by name;
        `aevb.load(path, like=(generative, recognition))` reads it back.

    Raises:
        ConfigError: the configuration does not fit together, or has fields on presets.
        UnavailableError: the estimator, or the objective, asks for what the models have not got.
        DataError: the rows are no arrays of one length, or hold what is no number.
        ValueError: shapes of prior, posterior and likelihood do not fit with each other or with the rows.
        DivergenceError: training met non-finite values; its attribute `fitted` has the last good model.

    Warns:
        HeldOutWarning: more of the held-out rows equal training rows than would by chance.

    Example:
        See `examples/own_model.py`.
    """
    algorithm = models if isinstance(models, train.Algorithm) else None
    config = own_config(training, changes, is_algorithm=algorithm is not None)
    if isinstance(models, train.Algorithm):
        generative, recognition = models.model(models.init(jax.random.key(config.training.seed)))
    else:
        generative, recognition = models
    for model, kind in ((generative, AbstractGenerativeModel), (recognition, AbstractRecognitionModel)):
        if model is not None and not isinstance(model, kind):
            raise ConfigError(
                f"models must be a pair (generative, recognition) of models with their parameters, got "
                f"{getattr(model, '__name__', type(model).__name__)} where an {kind.__name__} should be"
            )
    transform = AsStored() if transform is None else transform
    feed = RowsFeed.of(rows, transform)
    parts = RowParts.of(feed, feed.stored(rows), config, validation, test)
    batch_size = config.training.batch_size
    if batch_size is None:
        batch_size = min(BATCH_SIZE, parts.num_rows)
    if batch_size > parts.num_rows:
        raise DataError(
            f"there are {parts.num_rows} training rows, fewer than the batch of {batch_size} that was asked for"
        )
    first = as_floats(take(feed.fixed(take(parts.train, slice(1)), BINARIZATION_KEY), 0))
    check_join(generative, first)
    share = 0.0 if parts.validation is None else config.data.validation or VALIDATION_SHARE
    config = config.replace(batch_size=batch_size, validation=share)
    chosen, for_evaluation = None, None
    if recognition is not None:
        tied = tie(generative, recognition)
        like = jax.tree.map(lambda leaf: leaf[None], first)
        config, chosen, for_evaluation = choose_estimator(config, tied, recognition, like=like)
    if algorithm is not None:
        config = config.replace(estimator=Own("Algorithm"), optimizer=Own("Algorithm"))

    def trainer() -> Trainer:
        made = algorithm
        if made is None:
            assert chosen is not None and recognition is not None
            steps = _Steps.of(config.training, parts.num_rows)
            made = train.aevb(
                generative,
                recognition,
                chosen,
                steps.optimizer,
                num_examples=parts.num_rows,
                prepare=lambda key, row: as_floats(transform(key, row)),
                **steps.objective,
            )
        own = None if chosen is None or algorithm is not None or chosen.bound_name == "elbo" else chosen.bound_name
        validation_x = None if parts.validation is None else feed.fixed(parts.validation, BINARIZATION_KEY)
        return Trainer(
            made,
            parts.train,
            jax.random.key(config.training.seed),
            Named(*measures(None), feed.log_jacobian, own, config.training.weighs_terms or algorithm is not None),
            validation=None if for_evaluation is None else validation_x,
            estimator=for_evaluation,
            patience=config.training.early_stopping,
        )

    (name, held_out), trained_on = parts.held_out, parts.count_trained_on()
    if trained_on:
        warnings.warn(not_held_out(trained_on, num_rows_of(held_out), name), HeldOutWarning, stacklevel=2)
    job = _Job(
        config=config,
        spec=None,
        feed=feed,
        latent_shape=latent_shape_of(generative, recognition, first),
        lines=lambda: [f"fitting {type(generative).__name__} to {parts.num_rows} training rows"],
        trainer=trainer,
        num_rows=parts.num_rows,
        row_numbers=parts.row_numbers,
        held_out=(name, held_out),
        trained_on=trained_on,
    )
    return _run(job, on_epoch=on_epoch, on_trained=on_trained, quiet=quiet)


# --- one run ----------------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """What is to be done, whoever asked for it."""

    config: Config
    spec: Vae | None
    feed: Feed
    latent_shape: tuple[int, ...]
    lines: Callable[[], list[str]]  # what is told of it
    trainer: Callable[[], Trainer]  # made when the progress is shown: it may take a while
    num_rows: int
    row_numbers: np.ndarray | None
    held_out: tuple[str, Any]  # which part, and its rows
    trained_on: int | None  # how many of these equal training rows; None: not known


def _run(
    job: _Job,
    *,
    on_epoch: Callable[[Record], None] | None,
    on_trained: Callable[[FittedModel], None] | None,
    quiet: bool,
) -> FittedModel:
    training, (name, held_out) = job.config.training, job.held_out
    assert training.batch_size is not None
    start = time.perf_counter()
    with watched_progress(quiet=quiet or on_epoch is not None) as progress, _stop_after_epoch() as interrupted:
        progress.start(job.lines(), training.epochs)
        trainer = job.trainer()
        try:
            stopped = trainer.run(
                batch_size=training.batch_size,
                num_epochs=training.epochs,
                on_epoch=on_epoch or progress.epoch,
                interrupted=interrupted,
                row_numbers=job.row_numbers,
            )
        except DivergenceError as error:
            error.fitted = _fitted(job, trainer, {"stopped": "diverged"})
            raise
    speeds = [record["examples_per_second"] for record in trainer.history]
    result = {
        "stopped": stopped,
        "epochs": len(trainer.history),
        "train_rows": job.num_rows,
        "train_seconds": time.perf_counter() - start,
        "examples_per_second": float(np.median(speeds[1:] or speeds)),  # the first epoch is compiled on its way
        "skipped_steps": sum(record["skipped_steps"] for record in trainer.history),
        "held_out": name,
        "held_out_in_training": job.trained_on,
        "selected_on": "validation" if training.early_stopping else None,
    }
    fitted = _fitted(job, trainer, result)
    if on_trained is not None:
        on_trained(fitted)
    if fitted.recognition is None:
        return fitted  # its log p(x) asks for a proposal that it has not got
    num_samples: int | None = 0 if stopped == "interrupted" else job.config.evaluation.num_samples
    if num_samples and evaluate.has_quadrature(fitted.generative):
        num_samples = None  # they are of models that have no quadrature
    evaluation = fitted.evaluate(held_out, num_samples=num_samples)
    return dataclasses.replace(fitted, result={**result, "evaluation": evaluation.to_dict()})


def _fitted(job: _Job, trainer: Trainer, result: Record) -> FittedModel:
    generative, recognition = trainer.models()
    return FittedModel(
        config=job.config.without_objects(),
        spec=job.spec,
        generative=generative,
        recognition=recognition,
        feed=job.feed,
        latent_shape=job.latent_shape,
        history=tuple(trainer.history),
        result=result,
        aevb_version=__version__,
    )


class _Steps(NamedTuple):
    """What a configuration says of the steps: an optimiser, and an objective beside the bound."""

    optimizer: optax.GradientTransformation
    objective: dict[str, Any]

    @classmethod
    def of(cls, training: Training, num_examples: int) -> "_Steps":
        """For so many rows."""
        assert training.batch_size is not None
        assert isinstance(training.learning_rate_schedule, train.ScheduleSpec)
        optimizer, per_epoch = training.optimizer, -(-num_examples // training.batch_size)
        if isinstance(optimizer, Own):
            raise ConfigError("the optimizer was an object, which a file cannot hold; give it")
        if isinstance(optimizer, train.OptimizerSpec):
            schedule = training.learning_rate_schedule.build(training.learning_rate, training.epochs * per_epoch)
            optimizer = optimizer.build(schedule)
        warmup = optax.linear_schedule(0.0, training.kl_weight, training.kl_warmup * per_epoch)
        kl_weight = warmup if training.kl_warmup else optax.constant_schedule(training.kl_weight)
        free_bits = train.FreeBits(training.free_bits, training.free_bits_group)
        objective = {
            "parameter_prior": training.parameter_prior,
            "kl_weight": kl_weight if training.kl_warmup or training.kl_weight != 1.0 else None,
            "free_bits": free_bits if training.free_bits else None,
        }
        return cls(optimizer, objective)


# --- presets ----------------------------------------------------------------------------------------------------------


def _preset_trainer(plan: Plan, splits: Splits) -> Trainer:
    training, key = plan.config.training, jax.random.key(plan.config.training.seed)
    rows, prepare = plan.preprocessing.staged(splits.train.rows)
    generative, recognition = build(plan, splits.train, jax.random.fold_in(key, INIT))
    steps = _Steps.of(training, len(splits.train))
    algorithm = train.aevb(
        generative,
        recognition,
        plan.estimator,
        steps.optimizer,
        num_examples=len(splits.train),
        prepare=prepare,
        **steps.objective,
    )
    feed = DatasetFeed(plan.preprocessing, DataInfo.of(splits.train), plan.spec)
    name = plan.estimator.bound_name
    own = f"grey_{name}" if plan.preprocessing.grey else name
    return Trainer(
        algorithm,
        rows,
        key,
        Named(*measures(plan.preprocessing), feed.log_jacobian, None if name == "elbo" else own, training.weighs_terms),
        validation=None if splits.validation is None else feed.fixed(splits.validation, BINARIZATION_KEY),
        estimator=plan.for_evaluation,
        patience=training.early_stopping,
    )


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
