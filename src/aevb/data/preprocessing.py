"""From a stored row to the x that the likelihood sees: a recorded choice, applied inside the compiled step.

| binarization | x                                                                       |
|--------------|-------------------------------------------------------------------------|
| `dynamic`    | Bernoulli(row / maximum), drawn afresh from the key at every call        |
| `threshold`  | 1 where row / maximum >= 0.5, else 0                                      |
| `none`       | by `scaling`: the row itself, row / maximum, or (row - mean) / std        |
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real
from numpy.typing import NDArray

Binarization = Literal["dynamic", "threshold", "none"]
Scaling = Literal["none", "unit", "standardize"]

_CHUNK = 1 << 22  # numbers preprocessed in one go on the host
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Preprocessing:
    """How a stored row becomes the model's x. Hashable, so it can be a static argument of `jax.jit`.

    Attributes:
        binarization, scaling: see the module's table; at most one of them is other than "none".
        maximum: the stored value that means 1.0: 255 for uint8 images, 1 for data already in [0, 1].
        mean, std: per column in stored units, for "standardize" only; std is positive and, like its reciprocal,
            within float32's normal range.
        grey: true if a Bernoulli model sees values strictly between 0 and 1, so that what it reports is a
            cross-entropy and no likelihood.
        binary: true if a Bernoulli model sees, without binarisation, nothing but 0 and 1.

    Raises:
        ValueError: if a field is unknown, non-finite, or contradicts another.
    """

    binarization: Binarization = "none"
    scaling: Scaling = "none"
    maximum: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    grey: bool = False
    binary: bool = False

    def __post_init__(self) -> None:
        if self.binarization not in get_args(Binarization) or self.scaling not in get_args(Scaling):
            raise ValueError(f"unknown binarization {self.binarization!r} or scaling {self.scaling!r}")
        if not isinstance(self.grey, bool) or not isinstance(self.binary, bool) or (self.grey and self.binary):
            raise ValueError(f"grey ({self.grey!r}) and binary ({self.binary!r}) must be booleans, and not both true")
        if not _is_number(self.maximum) or not _TINY <= self.maximum <= 1.0 / _TINY:
            raise ValueError(f"maximum must be a positive finite number, not {self.maximum!r}")
        if self.binarization != "none" and (self.scaling != "none" or self.grey or self.binary):
            raise ValueError("where a binarization is named, scaling must be 'none' and grey and binary false")
        if (self.grey or self.binary) and self.scaling == "standardize":
            raise ValueError("grey and binary data lie in [0, 1]: they cannot be standardised")
        if self.scaling != "standardize":
            if self.mean is not None or self.std is not None:
                raise ValueError(f"mean and std belong to scaling 'standardize', not {self.scaling!r}")
            return
        if not isinstance(self.mean, tuple) or not isinstance(self.std, tuple):
            raise ValueError("scaling 'standardize' needs mean and std, one number per column")
        if len(self.mean) != len(self.std) or not self.std:
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} stds: one of each per column is needed")
        if not all(_is_number(value) and abs(value) <= 1.0 / _TINY * 4 for value in self.mean):
            raise ValueError("every mean must be a finite number within float32's range")
        if not all(_is_number(value) and _TINY <= value <= 1.0 / _TINY for value in self.std):
            raise ValueError("every std must be a positive finite number within float32's normal range")

    @property
    def white(self) -> float | None:
        """`maximum` where the data are pixels, or 0s and 1s; None for measurements, of which no value means 1."""
        unit = self.binarization != "none" or self.scaling == "unit" or self.grey or self.binary
        return self.maximum if unit else None

    def __call__(self, key: PRNGKeyArray | None, row: Real[Array | np.ndarray, " D"]) -> Float[Array, " D"]:
        """One stored row (D,) -> x (D,) float32. Pure and traceable; `key` is used by "dynamic" only.

        "dynamic" takes uniforms u in [0, 1) and returns u * maximum < row: 0 never gives 1, `maximum` always does, and
        between them the probability is row / maximum to within 2**-23.
        """
        stored = jnp.asarray(row).astype(jnp.float32)
        # Multiplying by the rounded reciprocal is what XLA makes of a division by a constant. Written out, jitted and
        # eager results are the same bits, and maximum * (1 / maximum) never exceeds 1.
        if self.binarization == "dynamic":
            if key is None:
                raise ValueError("dynamic binarisation draws at random: a key is needed")
            uniform = jax.random.uniform(key, stored.shape, jnp.float32)
            x = (uniform * jnp.float32(self.maximum) < stored).astype(jnp.float32)
        elif self.binarization == "threshold":
            x = (stored >= jnp.float32(0.5 * self.maximum)).astype(jnp.float32)
        elif self.scaling == "unit":
            x = stored * jnp.float32(1.0 / self.maximum)
        elif self.scaling == "standardize":
            mean, std = self._standardization(stored.shape)
            near = mean.astype(np.float32)
            # The mean in two parts, or rows far from zero would be centred on its rounded value.
            rest = (mean - near).astype(np.float32)
            x = (stored - jnp.asarray(near) - jnp.asarray(rest)) * jnp.asarray((1.0 / std).astype(np.float32))
        else:
            x = stored
        return jnp.asarray(x)

    def expected(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The mean of x over the key, for stored rows (..., D), float32 on the host: row / maximum for "dynamic",
        and what every key gives for the rest.
        """
        if self.scaling == "standardize":
            return self._standardized(np.asarray(rows))
        stored = np.asarray(rows).astype(np.float32)
        if self.binarization == "threshold":
            return (stored >= np.float32(0.5 * self.maximum)).astype(np.float32)
        if self.binarization == "dynamic" or self.scaling == "unit":
            return np.asarray(stored * np.float32(1.0 / self.maximum))
        return stored

    def staged(self, rows: NDArray[Any]) -> tuple[NDArray[Any], Callable[[PRNGKeyArray, Array], Array]]:
        """Rows (N, D) as they go to the device, and the function of (key, one of them) that gives x there.

        uint8 and float32 rows go as they are. float64 rows hold digits that a device in float32 would lose: they are
        standardised here, in float64, and what goes is x.
        """
        if rows.dtype == np.float64 and self.scaling == "standardize":
            return self._standardized(rows), _as_it_is
        return (rows.astype(np.float32) if rows.dtype == np.float64 else rows), self

    def inverse(self, x: NDArray[Any]) -> NDArray[Any]:
        """Model units (..., D) back to stored units, on the host: x * std + mean for "standardize", in float64 (float32
        could not hold a large mean's digits), and x * maximum for "unit" and for binarised data, of which 1 is the
        stored maximum: the others keep a floating dtype of x.
        """
        values = np.asarray(x)
        if values.dtype.kind != "f":
            values = values.astype(np.float32)
        if self.scaling == "standardize":
            mean, std = self._standardization(values.shape)
            return np.asarray(values.astype(np.float64) * std + mean)
        if self.scaling == "unit" or self.binarization != "none":
            return np.asarray(values * values.dtype.type(self.maximum))
        return values

    def log_jacobian(self, num_columns: int) -> float:
        """Nats to ADD, per example, to a log density of x to get one of the stored row.

        -sum(log std) for "standardize", -num_columns * log(maximum) for "unit". 0 for the data of
        Bernoulli models (binarised, binary, grey): what those give is no density, and units must not change it.
        """
        if self.std is not None:
            if num_columns != len(self.std):
                raise ValueError(f"{num_columns} columns asked of a standardisation of {len(self.std)}")
            return -math.fsum(math.log(value) for value in self.std)
        if self.scaling == "unit" and not (self.grey or self.binary):
            return -num_columns * math.log(self.maximum)
        return 0.0

    def _standardization(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and std as float64, for rows of `shape` (..., D)."""
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        if not shape or shape[-1] != len(mean):
            raise ValueError(f"rows of shape {shape} for {len(mean)} standardised columns")
        return mean, std

    def _standardized(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(row - mean) / std, computed in float64 a piece at a time; rows (..., D)."""
        mean, std = self._standardization(rows.shape)
        flat = rows.reshape(-1, len(mean))
        x = np.empty(flat.shape, np.float32)
        step = max(1, _CHUNK // len(mean))
        for start in range(0, len(flat), step):
            x[start : start + step] = (flat[start : start + step].astype(np.float64) - mean) / std
        return x.reshape(rows.shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `json` writes and `from_dict` reads back exactly."""
        plain = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            ValueError: for unknown or missing keys, wrong types, non-finite numbers, or fields that contradict.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"preprocessing must be a table of its fields, not {type(content).__name__}")
        names = {field.name for field in fields(cls)}
        if set(content) != names:
            unknown, missing = sorted(map(str, set(content) - names)), sorted(names - set(content))
            raise ValueError(f"preprocessing has unknown fields {unknown} and lacks {missing}")
        values = dict(content)
        for name in ("binarization", "scaling"):
            if not isinstance(values[name], str):
                raise ValueError(f"preprocessing {name} must be a string, not {values[name]!r:.80}")
        for name in ("mean", "std"):
            if isinstance(values[name], list) and all(_is_number(value) for value in values[name]):
                values[name] = tuple(float(value) for value in values[name])
            elif values[name] is not None:
                raise ValueError(f"preprocessing {name} must be a list of finite numbers or null")
        if not _is_number(values["maximum"]):
            raise ValueError(f"preprocessing maximum must be a finite number, not {values['maximum']!r:.80}")
        values["maximum"] = float(values["maximum"])
        return cls(**values)


def fix(
    preprocessing: Preprocessing, rows: NDArray[Any], key: PRNGKeyArray, *, chunk_rows: int | None = None
) -> NDArray[Any]:
    """Apply the preprocessing once to all rows (N, D), for data that are binarised once: validation and test parts.

    Row i is given the key fold_in(key, i), so the result does not depend on `chunk_rows`, the number of rows in memory
    as float32 at a time (by default about 16 MiB of them). Returns (N, D), uint8 if binarised, else float32.
    """
    num_examples, num_columns = rows.shape
    step = max(1, _CHUNK // max(1, num_columns)) if chunk_rows is None else chunk_rows
    if step < 1:
        raise ValueError(f"chunk_rows must be 1 or more, not {chunk_rows}")
    if preprocessing.scaling == "standardize":
        return preprocessing.expected(rows)
    result = np.empty(rows.shape, np.float32 if preprocessing.binarization == "none" else np.uint8)
    for start in range(0, num_examples, step):
        stop = min(start + step, num_examples)
        numbers = jnp.arange(start, stop, dtype=jnp.uint32)
        result[start:stop] = np.asarray(_preprocess_rows(preprocessing, key, numbers, rows[start:stop]))
    return result


def _as_it_is(key: PRNGKeyArray, row: Array) -> Array:
    return row


@partial(jax.jit, static_argnums=0)
def _preprocess_rows(preprocessing: Preprocessing, key: PRNGKeyArray, numbers: Array, rows: Array) -> Array:
    def one(number: Array, row: Array) -> Array:
        return preprocessing(jax.random.fold_in(key, number), row)

    return jax.vmap(one)(numbers, rows)


def _is_number(value: Any) -> bool:
    """Whether `value` is a finite real number that a float holds (JSON knows integers of any length)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**1000
