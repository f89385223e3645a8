"""What a fit of one's own models is given, checked: its configuration, the parts of its rows, and the shape of z."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from aevb.config import NAMES, Config, Training
from aevb.data import Dataset, split
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
from ._splits import VALIDATION_SHARE, Splits

# What an algorithm that is given has decided, options of the first two among it.
_OF_ALGORITHMS = (
    "estimator", "optimizer", "learning_rate", "learning_rate_schedule", "kl_weight", "kl_warmup", "free_bits",
    "free_bits_group", "parameter_prior",
)  # fmt: skip


def own_config(training: Training | None, changes: dict[str, Any], *, is_algorithm: bool) -> Config:
    """The configuration of a fit of one's own models, in which each name must be looked at.

    Raises:
        ConfigError: one is of presets, or was decided by an optimiser or an algorithm that was given.
    """
    if isinstance(training, Config):
        raise ConfigError("models of one's own take a section of a configuration alone; give config.training")
    if not (training is None or isinstance(training, Training)):
        raise ConfigError(
            f"training must be an aevb.config.Training, got {type(training).__name__}; give fields as keywords instead"
        )
    for name in (name for name in changes if name in NAMES and NAMES[name].section in ("data", "model")):
        raise ConfigError(f"{name} is of presets; models of one's own say it themselves. Leave it out, or use aevb.fit")
    config = Config(model=None, training=training or Training(), **changes)
    given, default = config.training, Training()
    for name in _OF_ALGORITHMS if is_algorithm else ():
        if name in changes or getattr(given, name) != getattr(default, name):
            raise ConfigError(f"{name} was decided where the algorithm was made; leave it out")
    return config


class RowParts(NamedTuple):
    """Training, validation and test rows of a model of one's own."""

    train: Rows
    validation: Rows | None
    test: Rows | None
    row_numbers: np.ndarray | None
    is_cut: bool  # whether the validation rows were cut from the training rows

    @classmethod
    def of(cls, feed: RowsFeed, rows: Rows, config: Config, validation: Any, test: Any) -> "RowParts":
        """Cut off the validation rows, if they are not given."""
        share = config.data.validation
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
            numbers, held_out = split(num_rows, share, config.training.seed)
            rows, validation = take(rows, numbers), take(rows, held_out)
        if validation is None and config.training.early_stopping:
            raise DataError("early_stopping needs validation rows; give some, or a share")
        return cls(rows, validation, None if test is None else feed.stored(test), numbers, numbers is not None)

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

    def count_trained_on(self) -> int | None:
        """How many of the rows to judge the model on equal training rows; see `Splits.count_trained_on`."""
        part, rows = self.held_out
        if part == "train" or (part == "validation" and self.is_cut):
            return None  # and no table of all rows is made
        return Splits(_as_table(self.train), None, _as_table(rows)).count_trained_on()


def _as_table(rows: Rows) -> Dataset:
    """All numbers of each row side by side, as they are stored where a `Dataset` can hold them so."""
    flat = np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(rows)], 1)
    if flat.dtype not in (np.uint8, np.float32, np.float64):
        flat = flat.astype(np.float64)
    return Dataset("array", np.ascontiguousarray(flat), flat.shape[1:])


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
