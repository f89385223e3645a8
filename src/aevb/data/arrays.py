"""From any numeric array to (N, D) rows of uint8, float32 or float64: exact, or refused by name."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError

from .dataset import Dataset

_BLOCK = 1 << 22  # numbers looked at in one go: bounds the memory of a pass over the data

_REFUSED = {
    "c": "complex numbers: keep the real part or stack real and imaginary parts as columns",
    "M": "dates: turn them into numbers, for example days since the first one",
    "m": "time differences: turn them into numbers, for example array / np.timedelta64(1, 's')",
    "O": "Python objects: convert with array.astype(np.float32)",
    "S": "byte strings: convert to numbers first",
    "U": "strings: convert to numbers first",
    "T": "strings: convert to numbers first",
    "V": "structured or raw records: stack the numeric fields into one (N, D) array",
}


def blocks(rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row number, block of whole rows) such that a block holds about four million numbers at most."""
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], step):
        yield start, rows[start : start + step]


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise DataError unless `dtype` is a bool, integer or real floating-point type."""
    if dtype.kind not in "biuf":
        reason = _REFUSED.get(dtype.kind, "not plain numbers: convert with array.astype(np.float32)")
        shown = "object" if dtype.hasobject else str(dtype)[:80]
        raise DataError(f"{name!r} has dtype {shown}, {reason}")


def from_array(
    array: NDArray[Any],
    name: str,
    labels: NDArray[Any] | None = None,
    columns: tuple[str, ...] | None = None,
) -> Dataset:
    """Check and convert an array (N, ...) of any real numeric dtype, byte order and memory order.

    The same numbers are stored alike whatever held them: 0s and 1s, and images (N, H, W[, C]) of whole numbers 0..255,
    as uint8; all others as float32 where every one survives that exactly, else as float64. Only uint8 as given stays
    uint8 in any shape, for bytes are pixels, and small integers need not be. The input is never written to.

    Raises:
        DataError: for masked arrays, other dtypes, fewer than two dimensions, no rows or columns, NaN or infinity,
            an integer that float64 cannot hold exactly, or a float beyond float32's range.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"{name!r} is a masked array: fill or drop the masked values first (array.filled, array.data)")
    array = np.asarray(array)
    check_dtype(array.dtype, name)
    if array.ndim < 2:
        raise DataError(
            f"{name!r} has shape {array.shape}, expected (N, D) or (N, ...): one row per example; "
            "for N examples of one number use array.reshape(-1, 1), for one example of D numbers array[None]"
        )
    event_shape = tuple(int(size) for size in array.shape[1:])
    num_examples, num_columns = int(array.shape[0]), prod(event_shape)
    if num_examples == 0 or num_columns == 0:
        found = "0 rows" if num_examples == 0 else "0 columns"
        raise DataError(f"{name!r} has {found} (shape {array.shape}): at least one row and one column are needed")
    rows = array.reshape(num_examples, num_columns)
    if rows.dtype.kind == "f":
        _refuse_non_finite(rows, name, columns)
    if rows.dtype == np.uint8 or is_binary(rows) or (has_image_shape(event_shape) and is_whole_byte(rows)):
        rows = rows.astype(np.uint8, copy=False)
    else:
        rows = _narrowest(rows if rows.dtype.kind == "f" else _integers(rows, name, columns), name, columns)
    return Dataset(
        name,
        np.ascontiguousarray(rows),
        event_shape,
        as_labels(labels, num_examples, name),
        columns,
        given=array.dtype.name,
    )


def has_image_shape(event_shape: tuple[int, ...]) -> bool:
    """Whether one example is laid out as an image is: (H, W) or (H, W, C), of more than one row and one column."""
    return len(event_shape) in (2, 3) and min(event_shape[:2]) > 1


def is_binary(rows: NDArray[Any]) -> bool:
    """Whether every value of (N, D) rows is 0 or 1."""
    return all(bool(((block == 0) | (block == 1)).all()) for _, block in blocks(rows))


def is_whole_byte(rows: NDArray[Any]) -> bool:
    """Whether every value of (N, D) rows is a whole number from 0 to 255, whatever its dtype."""
    if rows.dtype == np.uint8:
        return True
    return all(bool(((block >= 0) & (block <= 255) & (block % 1 == 0)).all()) for _, block in blocks(rows))


