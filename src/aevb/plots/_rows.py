"""Rows of data: reconstructions beside their originals, and samples."""

import math
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ._draw import (
    LEGEND,
    PALETTE,
    TRAIN,
    Fitted,
    Target,
    check_rows,
    column_names,
    count_of,
    draw_images,
    is_dark,
    is_image,
    panels_of,
    picture_size,
)


def plot_reconstructions(fitted: Fitted, rows: Any, *, num: int | None = None, ax: Target = None) -> Axes:
    """The first `num` rows and what the model makes of them (all rows where there are fewer).

    For images (default 10) originals above, reconstructions below, both on one scale: that of pixels, or for other
    measurements the range of the originals. For a table (default 1,000) one scatter of
    reconstruction against original for the first ten columns, each divided by the standard deviation of its originals
    after their mean is taken off, with the diagonal on which a perfect reconstruction lies.
    """
    num = count_of(num, 10 if is_image(fitted.event_shape) else 1000)
    check_rows(rows)
    originals, rebuilt = (np.asarray(part, dtype=float) for part in (rows[:num], fitted.reconstruct(rows[:num])))
    count = len(originals)
    if is_image(fitted.event_shape):
        height, width = fitted.event_shape[:2]
        across, down = (0.8 * count + 1.1) * width, 1.6 * height + 0.4 * width
        panel = panels_of(ax, 1, picture_size(across, down, min(9.1, max(across, down) / width)))[0]
        parts = [part.reshape(-1, *fitted.event_shape) for part in (originals, rebuilt)]
        inverted = is_dark(rows, fitted.white)
        draw_images(panel, np.concatenate(parts), count, fitted.white, parts[0], inverted=inverted)
        panel.set(xticks=[], yticks=[height / 2, 1.5 * height], yticklabels=["original", "reconstruction"])
        panel.tick_params(length=0)
        return panel
    originals, rebuilt = originals.reshape(count, -1), rebuilt.reshape(count, -1)
    centre, spread = np.nanmean(originals, axis=0), np.nanstd(originals, axis=0)
    spread[spread == 0] = 1.0
    panel = panels_of(ax, 1, (5.6, 4.6))[0]
    for j, (name, colour) in enumerate(zip(column_names(fitted), PALETTE, strict=False)):
        x, y = ((part[:, j] - centre[j]) / spread[j] for part in (originals, rebuilt))
        panel.scatter(x, y, s=10, alpha=0.6, linewidths=0, color=colour, label=name)
    panel.axline((0, 0), slope=1, color="0.4", linewidth=1, zorder=0)
    panel.set(xlabel="original (standardised)", ylabel="reconstruction (same scale)", title="Reconstructions")
    panel.set_aspect("equal", adjustable="datalim")
    panel.legend(markerscale=1.8, **LEGEND)
    panel.spines[["top", "right"]].set_visible(False)
    return panel


def plot_samples(
    fitted: Fitted, key: jax.Array, *, num: int | None = None, inverted: bool | None = None, ax: Target = None
) -> Axes | NDArray[Any]:
    """What the generative model makes up.

    For images (default 100) the decoded means E[x | z] of z drawn from the prior with `key`, as in the figures of the
    paper: without the noise of the likelihood; `inverted` is that of `draw_tiles`. For a table (default 1,000) a
    histogram of ancestral samples, noise included, for each of the first six columns; the array of their axes is
    returned.
    """
    num = count_of(num, 100 if is_image(fitted.event_shape) else 1000)
    if is_image(fitted.event_shape):
        height, width = fitted.event_shape[:2]
        decoded = np.asarray(fitted.decode(fitted.sample_prior(num, key))).reshape(num, *fitted.event_shape)
        columns = math.ceil(math.sqrt(num))
        panel = panels_of(ax, 1, picture_size(columns * width, math.ceil(num / columns) * height, 5.8))[0]
        panel.set(xticks=[], yticks=[], title="Decoded draws from the prior")
        draw_images(panel, decoded, columns, fitted.white, decoded, inverted=inverted)
        return panel
    drawn = np.asarray(fitted.sample(num, key)).reshape(num, -1)
    panels = panels_of(ax, min(6, drawn.shape[1]), (3.0, 2.4), columns=2 if drawn.shape[1] in (2, 4) else 3)
    for j, panel in enumerate(panels):
        panel.hist(drawn[:, j], bins=30, color=TRAIN)
        panel.set(xlabel=column_names(fitted)[j], ylabel="samples")
        panel.spines[["top", "right"]].set_visible(False)
    return np.array(panels)
