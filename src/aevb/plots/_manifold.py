"""The learned manifold: a plane of the latent space, decoded."""

from statistics import NormalDist
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ._draw import AXIS, Dims, Fitted, Target, check_dims, column_names, draw_images, is_image, panels_of, picture_size


def manifold_coordinates(
    n: int = 20,
    *,
    latent_dim: int = 2,
    dims: Dims = (0, 1),
    low: float = 0.05,
    high: float = 0.95,
    base: Any = None,
    draws: Any = None,
) -> NDArray[np.float64]:
    """An n × n grid of latent points at evenly spaced quantiles, low to high, of the prior in each axis.

    The prior is the standard Gaussian, or, where `draws` (S, latent_dim) from another one are given, their quantiles
    stand for its own.

    The rows are in reading order for a picture in which the first of `dims` increases to the right and the second
    upwards: row 0 is the upper left, with the lowest first and the highest second coordinate. The other axes stay at
    `base`, a vector of `latent_dim` numbers (when None, zeros or the medians of `draws`).
    """
    check_dims(dims, latent_dim)
    if n < 2:
        raise ValueError(f"expected a grid of n >= 2 points a side, came n = {n}")
    if not 0.0 < low < high < 1.0:
        raise ValueError(f"expected quantiles 0 < low < high < 1, came low = {low}, high = {high}")
    origin = np.zeros(latent_dim) if draws is None else np.median(draws, axis=0)
    origin = origin if base is None else np.asarray(base, dtype=float)
    if origin.shape != (latent_dim,):
        raise ValueError(f"expected a base of shape ({latent_dim},), came {origin.shape}")
    levels = np.linspace(low, high, n)
    grid = np.tile(origin, (n * n, 1))
    grid[:, dims[0]] = np.tile(_quantiles(levels, draws, dims[0]), n)
    grid[:, dims[1]] = np.repeat(_quantiles(levels, draws, dims[1])[::-1], n)
    return grid


def plot_manifold(
    fitted: Fitted, *, n: int = 20, dims: Dims = (0, 1), inverted: bool | None = None, ax: Target = None
) -> Axes | NDArray[Any]:
    """What the decoder makes of a plane of the latent space: `manifold_coordinates`, decoded in one call.

    For images one picture, whose tiles are the decoded points; `inverted` is that of `draw_tiles`. For a
    table one heat map for each of the first four columns, coloured by its decoded value, and the array of their axes is
    returned.
    """
    if fitted.latent_dim < 2:
        raise ValueError("the manifold is a plane, but this model has one latent dimension; fit with latent_dim >= 2")
    draws = None if fitted.has_standard_normal_prior else fitted.sample_prior(10_000, jax.random.key(0))
    if fitted.has_simplex_latent:
        raise ValueError("the coordinates of this latent space sum to 1: there is no plane of it to walk through")
    middle = "0" if draws is None else "their medians"
    rest = "" if fitted.latent_dim == 2 else f", the other coordinates at {middle}"
    decoded = np.asarray(fitted.decode(manifold_coordinates(n, latent_dim=fitted.latent_dim, dims=dims, draws=draws)))
    edges = (-0.5, n - 0.5, -0.5, n - 0.5)
    if is_image(fitted.event_shape):
        height, width = fitted.event_shape[:2]
        panels = panels_of(ax, 1, picture_size(width, height))
        panels[0].set_title(f"Learned manifold{rest}")
        images = decoded.reshape(-1, *fitted.event_shape)
        look: dict[str, Any] = {"extent": edges, "aspect": height / width}
        draw_images(panels[0], images, n, fitted.white, images, inverted=inverted, **look)
    else:
        decoded = decoded.reshape(n * n, -1)
        panels = panels_of(ax, min(4, decoded.shape[1]), (3.6, 3.1), columns=2)
        for j, panel in enumerate(panels):
            cells = panel.imshow(decoded[:, j].reshape(n, n), extent=edges, cmap="viridis")
            panel.figure.colorbar(cells, ax=panel)
            panel.set_title(f"Decoded {column_names(fitted)[j]}{rest}", fontsize="medium")
    for panel in panels:
        panel.set(xlabel=AXIS.format(dims[0] + 1), ylabel=AXIS.format(dims[1] + 1))
        for axis, dim in ((panel.xaxis, dims[0]), (panel.yaxis, dims[1])):
            axis.set_ticks(*_manifold_ticks(n, draws, dim))
    return panels[0] if is_image(fitted.event_shape) else np.array(panels)


def _quantiles(levels: NDArray[Any], draws: Any, dim: int) -> NDArray[Any]:
    """Quantiles of one axis of the prior: of the standard Gaussian, or of draws."""
    if draws is None:
        return np.array([NormalDist().inv_cdf(p) for p in levels.tolist()])
    return np.quantile(np.asarray(draws)[:, dim], levels)


def _manifold_ticks(n: int, draws: Any, dim: int) -> tuple[list[float], list[str]]:
    """Where on the grid's axis round coordinates lie (for draws: which coordinates lie at round quantiles)."""
    if draws is None:
        marks = {"−1": -1.0, "−0.5": -0.5, "0": 0.0, "0.5": 0.5, "1": 1.0}
        return [(NormalDist().cdf(z) - 0.05) / 0.9 * (n - 1) for z in marks.values()], list(marks)
    levels = np.linspace(0.05, 0.95, 5)
    return [(p - 0.05) / 0.9 * (n - 1) for p in levels], [f"{z:.2g}" for z in _quantiles(levels, draws, dim)]
