"""What a distribution's density must be: a number where there are draws, zero elsewhere, one in all, and the draws'."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ._compare import SIGMA, require
from ._quadrature import Rule, is_circle, rule

Densities = Callable[[np.ndarray], np.ndarray]  # points (M, G), G for each of M members -> log densities (M, G)


class Draws(NamedTuple):
    """What one member told of itself, in NumPy."""

    z: np.ndarray  # (n, *event)
    log_q: np.ndarray  # (n,)
    edges: tuple[float, float] | None  # of its support, of one dimension


def check_draws(who: str, member: int, draws: Draws, inside: np.ndarray) -> None:
    """Draws are finite, lie in the support, and have a density; `inside` is what the support says of them."""
    of = f"{who}, member {member}"
    require(np.isfinite(draws.z).all(), f"{of}: a draw is not finite; hold the sampler within what a float can hold")
    require(inside.all(), f"{of}: {int((~inside).sum())} of {len(inside)} draws lie outside its own support")
    bad = ~np.isfinite(draws.log_q)
    require(
        not bad.any(),
        f"{of}: log_prob is {draws.log_q[bad][:1]} at its own draw {draws.z[bad][:1]}; it must be finite there",
    )


def beyond(edges: tuple[float, float]) -> np.ndarray:
    """Points outside of (lower, upper), near and far; padded with infinity, which lies outside of every support."""
    lower, upper = edges
    width = upper - lower if np.isfinite(upper - lower) else 1.0 + abs(lower if np.isfinite(lower) else upper)
    steps = np.array([1e-3, 1.0, 1e3]) * width
    found = [*(lower - steps if np.isfinite(lower) else ()), *(upper + steps if np.isfinite(upper) else ())]
    return np.array([*found, *[np.inf] * (6 - len(found))])


def check_outside(who: str, member: int, points: np.ndarray, log_q: np.ndarray) -> None:
    """A density outside of the support is zero: its logarithm -inf, never NaN, never a number."""
    wrong = ~np.isneginf(log_q)
    require(
        not wrong.any(),
        f"{who}, member {member}: log_prob is {log_q[wrong][:1]} at {points[wrong][:1]}, outside its support; it must "
        "be -inf there, by a jnp.where on the value (and on what goes into the other branch, for the gradient)",
    )


def rule_for(draws: Draws) -> Rule:
    """An integral over a member of one dimension."""
    z = draws.z.reshape(len(draws.z))
    low, middle, high = np.quantile(z, [0.25, 0.5, 0.75])
    lower, upper = draws.edges or (-np.inf, np.inf)
    return rule(lower, upper, middle, max(high - low, 1e-300))


def check_mass(who: str, member: int, draws: Draws, over: Rule, log_q: np.ndarray) -> None:
    """The density's integral is one, and means under it are those of the draws."""
    total = over.integral(log_q)
    require(
        abs(total - 1) < 2e-3,
        f"{who}, member {member}: its density integrates to {total:.6g}, not to 1; look at log_prob's constant",
    )
    z = draws.z.reshape(len(draws.z))
    middle, width = np.median(z), max(np.quantile(z, 0.75) - np.quantile(z, 0.25), 1e-300)
    for name, fn in (("tanh(u)", np.tanh), ("1 / (1 + u^2)", lambda u: 1 / (1 + u**2))):
        with np.errstate(over="ignore"):
            exact, found = over.integral(log_q, fn((over.points - middle) / width)), fn((z - middle) / width)
        error = found.std(ddof=1) / np.sqrt(len(z))
        require(
            abs(found.mean() - exact) <= SIGMA * error + 1e-3 * np.abs(found).max(),
            f"{who}, member {member}: with u = (z - {middle:.3g}) / {width:.3g}, the mean of {name} over {len(z)} "
            f"draws is {found.mean():.5g} +- {error:.2g}, and under the density {exact:.5g}; sampler and log_prob "
            "are not of one distribution",
        )


def check_score(who: str, member: int, scores: Mapping[str, np.ndarray]) -> None:
    """E_q[d log q / d parameter] = 0, wherever the parameters do not move the support's edges."""
    for name, score in scores.items():
        mean, error = score.mean(), score.std(ddof=1) / np.sqrt(len(score))
        require(
            np.isfinite(score).all() and abs(mean) <= SIGMA * error + 1e-9 * (1 + np.abs(score).max()),
            f"{who}, member {member}: the mean of d log q / d {name} over {len(score)} draws is {mean:.4g} +- "
            f"{error:.2g}, and must be 0; log_prob lacks a term that depends on {name}, or the sampler is another's",
        )


def one_dimension(event_shape: tuple[int, ...], support: Any, edges: Any) -> bool:
    """Whether there is one coordinate, of which the density can be integrated."""
    known = edges is not None or is_circle(support)
    return int(np.prod(event_shape, dtype=int)) == 1 and known and not support.is_discrete
