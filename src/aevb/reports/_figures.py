"""The report's figures. Each function draws on a matplotlib Figure or Axes that it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aevb.evaluate import KHAT_LIMIT, Calibration, LatentDiagnostics
from aevb.plots import PALETTE, TRAIN, VALIDATION, draw_images, is_image, save_each

from ._make import Report
from ._settings import WORDS

OURS, OTHER, LINE = TRAIN, VALIDATION, "0.35"
_FEW_DIMENSIONS = 20


def save_report_figures(
    report: Report, directory: Path, on_failure: Callable[[str], object] | None = None
) -> list[Path]:
    """Write the figures that the report has something for, and return their paths; see `plots.save_each`."""
    drawings: dict[str, Callable[[Figure], object]] = {"log_likelihood": lambda f: draw_log_likelihood(report, f)}
    if report.latent is not None:
        latent = report.latent
        drawings["latent_dimensions"] = lambda f: draw_latent_dimensions(latent, f)
    if "khat" in report.per_row and np.isfinite(report.per_row["khat"]).any():
        drawings["khat"] = lambda f: draw_khat(report.per_row["khat"], f)
    if report.calibration is not None:
        calibration = report.calibration
        drawings["calibration"] = lambda f: draw_calibration(calibration, f)
    shape = report.event_shape
    if is_image(shape):
        lowest = report.lowest_rows.reshape(-1, *shape)
        drawings["lowest_rows"] = lambda f: _titled(f, lowest, report, f"rows with the lowest {_score(report)}")
        if report.samples is not None and report.nearest is not None:
            pairs = _interleaved(report.samples, report.nearest, shape)
            drawings["nearest_rows"] = lambda f: _titled(
                f, pairs, report, "samples, and below each the nearest training row"
            )
    return save_each(drawings, directory, on_failure)


def _score(report: Report) -> str:
    return "log p(x)" if report.per_row else "ELBO" if "elbo" in report.content else "objective"


def draw_log_likelihood(report: Report, figure: Figure) -> None:
    """Histograms of log p(x) by row, and of the ELBO of the same rows."""
    ax = _axes(figure, (7.0, 3.6))
    elbo = report.elbo[report.index]
    both = {"ELBO" if "elbo" in report.content else "objective": elbo}
    if report.per_row:
        words = WORDS[report.content["settings"]["method"]]
        both[f"log p(x), {words}"] = report.per_row["log_likelihood"]
    values = np.concatenate(list(both.values()))
    low, high = np.quantile(values, [0.001, 1.0])  # a few rows far out must not squeeze the rest into one bar
    bins = np.linspace(low, high, 61) if high > low else 10
    for (name, each), color in zip(both.items(), (OTHER, OURS), strict=False):
        shown = np.clip(each, low, None)
        ax.hist(
            shown, bins=bins, histtype="stepfilled", alpha=0.45, color=color, label=f"{name}: mean {each.mean():.2f}"
        )
        ax.axvline(each.mean(), color=color, linewidth=1.5)
    below = int(np.sum(values < low))
    ax.set(xlabel="nats per row" + (f" (further left, in the first bar: {below})" if below else ""), ylabel="rows")
    ax.legend(frameon=False, loc="upper left")
    ax.set_title("how well each row is explained", loc="left")


def draw_latent_dimensions(latent: LatentDiagnostics, figure: Figure) -> None:
    """KL of each dimension where it has one, and the variance of the posterior means.

    Few dimensions stand in their own order; of many the largest come first. Layers stand side by side.
    """
    kl = latent.kl_per_dimension
    panels = 1 if kl is None else 2
    share = latent.variance_of_mean / latent.prior_scale**2
    size = share if kl is None else kl
    starts = [layer.first - 1 for layer in latent.layers or ()] or [0]
    parts = np.split(np.arange(len(size)), starts[1:])
    order = np.concatenate([part if len(size) <= _FEW_DIMENSIONS else part[np.argsort(-size[part])] for part in parts])
    axes = [_axes(figure, (max(6.4, 0.14 * len(order)), 2.0 * panels), panels, i) for i in range(panels)]
    at = np.arange(len(order))
    colors = np.where(latent.active[order], OURS, "0.75")
    if kl is not None:
        axes[0].bar(at, kl[order], color=colors, width=0.6)
        axes[0].set(ylabel="KL, nats")
    axes[-1].bar(at, np.maximum(share[order], 1e-6), color=colors, width=0.6)
    axes[-1].axhline(0.01, color=LINE, linestyle="--", linewidth=1)
    axes[-1].set(yscale="log", ylabel="variance of mean\n/ prior variance", xlabel="latent dimension")
    for layer in latent.layers or ():
        axes[-1].axvline(layer.first - 1.5, color="0.7", linewidth=1)
        axes[-1].text(layer.first - 1.4, 1.02, layer.name, transform=axes[-1].get_xaxis_transform(), fontsize=8)
    names = [str(j + 1) for j in order]
    step = max(1, len(at) // 40)
    for ax in axes:
        ax.set_xticks(at[::step], names[::step], fontsize=7 if len(at) > 20 else 9)
    pad = 18 if latent.layers else None  # the names of the layers stand below it
    title = f"{latent.num_active} of {len(order)} latent dimensions are active (blue)"
    axes[0].set_title(title, loc="left", pad=pad)


def draw_khat(khat: np.ndarray, figure: Figure) -> None:
    """Histogram of the rows' k-hat, with its limit."""
    ax = _axes(figure, (7.0, 3.0))
    finite = khat[np.isfinite(khat)]
    ax.hist(np.clip(finite, -1.0, 2.0), bins=np.linspace(-1.0, 2.0, 61), color=OURS, alpha=0.6)
    ax.axvline(KHAT_LIMIT, color=LINE, linestyle="--", linewidth=1)
    share = float(np.mean(khat > KHAT_LIMIT))
    ax.set(xlabel="k-hat of the importance weights", ylabel="rows")
    ax.set_title(f"{100 * share:.1f} % of the rows have a k-hat above {KHAT_LIMIT}", loc="left")


