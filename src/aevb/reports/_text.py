"""Numbers as text and as plain values."""

import re
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


# What the command line's flags and verbs are in Python, where they have another name there.
_IN_PYTHON = {
    "--method ais": 'ReportSettings(method="ais")',
    "--num-samples": "num_samples",
    "--distributions": "num_distributions",
    "leave out --quick": "leave out diagnostics=False",
    "aevb compare RUN RUN": "aevb.reports.compare",
}
_IN_BRACKETS = re.compile(r" \(--[^)]*\)")


def without_flags(text: str) -> str:
    """A sentence for a model of one's own, which the command line does not know.

    Example:
        >>> without_flags("Use --method ais. A larger encoder (--hidden) or another --prior may help.")
        'Use ReportSettings(method="ais"). A larger encoder or another prior may help.'
    """
    for flag, name in _IN_PYTHON.items():
        text = text.replace(flag, name)
    return _IN_BRACKETS.sub("", text).replace("--", "")
