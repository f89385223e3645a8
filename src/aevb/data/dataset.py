"""The value that every source of data becomes: rows as stored, with their names and labels."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from aevb.errors import DataError

_ROWS_AT_ONCE = 4096  # converted in one go
_FEW_ROWS = 20  # of which a column of few values, too, may have a different one in each
_BY_CHANCE = 1e-6  # what has a lower probability is more than chance


@dataclass(frozen=True, eq=False)
class Dataset:
    """N examples of D numbers each, as they were stored.

    Attributes:
        name: the data name, the path as it was given, or "array"; used in messages.
        rows: (N, D), C-contiguous and read-only, finite: uint8 (0s and 1s, or pixels), float32, or float64 where
            float32 would round. An array that already had this form is shared with the caller, not copied: do not
            change it afterwards.
        event_shape: the shape of one example before it was flattened; its product is D.
        labels: (N,) integers or strings, or None.
        columns: the D column names of a table, or None.
        row_numbers: (N,), the number that each row has, from 0, in the file or array that the user gave; None: 0..N-1.
        given: name of the dtype that the values had there, which says more than how they are stored; None: as stored.

    Raises:
        DataError: if the parts do not fit together. Values are checked where data come in (`aevb.data.load`).
    """

    name: str
    rows: NDArray[Any]
    event_shape: tuple[int, ...]
    labels: NDArray[Any] | None = None
    columns: tuple[str, ...] | None = None
    row_numbers: NDArray[Any] | None = None
    given: str | None = None

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.dtype.type not in (np.uint8, np.float32, np.float64) or not rows.dtype.isnative:
            raise DataError(
                f"{self.name!r}: rows must be (N, D) of uint8, float32 or float64, not {rows.dtype.name} of shape "
                f"{rows.shape}; use aevb.data.load, which converts"
            )
        num_examples, num_columns = rows.shape
        if num_examples == 0 or num_columns == 0:
            raise DataError(f"{self.name!r} has {num_examples} rows and {num_columns} columns; both must be 1 or more")
        if prod(self.event_shape) != num_columns:
            raise DataError(f"{self.name!r}: event shape {self.event_shape} does not hold {num_columns} columns")
        if self.labels is not None and (self.labels.shape != (num_examples,) or self.labels.dtype.kind not in "iuU"):
            raise DataError(
                f"{self.name!r}: labels must be {num_examples} integers or strings, not {self.labels.dtype.name} of "
                f"shape {self.labels.shape}"
            )
        if self.columns is not None and len(self.columns) != num_columns:
            raise DataError(f"{self.name!r}: {len(self.columns)} column names for {num_columns} columns")
        numbers = self.row_numbers
        if numbers is not None and (numbers.shape != (num_examples,) or numbers.dtype.kind not in "iu"):
            raise DataError(
                f"{self.name!r}: row_numbers must be {num_examples} integers, not {numbers.dtype.name} of shape "
                f"{numbers.shape}"
            )
        view = np.ascontiguousarray(rows).view()
        view.flags.writeable = False
        object.__setattr__(self, "rows", view)

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def __repr__(self) -> str:
        extra = ("" if self.labels is None else ", labels") + ("" if self.columns is None else ", columns")
        return f"Dataset({self.name!r}: {len(self)} x {self.event_shape} {self.rows.dtype.name}{extra})"

    @property
    def num_columns(self) -> int:
        """D, the length of one flattened example."""
        return int(self.rows.shape[1])

    @property
    def came_as_bytes(self) -> bool:
        """Whether the values were uint8 where they came from, as those of pixels are."""
        return (self.given or self.rows.dtype.name) == "uint8"

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:<hex>` of the shape, dtype and little-endian bytes of `rows`; computed once."""
        rows = self.rows.astype(self.rows.dtype.newbyteorder("<"), copy=False)
        digest = hashlib.sha256(f"{rows.shape} {rows.dtype.name}\n".encode())
        digest.update(rows.data)
        return f"sha256:{digest.hexdigest()}"

    def take(self, indices: NDArray[Any] | list[int]) -> "Dataset":
        """The examples at `indices` (1-D integers in [0, N)), in that order, with their labels and row numbers.

        Raises:
            DataError: if `indices` is empty, not 1-D integers, or out of range.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
            raise DataError(
                f"take needs one or more integer row numbers, not {chosen.dtype.name} of shape {chosen.shape}"
            )
        low, high = int(chosen.min()), int(chosen.max())
        if low < 0 or high >= len(self):
            raise DataError(f"row {low if low < 0 else high} asked of {self.name!r}, which has rows 0..{len(self) - 1}")
        labels = None if self.labels is None else self.labels[chosen]
        numbers = chosen if self.row_numbers is None else self.row_numbers[chosen]
        return replace(self, rows=self.rows[chosen], labels=labels, row_numbers=numbers.astype(np.int64))


def rows_found_in(rows: Dataset, among: Dataset) -> NDArray[np.bool_]:
    """Which rows of one data set occur, number for number, among those of another: (N,) of truth values.

    Equal numbers are equal rows, whichever dtype stores them, and so are numbers that were rounded to the narrower
    float type of the two. By a 128-bit digest of each row.

    Raises:
        DataError: the two have different numbers of columns.

    Example:
        >>> some, others = np.array([[1.0, 2.5], [0.0, 1.0]]), np.array([[0, 1], [7, 8]])
        >>> rows_found_in(Dataset("a", some, (2,)), Dataset("b", others.astype(np.uint8), (2,)))
        array([False,  True])
    """
    if rows.num_columns != among.num_columns:
        raise DataError(
            f"{rows.name!r} has {rows.num_columns} columns, and {among.name!r}, among whose rows they are looked for, "
            f"{among.num_columns}; give both the same columns"
        )
    dtypes = (rows.rows.dtype, among.rows.dtype)
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    dtype = min(floats, key=lambda dtype: dtype.itemsize) if floats else np.result_type(*dtypes)
    known = set(_digests(among.rows, dtype))
    return np.fromiter((digest in known for digest in _digests(rows.rows, dtype)), np.bool_, len(rows))


def share_repeated(dataset: Dataset) -> float:
    """The share of the rows that equal another row of the same data set.

    So many of a further sample of the same population would be found among these rows by chance, if rows repeat by
    themselves, as answers of a questionnaire do. Where they are copies of each other, this says nothing of new rows; it
    is 0 where that is evident, because a column (of measurements, or an id) tells all rows apart that differ at all.

    Example:
        >>> share_repeated(Dataset("a", np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0], [3.0, 3.0]]), (2,)))
        0.5
    """
    digests = list(_digests(dataset.rows, dataset.rows.dtype))
    counts = Counter(digests)
    repeated = sum(count for count in counts.values() if count > 1)
    if repeated and _are_copies(dataset.rows, digests):
        return 0.0
    return repeated / len(dataset)


def _are_copies(rows: NDArray[Any], digests: list[bytes]) -> bool:
    """Whether no two different rows share the value of some column, though each of them could: then what shares them
    all is no chance.
    """
    first = list({digest: index for index, digest in enumerate(digests)}.values())
    if len(first) < _FEW_ROWS or rows.shape[1] < 2:  # of one column, different rows always differ in it
        return False
    return any(len(np.unique(rows[first, column])) == len(first) for column in range(rows.shape[1]))


def columns_of_one_value(dataset: Dataset) -> tuple[str, ...]:
    """Names, or numbers from 1, of the columns more than half of whose values are one and the same.

    A density has no upper limit at a value that repeats: there its scale can shrink for as long as training goes on.

    Example:
        >>> columns_of_one_value(Dataset("a", np.array([[0.0, 1.0], [0.0, 2.0], [5.0, 3.0]]), (2,), columns=("u", "v")))
        ('u',)
    """
    found: list[int] = []
    for start in range(0, dataset.num_columns, 64):
        block = dataset.rows[:, start : start + 64]
        middle = np.partition(block, len(block) // 2, axis=0)[len(block) // 2]  # it is that value, if there is one
        count = np.count_nonzero(block == middle, axis=0)
        of_one_value = (2 * count > len(block)) & (count > 1)  # a single row repeats nothing
        found += (start + np.flatnonzero(of_one_value)).tolist()
    return tuple(dataset.columns[i] if dataset.columns else str(i + 1) for i in found)


def one_value_words(names: tuple[str, ...]) -> str:
    """What `columns_of_one_value` means for a log density, or nothing where there are none.

    Example:
        >>> print(one_value_words(("erl",)))
        More than half of the values of column erl are one value: a density has no upper limit there, and how far ...
    """
    if not names:
        return ""
    some = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
    which = f"column {some}" if len(names) == 1 else f"each of the columns {some}"
    return (
        f"More than half of the values of {which} are one value: a density has no upper limit there, and how far its "
        "scale has shrunk, rather than the fit, can set log p(x)."
    )


def more_than_by_chance(found: int, total: int, chance: float) -> bool:
    """Whether so many of so many rows would hardly be found where each is found with this probability.

    Example:
        >>> more_than_by_chance(1, 300, 0.0), more_than_by_chance(20, 20, 0.5), more_than_by_chance(20, 20, 1.0)
        (True, True, False)
    """
    return bool(found > 0 and scipy.special.bdtrc(found - 1, total, chance) < _BY_CHANCE)


def _digests(rows: NDArray[Any], dtype: np.dtype[Any]) -> Iterator[bytes]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE].astype(dtype) + dtype.type(0)  # -0.0 and 0.0 are one number
        for row in block:
            yield hashlib.blake2b(row.data, digest_size=16).digest()
