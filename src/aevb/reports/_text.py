"""Numbers as text and as plain values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aevb.evaluate import Mean


def nats(mean: Mapping[str, Any] | Mean) -> str:
    """A mean with its standard error, in as many decimals as the error allows.

    Example:
        >>> nats({"mean": -137.5234, "standard_error": 0.4812}), nats({"mean": -0.12345, "standard_error": 0.0004})
        ('-137.52 ± 0.48', '-0.1235 ± 0.0004')
    """
    value, error = cells(mean.to_dict() if isinstance(mean, Mean) else mean)
    return f"{value} ± {error}" if error else value


def cells(mean: Mapping[str, Any]) -> tuple[str, str]:
    """The mean and its standard error as text: two decimals, and a third or fourth where the error is that small."""
    value, error = mean["mean"], mean["standard_error"]
    if error is None or not np.isfinite(error):
        return f"{value:z.2f}", ""
    decimals = 2 if error >= 0.005 else 3 if error >= 0.0005 else 4
    return f"{value:z.{decimals}f}", f"{error:.{decimals}f}"
