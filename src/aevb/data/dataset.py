"""The value that every source of data becomes: rows as stored, with their names and labels."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """N examples of D numbers each, as they were stored.

    Attributes:
        name: the data name, the path as it was given, or "array"; used in messages.
        rows: (N, D), C-contiguous and read-only, uint8 or float32, finite. An array that already had this form is
            shared with the caller, not copied: do not change it afterwards.
        event_shape: the shape of one example before it was flattened; its product is D.
        labels: (N,) integers or strings, or None.
        columns: the D column names of a table, or None.

    Raises:
        DataError: if the parts do not fit together. Values are checked where data come in (`aevb.data.load`).
    """

    name: str
    rows: NDArray[Any]
    event_shape: tuple[int, ...]
    labels: NDArray[Any] | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
            raise DataError(
                f"{self.name!r}: rows must be (N, D) of uint8 or float32, not {rows.dtype.name} of shape "
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

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:<hex>` of the shape, dtype and little-endian bytes of `rows`; computed once."""
        rows = self.rows.astype(self.rows.dtype.newbyteorder("<"), copy=False)
        digest = hashlib.sha256(f"{rows.shape} {rows.dtype.name}\n".encode())
        digest.update(rows.data)
        return f"sha256:{digest.hexdigest()}"

    def take(self, indices: NDArray[Any] | list[int]) -> "Dataset":
        """The examples at `indices` (1-D integers in [0, N)), in that order, with their labels.

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
        return replace(self, rows=self.rows[chosen], labels=labels)
