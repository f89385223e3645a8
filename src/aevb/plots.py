"""Figures of a fitted model: the course of training, the latent space, the learned manifold, reconstructions, samples.

Every function draws on `ax` (or `axes`) and returns what it drew on: an `Axes`, a sequence of them for several panels,
or an empty `Figure`, which is resized and divided to suit; None opens a new pyplot figure. No setting of matplotlib is
changed and no backend chosen; `save_figures` does not use pyplot, so it works in a thread and without a display.

Pictures whose typical pixel is dark, as MNIST's, are shown inverted (black ink on white), photographs as they are.
Tables (an event of one axis) get the figures that say the same about columns.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aevb.errors import DataError, OutputError
from aevb.evaluate import EstimatorNoise

# Ten colours that stay apart under red-, green- and blue-blindness (simulated after Machado et al. 2009): any two are
# 0.19 apart in OKLab, and 0.10 to a colour-blind eye, where matplotlib's default ten come as close as 0.11 and 0.007.
# Classes 11 to 20 repeat them with another marker.
PALETTE = (
    "#0080ff", "#9f0000", "#df9f60", "#60209f", "#bfdf00", "#df409f", "#006060", "#bf9fff", "#808000", "#80dfdf",
)  # fmt: skip
MARKERS = ("o", "^")
MAX_POINTS = 200_000  # with more rows the latent space is drawn as a density
TRAIN, VALIDATION = "#0072b2", "#d55e00"
LEGEND: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False, "handletextpad": 0.3}
AXIS = "$z_{{{}}}$"
TITLES = {
    "elbo": "Bound (ELBO)",
    "reconstruction": "Reconstruction E_q[log p(x|z)]",
    "kl": "KL divergence",
    "grey_objective": "Objective on grey pixels",
    "negative_cross_entropy": "Reconstruction (minus cross-entropy)",
}
Dims: TypeAlias = tuple[int, int]
Target: TypeAlias = Axes | Figure | Sequence[Axes] | NDArray[Any] | None


@runtime_checkable
class Fitted(Protocol):
    """The part of a fitted model that the figures need."""

    @property
    def latent_dim(self) -> int: ...
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def columns(self) -> tuple[str, ...] | None: ...
    @property
    def measures(self) -> tuple[str, ...]: ...
    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...
    def encode(self, rows: Any, /) -> Any: ...  # an object with `mean`, the means of q(z | x), of shape (N, J)
    def decode(self, z: Any, /) -> NDArray[Any]: ...
    def reconstruct(self, rows: Any, /) -> NDArray[Any]: ...
    def sample(self, num: int, key: jax.Array, /) -> NDArray[Any]: ...
    def sample_prior(self, num: int, key: jax.Array, /) -> NDArray[Any]: ...
    @property
    def has_standard_normal_prior(self) -> bool: ...
    @property
    def has_simplex_latent(self) -> bool: ...


def plot_history(fitted: Fitted, *, axes: Target = None) -> NDArray[Any]:
    """Bound, reconstruction term and KL over the epochs, in nats per example, for training and validation data.

    The first epochs can lie so far off that the rest looks flat. So each panel spans the 10 % to 90 % quantiles of the
    last three quarters of the epochs (both curves) and as far again to either side, widened to hold the last epoch and
    cut to the data. What lies outside runs off the panel.
    """
    if not fitted.history:
        raise ValueError("expected a history of one epoch or more, came none: the model has not been trained")
    panels = _panels(axes, len(fitted.measures), (3.6, 3.0), columns=3)
    for ax, measure in zip(panels, fitted.measures, strict=True):
        curves = []
        for part, colour, line, marker in (("train", TRAIN, "-", "o"), ("validation", VALIDATION, "--", "s")):
            name = f"{part}_{measure}"
            points = [(epoch["epoch"], epoch[name]) for epoch in fitted.history if epoch.get(name) is not None]
            if points:
                curves.append(np.array(points, dtype=float))
                marker = marker if len(points) <= 20 else ""
                ax.plot(*curves[-1].T, color=colour, linestyle=line, marker=marker, markersize=4, label=part)
        ax.set(title=TITLES.get(measure, measure.replace("_", " ")), xlabel="epoch", ylabel="nats per example")
        ax.set_ylim(*_readable_limits(np.concatenate(curves)))
        if len(curves[0]) == 1:
            ax.set_xlim(curves[0][0, 0] - 0.5, curves[0][0, 0] + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        panels[0].legend(frameon=False)
    return np.array(panels)


def plot_latent_space(fitted: Fitted, rows: Any, labels: Any = None, *, dims: Dims = (0, 1), ax: Target = None) -> Axes:
    """The posterior means of `rows` along two axes of the latent space.

    Labels that are whole numbers, truth values or text with at most 20 different values are classes, with a colour each
    (and above ten a marker) and a legend; other labels are a scale with a colour bar, floats always. Points are drawn
    in a shuffled order, so that no class hides another. Above 200,000 rows the density of the points is drawn instead,
    on a logarithmic scale and without regard to labels. A latent space of one dimension gives a histogram per class.
    """
    _check_rows(rows)
    values = None if labels is None else np.asarray(labels)
    if values is not None and values.shape != (len(rows),):
        raise DataError(f"expected one label for each of the {len(rows)} rows, came labels of shape {values.shape}")
    if fitted.latent_dim > 1:
        _check_dims(dims, fitted.latent_dim)
    means = np.asarray(fitted.encode(rows).mean)
    if not np.isfinite(means).all():
        raise ValueError("expected finite posterior means, came some that are not: the encoder has diverged")
    names, codes, caption = (None, means[:, 0], "") if values is None else _classes(values)
    panel = _panels(ax, 1, (6.0, 5.2))[0]
    panel.set_title("Posterior means")
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
    _check_dims(dims, latent_dim)
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


def plot_manifold(fitted: Fitted, *, n: int = 20, dims: Dims = (0, 1), ax: Target = None) -> Axes | NDArray[Any]:
    """What the decoder makes of a plane of the latent space: `manifold_coordinates`, decoded in one call.

    For images one picture, whose tiles are the decoded points. For a table one heat map for each of the first four
    columns, coloured by its decoded value, and the array of their axes is returned.
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
    if _is_image(fitted):
        height, width = fitted.event_shape
        panels = _panels(ax, 1, (6.0, 6.0 * height / width))
        panels[0].set_title(f"Learned manifold{rest}")
        draw_tiles(panels[0], decoded.reshape(-1, height, width), n, extent=edges, aspect=height / width)
    else:
        panels = _panels(ax, min(4, decoded.shape[1]), (3.6, 3.1), columns=2)
        for j, panel in enumerate(panels):
            cells = panel.imshow(decoded[:, j].reshape(n, n), extent=edges, cmap="viridis")
            panel.figure.colorbar(cells, ax=panel)
            panel.set_title(f"Decoded {_column_names(fitted)[j]}{rest}", fontsize="medium")
    for panel in panels:
        panel.set(xlabel=AXIS.format(dims[0] + 1), ylabel=AXIS.format(dims[1] + 1))
        for axis, dim in ((panel.xaxis, dims[0]), (panel.yaxis, dims[1])):
            axis.set_ticks(*_manifold_ticks(n, draws, dim))
    return panels[0] if _is_image(fitted) else np.array(panels)


