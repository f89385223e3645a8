"""What a fit of one's own models is given, checked: its configuration, the parts of its rows, and the shape of z."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from aevb.config import Config
from aevb.data import split
from aevb.errors import ConfigError, DataError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    Rows,
    X,
    given_of,
    num_rows_of,
    posterior_of,
    take,
)

from ._feed import RowsFeed
from ._splits import VALIDATION_SHARE

# Fields of `Config` that say what a preset is, or where its data are.
_OF_PRESETS = (
    "data", "test", "latent_dim", "hidden", "activation", "initialization", "likelihood", "sigmoid_mean", "min_scale",
    "df", "data_bias", "binarization", "scaling", "posterior", "prior", "prior_components", "flow_steps", "flow_hidden",
)  # fmt: skip

# Those that an optimiser or an estimator that is given as an object does not look at.
_OF_OPTIMIZERS = ("learning_rate", "learning_rate_schedule", "beta1", "beta2", "decay", "momentum", "epsilon")
_OF_ESTIMATORS = ("num_samples", "num_groups", "alpha", "ciwae_weight", "baseline")
# And what an algorithm that is given has decided.
_OF_ALGORITHMS = (
    "estimator", "optimizer", *_OF_OPTIMIZERS, *_OF_ESTIMATORS, "kl_weight", "kl_warmup", "free_bits",
    "free_bits_group", "parameter_prior",
)  # fmt: skip


def training_config(
    config: Config | None, changes: dict[str, Any], estimator: Any, optimizer: Any, *, is_algorithm: bool
) -> Config:
    """The configuration with its changes, of which each must be looked at.

    Raises:
        ConfigError: one is of presets, or was decided by an estimator, an optimiser or an algorithm that was given.
    """
    for name in (name for name in _OF_ALGORITHMS if is_algorithm and name in changes):
        raise ConfigError(f"{name} was decided where the algorithm was made; leave it out")
    for name, value in (("estimator", estimator), ("optimizer", optimizer)):
        if isinstance(value, str):
            changes = {**changes, name: value}
    if config is not None and not isinstance(config, Config):
        raise ConfigError(
            f"config must be an aevb.Config, got {type(config).__name__}; give fields as keywords instead"
        )
    for what, value, fields in (("optimizer", optimizer, _OF_OPTIMIZERS), ("estimator", estimator, _OF_ESTIMATORS)):
        idle = [name for name in fields if name in changes]
        if value is not None and not isinstance(value, str) and idle:
            raise ConfigError(f"{idle[0]} is of an {what} by name; the one that was given has its own. Leave it out")
    config = (config or Config()).replace(**changes)
    for field in dataclasses.fields(Config):
        if field.name in _OF_PRESETS and getattr(config, field.name) != field.default:
            raise ConfigError(
                f"{field.name} is of presets; models of one's own say it themselves. Leave it out, or use aevb.fit"
            )
    return config


class RowParts(NamedTuple):
    """Training, validation and test rows of a model of one's own."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    row_numbers: np.ndarray | None

    @classmethod
    def of(cls, feed: RowsFeed, rows: Rows, config: Config, validation: Any, test: Any) -> "RowParts":
        """Cut off the validation rows, if they are not given."""
        share = config.validation
        if isinstance(validation, float | int):
            share, validation = float(validation), None
        if isinstance(share, str) or isinstance(validation, str):
            raise ConfigError("validation must be rows or a share for models of one's own, not a path")
        num_rows = num_rows_of(rows)
        if isinstance(share, float) and not 0 <= share < 1:
            raise ConfigError(f"validation as a share must be at least 0 and less than 1, got {share}")
        if share is None:
            share = VALIDATION_SHARE if round(num_rows * VALIDATION_SHARE) else 0.0
        numbers = None
        if validation is not None:
            validation = feed.stored(validation)
        elif share > 0:
            numbers, held_out = split(num_rows, share, config.seed)
            rows, validation = take(rows, numbers), take(rows, held_out)
        if validation is None and config.early_stopping:
            raise DataError("early_stopping needs validation rows; give some, or a share")
        return cls(rows, validation, None if test is None else feed.stored(test), numbers)

    @property
    def num_rows(self) -> int:
        """N of the training rows."""
        return num_rows_of(self.train)

    @property
    def held_out(self) -> tuple[str, Rows]:
        """The part to judge the model on."""
        if self.test is not None:
            return "test", self.test
        return ("train", self.train) if self.validation is None else ("validation", self.validation)


def latent_shape_of(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel | None, x: X
) -> tuple[int, ...]:
    """Of z, by shapes alone: as q(z | x) has it, or the model's own samples."""

    def latent() -> Array:
        key = jax.random.key(0)
        if recognition is None:
            return generative.sample(key, *given_of(generative, x))[1]
        z: Array = posterior_of(recognition, x).sample(key)
        return z

    return tuple(jax.eval_shape(latent).shape)
