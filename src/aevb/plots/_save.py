"""Figures to files."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aevb.errors import AevbError, OutputError

from ._draw import Fitted, is_dark, is_image
from ._latent import plot_latent_space
from ._manifold import plot_manifold
from ._rows import plot_reconstructions, plot_samples
from ._training import plot_history


def save_figures(
    fitted: Fitted,
    directory: str | os.PathLike[str],
    *,
    rows: Any,
    labels: Any = None,
    key: jax.Array,
    on_failure: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write history.png, latent_space.png, manifold.png (for two latent dimensions or more), reconstructions.png and
    samples.png to `directory` (made if missing) and return their paths. `on_failure` is that of `save_each`.
    """
    inverted = is_image(fitted.event_shape) and is_dark(rows, fitted.white)  # all of them alike
    drawings: dict[str, Callable[[Figure], object]] = {
        "history": lambda figure: plot_history(fitted, axes=figure),
        "latent_space": lambda figure: plot_latent_space(fitted, rows, labels, ax=figure),
        "manifold": lambda figure: plot_manifold(fitted, inverted=inverted, ax=figure),
        "reconstructions": lambda figure: plot_reconstructions(fitted, rows, ax=figure),
        "samples": lambda figure: plot_samples(fitted, key, inverted=inverted, ax=figure),
    }
    if fitted.latent_dim < 2 or fitted.has_simplex_latent:
        del drawings["manifold"]  # there is no plane to walk through
    return save_each(drawings, Path(directory), on_failure)


def save_each(
    drawings: Mapping[str, Callable[[Figure], object]],
    directory: Path,
    on_failure: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write each drawing to NAME.png in `directory`, and return the paths of those that were written.

    A drawing that fails keeps none of the others from being written.

    Args:
        drawings: by name, what draws on an empty figure.
        directory: made if missing.
        on_failure: told in one line which figure failed and why. None: the first error is raised when all the others
            are written.
    """
    written, errors = [], []
    for name, draw in drawings.items():
        path = directory / f"{name}.png"
        try:
            written.append(save_figure(path, draw))
        except Exception as error:  # whatever it is: the other figures, and the numbers, do not hang on this one
            errors.append(error)
            if on_failure is not None:
                why = str(error) if isinstance(error, AevbError) else f"{type(error).__name__}: {error}"
                on_failure(" ".join(f"the figure {path} was not drawn: {why}".split()))
    if errors and on_failure is None:
        raise errors[0]
    return written


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
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return path
