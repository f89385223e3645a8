"""How rows become the x that models see, and back: those of a data set with its preprocessing, or any arrays."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb._measures import log_jacobian
from aevb.data import ROUNDED, DataInfo, Dataset, Preprocessing, check_compatible, fix
from aevb.data import load as load_data
from aevb.errors import DataError
from aevb.models import AbstractGenerativeModel, Rows, Vae, X, as_floats, num_rows_of, take

# Of each array of a structure, its place in it and a row's shape.
Form = tuple[tuple[str, tuple[int, ...]], ...]
CHUNK = 10_000  # rows that are on the device at once


class AbstractTransform(abc.ABC):
    """From a stored row to the x of a model of one's own, and back.

    A frozen dataclass of plain values is the best form; `to_dict` is written into model files, for people to read.
    """

    @abc.abstractmethod
    def __call__(self, key: PRNGKeyArray, row: Any) -> X:
        """One stored row -> x. Pure and traceable. The key is new at each presentation in training; in evaluation it
        is fixed for each row."""

    def expected(self, row: Any) -> X:
        """The mean of x over the key, which is what `encode` shows the recognition model; x itself, if none is used."""
        return self(jax.random.key(0), row)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Many x of what is observed, (N, ...), as the data have them."""
        return x

    def log_jacobian(self) -> float:
        """Nats to ADD, for one example, to a log density of x to have that of the data; 0 if it is a probability."""
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say what it is: its class, and the fields of a dataclass."""
        fields: dict[str, Any] = dataclasses.asdict(self) if dataclasses.is_dataclass(self) else {}
        return {"kind": type(self).__name__, **fields}


@dataclass(frozen=True)
class AsStored(AbstractTransform):
    """x is the row."""

    def __call__(self, key: PRNGKeyArray, row: Any) -> X:
        """The row."""
        return row


class Feed(Protocol):
    """What a fitted model asks about rows."""

    @property
    def data(self) -> DataInfo:
        """What there is to say of the rows that were trained on."""

    def stored(self, rows: Any) -> Any:
        """Rows as the user gave them -> as they are stored, checked against those that were trained on."""

    def first(self, stored: Any, num: int) -> Any:
        """The first of stored rows, or all, where they are fewer."""

    def fixed(self, stored: Any, seed: int) -> Rows:
        """The x of all rows, with noise (of a binarisation, say) that the seed fixes."""

    def expected(self, stored: Any) -> Rows:
        """The mean of x over that noise."""

    def restored(self, x: np.ndarray) -> np.ndarray:
        """Many x of what is observed, in the units and the shape of the data."""

    def info(self, stored: Any) -> DataInfo:
        """What there is to say of stored rows."""

    @property
    def log_jacobian(self) -> float:
        """Nats by which a log density of the data is above that of x; 0 for probabilities."""


@dataclass(frozen=True)
class DatasetFeed:
    """Of a preset: rows of D numbers, prepared by a `Preprocessing`."""

    preprocessing: Preprocessing
    data: DataInfo
    spec: Vae

    def stored(self, rows: Any) -> Dataset:
        """As a `Dataset`."""
        dataset = load_data(rows)
        form = self.preprocessing, self.data.columns, self.data.event_shape
        check_compatible(*form, dataset, likelihood=self.spec.likelihood)
        return dataset

    def first(self, stored: Dataset, num: int) -> Dataset:
        """As a `Dataset`."""
        return stored.take(np.arange(min(num, len(stored))))

    def fixed(self, stored: Dataset, seed: int) -> np.ndarray:
        """(N, D)."""
        return fix(self.preprocessing, stored.rows, jax.random.key(seed))

    def expected(self, stored: Dataset) -> np.ndarray:
        """(N, D)."""
        return self.preprocessing.expected(stored.rows)

    def restored(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, *event_shape)."""
        return self.preprocessing.inverse(x).reshape(len(x), *self.data.event_shape)

    def info(self, stored: Dataset) -> DataInfo:
        """Name, fingerprint and form."""
        return DataInfo.of(stored)

    @property
    def log_jacobian(self) -> float:
        """Of the scaling."""
        return log_jacobian(self.spec, self.preprocessing)