def plot_reconstructions(fitted: Fitted, rows: Any, *, num: int | None = None, ax: Target = None) -> Axes:
    """The first `num` rows and what the model makes of them (all rows where there are fewer).

    For images (default 10) originals above, reconstructions below. For a table (default 1,000) one scatter of
    reconstruction against original for the first ten columns, each divided by the standard deviation of its originals
    after their mean is taken off, with the diagonal on which a perfect reconstruction lies.
    """
    num = _count(num, 10 if _is_image(fitted) else 1000)
    _check_rows(rows)
    originals, rebuilt = (np.asarray(part, dtype=float) for part in (rows[:num], fitted.reconstruct(rows[:num])))
    count = len(originals)
    if _is_image(fitted):
        height, width = fitted.event_shape
        panel = _panels(ax, 1, (0.8 * count + 1.1, 1.6 * height / width + 0.4))[0]
        parts = [_paper(part.reshape(-1, height, width)) for part in (originals, rebuilt)]
        draw_tiles(panel, np.concatenate(parts), count)
        panel.set(xticks=[], yticks=[height / 2, 1.5 * height], yticklabels=["original", "reconstruction"])
        panel.tick_params(length=0)
        return panel
    originals, rebuilt = originals.reshape(count, -1), rebuilt.reshape(count, -1)
    centre, spread = np.nanmean(originals, axis=0), np.nanstd(originals, axis=0)
    spread[spread == 0] = 1.0
    panel = _panels(ax, 1, (5.6, 4.6))[0]
    for j, (name, colour) in enumerate(zip(_column_names(fitted), PALETTE, strict=False)):
        x, y = ((part[:, j] - centre[j]) / spread[j] for part in (originals, rebuilt))
        panel.scatter(x, y, s=10, alpha=0.6, linewidths=0, color=colour, label=name)
    panel.axline((0, 0), slope=1, color="0.4", linewidth=1, zorder=0)
    panel.set(xlabel="original (standardised)", ylabel="reconstruction (same scale)", title="Reconstructions")
    panel.set_aspect("equal", adjustable="datalim")
    panel.legend(markerscale=1.8, **LEGEND)
    panel.spines[["top", "right"]].set_visible(False)
    return panel


