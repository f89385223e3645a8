"""What the derivative of a sample by a parameter must be."""

import numpy as np

from ._compare import SIGMA, require

ENOUGH = 0.99  # of the draws: the others may lie where a map has a kink, or a circle is cut


def follows_differences(slope: np.ndarray, difference: np.ndarray) -> bool:
    """Whether it is the central difference, the noise held fixed: where a sample is a smooth map of its noise."""
    slope, difference = slope.reshape(len(slope), -1), difference.reshape(len(slope), -1)
    scale = np.median(np.abs(difference))
    close = np.abs(slope - difference) <= 1e-4 * np.abs(difference) + 1e-5 * scale + 1e-9
    return bool(np.all(close, axis=1).mean() >= ENOUGH)


def moves_means_as_the_density(
    z: np.ndarray, slope: np.ndarray, score: np.ndarray, *, circle: bool
) -> tuple[bool, float]:
    """Whether E[f'(z) dz] = E[f(z) d log q], of a few bounded f: where a sampler rejects, and no difference tells.

    On a circle f must be periodic: the formula knows of no cut.

    Returns:
        Whether, and the largest departure in standard errors.
    """
    z, slope = z.reshape(len(z), -1), slope.reshape(len(z), -1)
    width = np.maximum(np.quantile(z, 0.75, axis=0) - np.quantile(z, 0.25, axis=0), 1e-300)
    u = (z - np.median(z, axis=0)) / width
    worst = 0.0
    bounded = [
        (np.tanh(u), 1 / np.cosh(np.clip(u, -300, 300)) ** 2 / width),
        (1 / (1 + u**2), -2 * u / (1 + u**2) ** 2 / width),
    ]
    for f, df in [(np.sin(z), np.cos(z)), (np.cos(z), -np.sin(z))] if circle else bounded:
        gap = np.sum(df * slope - (f - f.mean(axis=0)) * score[:, None], axis=1)
        worst = max(worst, float(abs(gap.mean()) / max(gap.std(ddof=1) / np.sqrt(len(gap)), 1e-12)))
    return worst <= SIGMA, worst


def check_path(
    who: str,
    member: int,
    name: str,
    *,
    z: np.ndarray,
    slope: np.ndarray,
    difference: np.ndarray,
    score: np.ndarray | None,
    circle: bool,
) -> None:
    """The derivative dz / d parameter at each draw: by differences, or else in the mean.

    `score` is d log q / d parameter at z held fixed; None where it does not average to zero.
    """
    of = f"{who}, member {member}: the derivative of a sample by {name}"
    require(np.isfinite(slope).all(), f"{of} is not finite at every draw")
    if follows_differences(slope, difference):
        return
    i = int(np.argmax(np.abs(slope - difference).reshape(len(slope), -1).max(axis=1)))
    told = f"{of} is {slope[i].ravel()[:3]} at {z[i].ravel()[:3]}, where a central difference gives " + (
        f"{difference[i].ravel()[:3]}"
    )
    require(score is not None, f"{told}; the sampler must be a differentiable map of noise that knows no parameter")
    assert score is not None
    right, worst = moves_means_as_the_density(z, slope, score, circle=circle)
    require(
        right,
        f"{told}; nor does it move means as the density does, by {worst:.1f} standard errors: gradients through "
        "samples are wrong. Write the sampler as a map of noise, or set has_rsample to False",
    )
