"""From any numeric array to (N, D) rows of uint8 or float32: exact, or refused by name."""

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

    uint8 stays uint8; bools and integers that all lie in 0..255 become uint8; other integers become float32 if
    every one survives exactly; floats become float32, rounded to nearest. The input is never written to.

    Raises:
        DataError: for masked arrays, other dtypes, fewer than two dimensions, no rows or columns, NaN or infinity,
            an integer that float32 cannot hold exactly, or a float beyond float32's range.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"{name!r} is a masked array: fill or drop the masked values first (array.filled, array.data)")
    array = np.asarray(array)
    check_dtype(array.dtype, name)
    if array.ndim < 2:
        raise DataError(
            f"{name!r} has shape {array.shape}, expected (N, D) or (N, ...): one row per example; "
            "for N examples of one number use array.reshape(-1, 1)"
        )
    event_shape = tuple(int(size) for size in array.shape[1:])
    num_examples, num_columns = int(array.shape[0]), prod(event_shape)
    if num_examples == 0 or num_columns == 0:
        found = "0 rows" if num_examples == 0 else "0 columns"
        raise DataError(f"{name!r} has {found} (shape {array.shape}): at least one row and one column are needed")
    rows = array.reshape(num_examples, num_columns)
    if rows.dtype.kind == "f":
        rows = _float_rows(rows, name, columns)
    elif rows.dtype.kind == "b" or (int(rows.min()) >= 0 and int(rows.max()) <= 255):
        rows = rows.astype(np.uint8, copy=False)
    else:
        rows = _integer_rows(rows, name, columns)
    return Dataset(name, np.ascontiguousarray(rows), event_shape, as_labels(labels, num_examples, name), columns)


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
    """Words for one entry of an array, both indices 0-based."""
    named = "" if columns is None else f" ({columns[column]!r})"
    return f"row {row}, column {column}{named}, counted from 0"


def _float_rows(rows: NDArray[Any], name: str, columns: tuple[str, ...] | None) -> NDArray[Any]:
    bad, first, value = 0, (0, 0), ""
    for start, block in blocks(rows):
        wrong = ~np.isfinite(block)
        if wrong.any():
            if bad == 0:
                row, column = (int(i) for i in np.argwhere(wrong)[0])
                first, value = (start + row, column), str(block[row, column])
            bad += int(wrong.sum())
    if bad:
        raise DataError(
            f"{name!r} holds {bad} NaN or infinite value{'s' if bad > 1 else ''}; the first is {value} at "
            f"{place(*first, columns)}: remove or fill these before fitting"
        )
    with np.errstate(over="ignore", under="ignore"):
        narrow = rows.astype(np.float32, copy=False)
    if rows.dtype.itemsize > 4:
        for start, block in blocks(narrow):
            wrong = np.isinf(block)
            if wrong.any():
                row, column = (int(i) for i in np.argwhere(wrong)[0])
                raise DataError(
                    f"{name!r} holds {rows[start + row, column]} at {place(start + row, column, columns)}, beyond "
                    "float32's range of 3.4e38: rescale the data"
                )
    return narrow


def _integer_rows(rows: NDArray[Any], name: str, columns: tuple[str, ...] | None) -> NDArray[Any]:
    narrow = rows.astype(np.float32)
    if rows.dtype.itemsize <= 2 or (int(rows.min()) >= -(2**24) and int(rows.max()) <= 2**24):
        return narrow
    limit = np.float32(float(np.iinfo(rows.dtype).max) + 1.0)  # a power of two, hence exact
    step = next(blocks(rows))[1].shape[0]
    for start in range(0, rows.shape[0], step):
        whole, rounded = rows[start : start + step], narrow[start : start + step]
        inside = rounded < limit
        back = np.where(inside, rounded, np.float32(0)).astype(rows.dtype)
        wrong = ~inside | (back != whole)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                f"{name!r} holds the integer {whole[row, column]} at {place(start + row, column, columns)}, which "
                "float32 cannot hold exactly (above 2**24): subtract an offset, rescale, or convert with "
                "array.astype(np.float32) if rounding does no harm"
            )
    return narrow
