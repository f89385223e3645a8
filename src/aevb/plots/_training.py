"""How training went, and how noisy each estimator's gradient is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aevb.evaluate import EstimatorNoise

from ._draw import LEGEND, PALETTE, TRAIN, VALIDATION, Fitted, Target, panels_of

TITLES = {
    "elbo": "Bound (ELBO)",
    "reconstruction": "Reconstruction E_q[log p(x|z)]",
    "kl": "KL divergence",
    "grey_objective": "Objective on grey pixels",
    "negative_cross_entropy": "Reconstruction (minus cross-entropy)",
}


def plot_history(fitted: Fitted, *, axes: Target = None) -> NDArray[Any]:
    """Bound, reconstruction term and KL over the epochs, in nats per example, for training and validation data.

    The first epochs can lie so far off that the rest looks flat. So each panel spans the 10 % to 90 % quantiles of the
    last three quarters of the epochs (both curves) and as far again to either side, widened to hold the last epoch and
    cut to the data. What lies outside runs off the panel.
    """
    if not fitted.history:
        raise ValueError("expected a history of one epoch or more, came none: the model has not been trained")
    panels = panels_of(axes, len(fitted.measures), (3.6, 3.0), columns=3)
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


def plot_gradient_variance(lines: Sequence[EstimatorNoise], *, ax: Target = None) -> NDArray[Any]:
    """Variance of the gradient against the number of samples, a curve per estimator, on logarithmic axes.

    Args:
        lines: what `aevb.evaluate.compare_estimators` gives.
        ax: two axes, for the recognition and the generative model's parameters.
    """
    panels = panels_of(ax, 2, (4.6, 3.8), columns=2)
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