def plot_samples(fitted: Fitted, key: jax.Array, *, num: int | None = None, ax: Target = None) -> Axes | NDArray[Any]:
    """What the generative model makes up.

    For images (default 100) the decoded means E[x | z] of z drawn from the prior with `key`, as in the figures of the
    paper: without the noise of the likelihood. For a table (default 1,000) a histogram of ancestral samples, noise
    included, for each of the first six columns; the array of their axes is returned.
    """
    num = _count(num, 100 if _is_image(fitted) else 1000)
    if _is_image(fitted):
        height, width = fitted.event_shape
        decoded = np.asarray(fitted.decode(fitted.sample_prior(num, key)))
        columns = math.ceil(math.sqrt(num))
        panel = _panels(ax, 1, (5.5, 5.5 * height / width * math.ceil(num / columns) / columns + 0.3))[0]
        draw_tiles(panel, decoded.reshape(num, height, width), columns)
        panel.set(xticks=[], yticks=[], title="Decoded draws from the prior")
        return panel
    drawn = np.asarray(fitted.sample(num, key)).reshape(num, -1)
    panels = _panels(ax, min(6, drawn.shape[1]), (3.0, 2.4), columns=2 if drawn.shape[1] in (2, 4) else 3)
    for j, panel in enumerate(panels):
        panel.hist(drawn[:, j], bins=30, color=TRAIN)
        panel.set(xlabel=_column_names(fitted)[j], ylabel="samples")
        panel.spines[["top", "right"]].set_visible(False)
    return np.array(panels)


def plot_gradient_variance(lines: Sequence[EstimatorNoise], *, ax: Target = None) -> NDArray[Any]:
    """Variance of the gradient against the number of samples, a curve per estimator, on logarithmic axes.

    Args:
        lines: what `aevb.evaluate.compare_estimators` gives.
        ax: two axes, for the recognition and the generative model's parameters.
    """
    panels = _panels(ax, 2, (4.6, 3.8), columns=2)
    names = list(dict.fromkeys(line.estimator for line in lines))
    for panel, (group, title) in zip(
        panels, (("recognition", "recognition model q(z | x)"), ("generative", "generative model p(x, z)")), strict=True
    ):
        for i, name in enumerate(names):
            points = [(line.num_samples, line.groups[group].variance) for line in lines if line.estimator == name]
            look: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": "os^vDP*X"[i % 8], "markersize": 5}
            panel.plot(*np.array(points, dtype=float).T, label=name, linestyle="--" if "score" in name else "-", **look)
        panel.set(xscale="log", yscale="log", title=title, xlabel="latent samples per example")
        counts = sorted({line.num_samples for line in lines})
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.xaxis.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("variance of the gradient, summed")
    panels[1].legend(**LEGEND)
    return np.array(panels)


def save_figures(
    fitted: Fitted, directory: str | os.PathLike[str], *, rows: Any, labels: Any = None, key: jax.Array
) -> list[Path]:
    """Write history.png, latent_space.png, manifold.png (for two latent dimensions or more), reconstructions.png and
    samples.png to `directory` (made if missing) and return their paths. Each file appears whole or not at all.
    """
    drawings: dict[str, Callable[[Figure], object]] = {
        "history": lambda figure: plot_history(fitted, axes=figure),
        "latent_space": lambda figure: plot_latent_space(fitted, rows, labels, ax=figure),
        "manifold": lambda figure: plot_manifold(fitted, ax=figure),
        "reconstructions": lambda figure: plot_reconstructions(fitted, rows, ax=figure),
        "samples": lambda figure: plot_samples(fitted, key, ax=figure),
    }
    if fitted.latent_dim < 2 or fitted.has_simplex_latent:
        del drawings["manifold"]  # there is no plane to walk through
    return [save_figure(Path(directory) / f"{name}.png", draw) for name, draw in drawings.items()]


