"""What the numbers of a report are about, and what computed them."""

import importlib.metadata
import math
import platform
from typing import Any

import numpy as np

from aevb._version import __version__
from aevb.fitted import FittedModel


def data_kind(fitted: FittedModel) -> str:
    """What the numbers are about. Results on different kinds are results on different data sets."""
    if fitted.spec is None:
        return "rows as they are given to a model of one's own"
    p = fitted.preprocessing
    if p.grey:
        return "grey pixels: a cross-entropy, not a likelihood"
    if p.binarization == "dynamic":
        return "binarised: drawn afresh at each presentation in training, once with a fixed key here"
    if p.binarization == "threshold":
        return "binarised at one half of the maximum"
    if p.binary:
        return "binary as they are (static)"
    return {"none": "values as they are", "unit": "values scaled to [0, 1]", "standardize": "values standardised"}[
        p.scaling
    ]


def versions(fitted: FittedModel) -> dict[str, str]:
    """Of what computed the numbers, and of what fitted the model."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "numpyro", "equinox", "numpy")}
    return {
        "aevb": __version__,
        "fitted_with_aevb": fitted.aevb_version,
        "python": platform.python_version(),
        **packages,
    }


def as_json(value: Any) -> Any:
    """As JSON knows it: lists for arrays, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
