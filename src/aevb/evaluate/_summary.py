"""Means over a data set, with their standard error."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Mean(NamedTuple):
    """A mean over rows and its standard error, in nats per example."""

    value: float
    standard_error: float
    num_rows: int

    def to_dict(self) -> dict[str, float | None]:
        """Mean and standard error as plain values for JSON; an error that is not known is None."""
        return {"mean": self.value, "standard_error": self.standard_error if np.isfinite(self.standard_error) else None}

    def __str__(self) -> str:
        return f"{self.value:z.2f}" + (f" ± {self.standard_error:.2f}" if np.isfinite(self.standard_error) else "")


def mean(per_row: ArrayLike) -> Mean:
    """Mean over rows in float64, and the standard error that the choice of these N rows (and, where a row's value is
    itself an estimate, its noise) gives it: sd / sqrt(N). NaN for a single row, whose spread is unknown.

    Args:
        per_row: (N,), one value per row, N >= 1.

    Example:
        >>> print(mean(np.array([-1.0, -3.0])))
        -2.00 ± 1.00
    """
    values = np.asarray(per_row, dtype=np.float64)
    n = len(values)
    if n == 0:
        raise ValueError("cannot take a mean over 0 rows")
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Mean(float(values.mean()), error, n)


def means(per_row: Mapping[str, ArrayLike] | None) -> dict[str, Mean] | None:
    """`mean` of each of several values by name, where there are any."""
    return None if per_row is None else {name: mean(values) for name, values in per_row.items()}
