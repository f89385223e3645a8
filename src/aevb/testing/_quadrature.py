"""Integrals over a support of one dimension: the trapezoidal rule after a map whose ends fall off doubly exponentially.

Takahasi & Mori (1974). It bears an infinite density at an edge, and tails as heavy as Cauchy's.
"""

from typing import Any, NamedTuple

import numpy as np

from aevb.distributions import constraints

_T = np.linspace(-4.5, 4.5, 2001)


class Rule(NamedTuple):
    """Points and weights of an integral."""

    points: np.ndarray
    weights: np.ndarray

    def integral(self, log_density: np.ndarray, values: np.ndarray | float = 1.0) -> float:
        """Of values times the density; what is no number, at an edge, is left out."""
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.exp(log_density) * self.weights * values
        return float(np.sum(terms[np.isfinite(terms)]))


def rule(lower: float, upper: float, middle: float, width: float) -> Rule:
    """Over (lower, upper), either of which may be infinite; closest about the middle, by the width."""
    inner, slope = np.pi / 2 * np.sinh(_T), np.pi / 2 * np.cosh(_T) * (_T[1] - _T[0])
    if np.isfinite(lower) and np.isfinite(upper):
        half = (upper - lower) / 2
        # From the nearer edge, so that points next to it do not become the edge.
        from_edge = 2 * half / (1 + np.exp(2 * np.abs(inner)))
        points = np.where(inner < 0, lower + from_edge, upper - from_edge)
        return Rule(points, half * slope / np.cosh(inner) ** 2)
    if np.isfinite(lower):
        grown = max(middle - lower, 1e-300) * np.exp(inner)
        return Rule(lower + grown, slope * grown)
    if np.isfinite(upper):
        grown = max(upper - middle, 1e-300) * np.exp(inner)
        return Rule(upper - grown, slope * grown)
    return Rule(middle + width * np.sinh(inner), width * slope * np.cosh(inner))


def edges_of(support: Any) -> tuple[Any, Any] | None:
    """(lower, upper) of a support that has them, of one number or of many alike; None of another one.

    Either can be infinite; an angle's, which only say where the circle is cut, are left to `is_circle`.
    """
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    lower, upper = getattr(support, "lower_bound", -np.inf), getattr(support, "upper_bound", np.inf)
    known = hasattr(support, "lower_bound") or hasattr(support, "upper_bound")
    return (lower, upper) if known or support is constraints.real else None


def is_circle(support: Any) -> bool:
    """Whether a support is one of angles, of which each stands for others, a turn away."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support is constraints.circular