@dataclass(frozen=True)
class RowsFeed:
    """Of a model of one's own: an array (N, ...), or any structure of arrays with N rows each."""

    transform: AbstractTransform
    data: DataInfo
    form: Form  # of each array, its place in the structure and a row's shape

    @classmethod
    def of(cls, rows: Rows, transform: AbstractTransform) -> "RowsFeed":
        """That of these rows.

        Raises:
            DataError: there are none, or the arrays have different lengths, or one is not of numbers.
        """
        rows = _as_arrays(rows)
        return cls(transform, _info_of(rows), _form_of(rows))

    def stored(self, rows: Any) -> Rows:
        """As arrays of the same structure and shapes as those that were trained on."""
        rows = _as_arrays(rows)
        if (form := _form_of(rows)) != self.form:
            raise DataError(f"rows must be arrays of rows of {spoken(self.form)}, got {spoken(form)}")
        return rows

    def first(self, stored: Rows, num: int) -> Rows:
        """As arrays."""
        return take(stored, slice(num))

    def fixed(self, stored: Rows, seed: int) -> Rows:
        """Row i with the key fold_in(key, i)."""
        if isinstance(self.transform, AsStored):
            return stored
        key = jax.random.key(seed)
        fn = jax.jit(jax.vmap(lambda i, row: self.transform(jax.random.fold_in(key, i), row)))
        return in_chunks(lambda part: fn(*part), (np.arange(num_rows_of(stored), dtype=np.uint32), stored))

    def expected(self, stored: Rows) -> Rows:
        """Row by row."""
        if isinstance(self.transform, AsStored):
            return stored
        return in_chunks(jax.jit(jax.vmap(self.transform.expected)), stored)

    def restored(self, x: np.ndarray) -> np.ndarray:
        """By the transform's inverse."""
        return np.asarray(self.transform.inverse(x))

    def form_of_example(self, generative: AbstractGenerativeModel, given: tuple[Any, ...]) -> Form | None:
        """The form of the example that a model makes of what is given, by shapes; None where a transform changes it."""
        if not isinstance(self.transform, AsStored):
            return None

        def examples(given: tuple[Any, ...]) -> Any:
            sample = functools.partial(generative.sample, jax.random.key(0))
            return jax.vmap(lambda given: sample(*given)[0])(given)

        try:
            return _form_of(jax.eval_shape(examples, as_floats(given)))
        except Exception as error:  # of the model's own code: it must reach the user as it is
            shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(given)]
            error.add_note(
                f"what is given has the shapes {shapes}; the model was fitted to rows of {spoken(self.form)}"
            )
            raise

    def info(self, stored: Rows) -> DataInfo:
        """Fingerprint and form."""
        return _info_of(stored)

    @property
    def log_jacobian(self) -> float:
        """As the transform says."""
        return float(self.transform.log_jacobian())


def in_chunks(fn: Any, rows: Rows) -> Any:
    """Apply a compiled function of many rows piece by piece, so that the device holds one piece at a time."""
    parts = []
    for start in range(0, max(num_rows_of(rows), 1), CHUNK):
        piece = jax.tree.map(lambda leaf, start=start: jnp.asarray(leaf[start : start + CHUNK]), rows)
        parts.append(jax.device_get(fn(piece)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _as_arrays(rows: Any) -> Rows:
    if isinstance(rows, Dataset):
        return rows.rows.reshape(len(rows), *rows.event_shape)

    def array(leaf: Any) -> np.ndarray:
        values = np.asarray(leaf)
        if values.dtype.kind not in "biuf" or values.ndim < 1:
            raise DataError(
                "rows must be arrays of numbers with N rows each, or a structure of such arrays; got "
                f"{type(leaf).__name__} of dtype {values.dtype} and shape {values.shape}"
            )
        if not np.isfinite(values).all():
            raise DataError("rows hold NaN or infinite values: a likelihood has no place for them; take them out")
        _refuse_rounding(values)
        return values

    if isinstance(rows, list):
        raise DataError("rows must be an array, or a structure (a tuple, a dict) of arrays; a list could be either")
    arrays = jax.tree.map(array, rows, is_leaf=lambda node: isinstance(node, Array | np.ndarray | list))
    if not jax.tree.leaves(arrays):
        raise DataError("there are no rows: give an array (N, ...), or a structure of arrays with N rows each")
    try:
        num_rows = num_rows_of(arrays)
    except ValueError as error:
        raise DataError(str(error)) from None
    if num_rows == 0:
        raise DataError("there are 0 rows")
    return arrays


def _refuse_rounding(values: np.ndarray) -> None:
    """Models and transforms compute in float32, in which numbers far from zero lose what tells them apart."""
    if values.size == 0 or values.dtype not in (np.float64, np.int64, np.int32, np.uint32, np.uint64):
        return
    flat = values.reshape(len(values), -1).astype(np.float64)
    lost = np.abs(flat - flat.astype(np.float32)).max(axis=0)
    wrong = (lost > ROUNDED * flat.std(axis=0)) & (flat.min(axis=0) < flat.max(axis=0))
    if wrong.any():
        raise DataError(
            f"{int(wrong.sum())} of {flat.shape[1]} columns of the rows are too far from zero for their spread: "
            "float32, in which a transform computes, too, loses it; subtract an offset from the rows before"
        )


def _info_of(rows: Rows) -> DataInfo:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(rows):
        digest.update(f"{leaf.shape} {leaf.dtype.name}\n".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    form = _form_of(rows)
    return DataInfo("array", f"sha256:{digest.hexdigest()}", num_rows_of(rows), form[0][1] if len(form) == 1 else ())


def _form_of(rows: Rows) -> Form:
    leaves: list[tuple[Any, np.ndarray]] = jax.tree_util.tree_leaves_with_path(rows)
    return tuple((jax.tree_util.keystr(path), leaf.shape[1:]) for path, leaf in leaves)


def spoken(form: Form) -> str:
    """A form in words."""
    return ", ".join(f"shape {shape}{f' at {name}' if name else ''}" for name, shape in form)


def form_to_plain(form: Form) -> list[dict[str, Any]]:
    """As JSON has it."""
    return [{"at": name, "shape": list(shape)} for name, shape in form]


def form_from_plain(content: Any) -> Form:
    """What `form_to_plain` gave.

    Raises:
        ValueError: it is not of that form.
    """
    if not isinstance(content, list) or not content:
        raise ValueError("the form of the rows must be a list")
    found = []
    for item in content:
        good = isinstance(item, Mapping) and isinstance(item.get("at"), str) and isinstance(item.get("shape"), list)
        if not good or not all(isinstance(size, int) and size >= 0 for size in item["shape"]):
            raise ValueError(f"the form of an array of rows must name its place and shape, got {item!r:.80}")
        found.append((item["at"], tuple(item["shape"])))
    return tuple(found)
