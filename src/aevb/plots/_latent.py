"""The latent space: where the posterior means of rows lie."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from numpy.typing import NDArray

from aevb.errors import DataError

from ._draw import (
    AXIS,
    LEGEND,
    PALETTE,
    TRAIN,
    Dims,
    Fitted,
    Target,
    check_dims,
    check_rows,
    literal,
    panels_of,
)

MARKERS = ("o", "^")
MAX_POINTS = 200_000  # with more rows the latent space is drawn as a density


def plot_latent_space(fitted: Fitted, rows: Any, labels: Any = None, *, dims: Dims = (0, 1), ax: Target = None) -> Axes:
    """The posterior means of `rows` along two axes of the latent space.

    Labels that are whole numbers, truth values or text with at most 20 different values are classes, with a colour each
    (and above ten a marker) and a legend; other labels are a scale with a colour bar, floats always. Points are drawn
    in a shuffled order, so that no class hides another. Above 200,000 rows the density of the points is drawn instead,
    on a logarithmic scale and without regard to labels. A latent space of one dimension gives a histogram per class.
    """
    check_rows(rows)
    values = None if labels is None else np.asarray(labels)
    if values is not None and values.shape != (len(rows),):
        raise DataError(f"expected one label for each of the {len(rows)} rows, came labels of shape {values.shape}")
    if fitted.latent_dim > 1:
        check_dims(dims, fitted.latent_dim)
    means = np.asarray(fitted.encode(rows).mean)
    if not np.isfinite(means).all():
        raise ValueError("expected finite posterior means, came some that are not: the encoder has diverged")
    names, codes, caption = (None, means[:, 0], "") if values is None else _classes(values)
    panel = panels_of(ax, 1, (6.0, 5.2))[0]
    seen = "" if fitted.latent_dim < 3 else f", 2 of {fitted.latent_dim} dimensions"
    panel.set_title(f"Posterior means{seen}")
    if fitted.latent_dim == 1:
        _histograms(panel, means[:, 0], names, codes)
        return panel
    x, y = means[:, dims].T
    panel.set(xlabel=AXIS.format(dims[0] + 1), ylabel=AXIS.format(dims[1] + 1))
    panel.set_aspect("equal", adjustable="datalim")
    if len(means) > MAX_POINTS:
        cells = panel.hexbin(x, y, gridsize=120, bins="log", mincnt=1, linewidths=0.1, cmap="viridis_r")
        panel.figure.colorbar(cells, ax=panel, label="examples per cell")
        return panel
    order = np.random.default_rng(0).permutation(len(means))
    x, y, codes = x[order], y[order], codes[order]
    style: dict[str, Any] = {"s": np.clip(30_000 / len(means), 3.0, 20.0), "linewidths": 0.0, "alpha": 0.6}
    if values is None:
        panel.scatter(x, y, color=TRAIN, **style)
    elif names is None:
        points = panel.scatter(x, y, c=codes, cmap="viridis", plotnonfinite=True, **style)
        panel.figure.colorbar(ScalarMappable(points.norm, points.cmap), ax=panel, label=caption)
    else:
        points = panel.scatter(x, y, c=to_rgba_array(PALETTE)[codes % len(PALETTE)], **style)
        if len(names) > len(PALETTE):
            shapes = [MarkerStyle(m).get_path().transformed(MarkerStyle(m).get_transform()) for m in MARKERS]
            points.set_paths([shapes[code // len(PALETTE)] for code in codes])
        keys = [Line2D([], [], linestyle="", color=colour, marker=marker) for marker in MARKERS for colour in PALETTE]
        panel.legend(keys[: len(names)], names, **LEGEND)
    return panel


def _classes(labels: NDArray[Any]) -> tuple[list[str] | None, NDArray[Any], str]:
    """Names of the classes (None: a continuous scale), a number for each row, and what it stands for."""
    text = labels.dtype.kind not in "iubf"
    values, codes = np.unique(labels.astype(str) if text else labels, return_inverse=True)
    if labels.dtype.kind != "f" and len(values) <= len(PALETTE) * len(MARKERS):
        return [literal(value) for value in values], codes, "class"
    return None, codes if text else labels, "rank of the label in alphabetical order" if text else "label"


def _histograms(ax: Axes, values: NDArray[Any], names: list[str] | None, codes: NDArray[Any]) -> None:
    bins: dict[str, Any] = {"bins": 30, "range": (values.min(), values.max())}
    if names is None:
        ax.hist(values, color=TRAIN, **bins)
    else:
        for i, name in enumerate(names):
            look = {"color": PALETTE[i % len(PALETTE)], "linestyle": "-" if i < len(PALETTE) else ":", **bins}
            ax.hist(values[codes == i], histtype="step", linewidth=1.5, label=name, **look)
        ax.legend(**LEGEND)
    ax.set(xlabel=AXIS.format(1), ylabel="examples")
    ax.spines[["top", "right"]].set_visible(False)