def as_labels(labels: NDArray[Any] | None, num_examples: int, name: str) -> NDArray[Any] | None:
    """Labels as (N,) integers or strings; (N, 1) is flattened, bools become uint8.

    Raises:
        DataError: for another dtype, or another number of labels than of rows.
    """
    if labels is None:
        return None
    if labels.dtype.kind not in "biuU":
        raise DataError(
            f"labels of {name!r} have dtype {str(labels.dtype)[:80]}: integers or strings are needed "
            "(labels.astype(str) makes strings of anything)"
        )
    if labels.shape not in ((num_examples,), (num_examples, 1)):
        raise DataError(f"{name!r} has {num_examples} rows but labels of shape {labels.shape}: one label per row")
    flat = labels.reshape(num_examples)
    return flat.astype(np.uint8 if flat.dtype.kind == "b" else flat.dtype.newbyteorder("="), copy=False)


def place(row: int, column: int, columns: tuple[str, ...] | None) -> str:
    """Words for one entry of an array, both indices 0-based: rows are shown so, columns counted from 1."""
    named = "" if columns is None else f" ({columns[column]!r})"
    return f"row {row} (from 0), column {column + 1} (from 1){named}"


def named(indices: list[int], columns: tuple[str, ...] | None) -> str:
    """Up to five columns by name, or by number counted from 1, and how many more there are."""
    shown = [repr(columns[i]) if columns else str(i + 1) for i in indices[:5]]
    return ", ".join(shown) + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")


def _refuse_non_finite(rows: NDArray[Any], name: str, columns: tuple[str, ...] | None) -> None:
    bad, first, value = 0, (0, 0), ""
    where: set[int] = set()
    for start, block in blocks(rows):
        wrong = ~np.isfinite(block)
        if wrong.any():
            if bad == 0:
                row, column = (int(i) for i in np.argwhere(wrong)[0])
                first, value = (start + row, column), str(block[row, column])
            bad += int(wrong.sum())
            where |= {int(i) for i in np.flatnonzero(wrong.any(axis=0))}
    if bad:
        several = f", in the columns {named(sorted(where), columns)}" if len(where) > 1 else ""
        raise DataError(
            f"{name!r} holds {bad} NaN or infinite value{'s' if bad > 1 else ''}{several}; the first is {value} at "
            f"{place(*first, columns)}: remove or fill these first"
        )


def _narrowest(rows: NDArray[Any], name: str, columns: tuple[str, ...] | None) -> NDArray[Any]:
    """Finite floats as float32 where all of them are exact in it, else as float64."""
    if rows.dtype.itemsize <= 4:
        return rows.astype(np.float32, copy=False)
    wide = rows.astype(np.float64, copy=False)
    with np.errstate(over="ignore", under="ignore"):
        narrow = wide.astype(np.float32)
    exact = True
    for start, block in blocks(narrow):
        wrong = np.isinf(block)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                f"{name!r} holds {rows[start + row, column]} at {place(start + row, column, columns)}, beyond "
                "float32's range of 3.4e38: rescale the data"
            )
        exact = exact and bool((block == wide[start : start + len(block)]).all())
    return narrow if exact else wide


def _integers(rows: NDArray[Any], name: str, columns: tuple[str, ...] | None) -> NDArray[np.float64]:
    """Integers as float64, every one exactly."""
    wide = rows.astype(np.float64)
    if rows.dtype.itemsize <= 4 or (int(rows.min()) >= -(2**53) and int(rows.max()) <= 2**53):
        return wide
    limit = float(np.iinfo(rows.dtype).max) + 1.0  # a power of two, hence exact
    for start, rounded in blocks(wide):
        whole = rows[start : start + len(rounded)]
        inside = rounded < limit
        wrong = ~inside | (np.where(inside, rounded, 0.0).astype(rows.dtype) != whole)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                f"{name!r} holds the integer {whole[row, column]} at {place(start + row, column, columns)}, which "
                "float64 cannot hold exactly (above 2**53): subtract an offset, rescale, or convert with "
                "array.astype(np.float64) if rounding does no harm"
            )
    return wide
