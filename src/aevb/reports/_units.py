"""The units of densities: a model of scaled data has another density than one of the data as they came."""

from collections.abc import Mapping
from typing import Any

# What is a log density of x in an evaluation; every log p(x) ends in the word.
_DENSITIES = ("elbo", "reconstruction", "log_likelihood")


def in_data_units(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The log densities of an evaluation in the data's own units: each with the scaling's log-Jacobian added.

    Empty where the two are the same: for probabilities, which have no unit, and for data that are not scaled.

    Args:
        content: an evaluation, as `Evaluation.to_dict` and `evaluation.json` have it.

    Example:
        >>> evaluation = {"elbo": {"mean": -3.0, "standard_error": 0.1}, "kl": {"mean": 1.0}, "log_jacobian": -2.0}
        >>> in_data_units(evaluation)
        {'elbo': {'mean': -5.0, 'standard_error': 0.1}}
    """
    jacobian = content.get("log_jacobian", 0.0)
    if not jacobian:
        return {}
    return {
        key: {**value, "mean": value["mean"] + jacobian}
        for key, value in content.items()
        if isinstance(value, Mapping) and key.endswith(_DENSITIES) and value.get("mean") is not None
    }


def about_units(log_jacobian: float) -> str:
    """One sentence on the units of a table; empty where there is but one.

    Example:
        >>> about_units(-9.953)
        "Densities are in the data's own units; of the scaled data they are 9.95 nats higher."
    """
    if not log_jacobian:
        return ""
    way = "higher" if log_jacobian < 0 else "lower"
    return f"Densities are in the data's own units; of the scaled data they are {abs(log_jacobian):.2f} nats {way}."