def save_figure(path: Path, draw: Callable[[Figure], object]) -> Path:
    """Draw on an empty figure and write it to a .png file, which appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(unfinished, format="png", dpi=150)
        unfinished.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write the figure {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return path


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


def _panels(target: Target, count: int, size: tuple[float, float], columns: int = 1) -> list[Axes]:
    """The `count` axes to draw on: those given, or new ones, each of `size` inches, in rows of `columns`."""
    if target is None:
        from matplotlib import pyplot

        target = pyplot.figure(layout="constrained")
    if isinstance(target, Figure):
        if target.axes:
            raise ValueError(f"expected an empty Figure, came one with {len(target.axes)} axes: pass the axes instead")
        across, down = min(columns, count), math.ceil(count / columns)
        target.set_size_inches(size[0] * across, size[1] * down)
        target = [target.add_subplot(down, across, i + 1) for i in range(count)]
    panels = [target] if isinstance(target, Axes) else list(np.ravel(np.asarray(target, dtype=object)))
    if len(panels) != count:
        raise ValueError(f"expected {count} axes to draw on, came {len(panels)}")
    return panels


def _check_dims(dims: Dims, latent_dim: int) -> None:
    if len(dims) != 2 or dims[0] == dims[1] or not all(0 <= dim < latent_dim for dim in dims):
        raise ValueError(f"expected dims to be two different axes among 0 ... {latent_dim - 1}, came {dims}")


def _check_rows(rows: Any) -> None:
    if np.ndim(rows) < 2 or len(rows) == 0:
        raise DataError(f"expected an array of one row or more, came {type(rows).__name__} of shape {np.shape(rows)}")


def _count(num: int | None, default: int) -> int:
    if num is not None and num < 1:
        raise ValueError(f"expected num >= 1, came {num}")
    return num or default


def _is_image(fitted: Fitted) -> bool:
    if len(fitted.event_shape) not in (1, 2):
        raise ValueError(f"expected images of shape (height, width) or rows of a table, came {fitted.event_shape}")
    return len(fitted.event_shape) == 2


def _column_names(fitted: Fitted) -> list[str]:
    return [_plain(name) for name in fitted.columns or [f"x_{j + 1}" for j in range(fitted.event_shape[0])]]


def _plain(value: object) -> str:
    """The text as it is: matplotlib reads dollars as mathematics and hides labels that begin with an underscore."""
    text = str(value).replace("$", r"\$")
    return " " + text if text.startswith("_") else text


def _readable_limits(points: NDArray[Any]) -> tuple[float, float]:
    """The limits that `plot_history` describes, of rows (epoch, value)."""
    epochs, values = points[np.isfinite(points[:, 1])].T
    if len(values) == 0:
        return 0.0, 1.0
    # A handful of epochs has no flat part to zoom in on: all of it is shown.
    few = len(np.unique(epochs)) < 8
    later = values if few else values[epochs >= epochs.min() + 0.25 * (epochs.max() - epochs.min())]
    low, high = np.quantile(later, [0.0, 1.0] if few else [0.1, 0.9])
    last = values[epochs == epochs.max()]
    bottom = max(values.min(), min(low - (high - low), last.min()))
    top = min(values.max(), max(high + (high - low), last.max()))
    margin = 0.05 * (top - bottom) or 0.01 * abs(top) or 1.0
    return float(bottom - margin), float(top + margin)


def _classes(labels: NDArray[Any]) -> tuple[list[str] | None, NDArray[Any], str]:
    """Names of the classes (None: a continuous scale), a number for each row, and what it stands for."""
    text = labels.dtype.kind not in "iubf"
    values, codes = np.unique(labels.astype(str) if text else labels, return_inverse=True)
    if labels.dtype.kind != "f" and len(values) <= len(PALETTE) * len(MARKERS):
        return [_plain(value) for value in values], codes, "class"
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


def _paper(images: NDArray[Any]) -> NDArray[Any]:
    """Grey levels in [0, 1], from those or from 0 ... 255: told apart at 2, for a Gaussian's mean may exceed 1."""
    grey = images.astype(float)
    return np.clip(grey / 255 if grey.max() > 2 else grey, 0.0, 1.0)


def draw_tiles(ax: Axes, images: NDArray[Any], columns: int, **options: Any) -> None:
    """Lay images of shape (N, height, width) side by side in reading order, without gaps, as one picture."""
    grey = _paper(images)
    inverted = bool(np.median(grey) < 0.25)
    blanks = -len(grey) % columns
    grey = np.concatenate([grey, np.full((blanks, *grey.shape[1:]), 0.0 if inverted else 1.0)])
    down, (height, width) = len(grey) // columns, grey.shape[1:]
    canvas = grey.reshape(down, columns, height, width).swapaxes(1, 2).reshape(down * height, columns * width)
    ax.imshow(canvas, cmap="gray_r" if inverted else "gray", vmin=0.0, vmax=1.0, **options)