def draw_calibration(calibration: Calibration, figure: Figure) -> None:
    """ECDF of the ranks less that of uniform ranks, with the bands."""
    ax = _axes(figure, (7.0, 3.4))
    at = calibration.uniform
    ax.fill_between(at, calibration.lower, calibration.upper, color="0.85", linewidth=0, label="calibrated")
    outside = np.flatnonzero(~calibration.within)
    for i, (name, curve) in enumerate(zip(calibration.names, calibration.ecdf_difference, strict=True)):
        worst = outside[np.argsort(-calibration.max_deviation[outside])][:8]
        if i in worst:
            color = PALETTE[int(np.flatnonzero(worst == i)[0]) % len(PALETTE)]
            ax.plot(at, curve, linewidth=1.4, color=color, label=f"{name}: {calibration.shapes[i]}")
        else:
            ax.plot(at, curve, linewidth=0.8, color="0.55" if i not in outside else "0.3")
    ax.set(xlabel="rank of the true z among draws from q(z | x), as a share", ylabel="ECDF less uniform")
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ok = len(calibration.names) - len(outside)
    ax.set_title(f"ranks under q(z | x): {ok} of {len(calibration.names)} quantities within the bands", loc="left")


def _axes(figure: Figure, size: tuple[float, float], count: int = 1, position: int = 0) -> Any:
    figure.set_size_inches(*size)
    ax = figure.add_subplot(count, 1, position + 1)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _interleaved(samples: np.ndarray, nearest: np.ndarray, shape: tuple[int, ...], columns: int = 10) -> np.ndarray:
    """Two rows of samples, each above a row of their nearest training rows."""
    tiles = []
    for start in range(0, 3 * columns, columns):
        for part in (samples, nearest):
            tiles.append(np.asarray(part[start : start + columns], np.float64).reshape(-1, *shape))
    return np.concatenate(tiles)


def _titled(figure: Figure, images: np.ndarray, report: Report, title: str) -> None:
    figure.set_size_inches(7.0, 0.7 * -(-len(images) // 10) + 0.5)
    ax = figure.add_subplot()
    ax.set_axis_off()
    ax.set_title(title, loc="left")
    draw_images(ax, images, 10, report.white, images, inverted=report.dark, loc="left")
