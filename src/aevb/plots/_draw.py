"""What the figures share: colours, panels, pictures side by side."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aevb.errors import DataError

# Ten colours that stay apart under red-, green- and blue-blindness (simulated after Machado et al. 2009): any two are
# 0.19 apart in OKLab, and 0.10 to a colour-blind eye, where matplotlib's default ten come as close as 0.11 and 0.007.
# Classes 11 to 20 repeat them with another marker.
PALETTE = (
    "#0080ff", "#9f0000", "#df9f60", "#60209f", "#bfdf00", "#df409f", "#006060", "#bf9fff", "#808000", "#80dfdf",
)  # fmt: skip
CHANNELS = (1, 3, 4)  # of an image: grey, red-green-blue, and these with opacity
TRAIN, VALIDATION = "#0072b2", "#d55e00"
LEGEND: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False, "handletextpad": 0.3}
AXIS = "$z_{{{}}}$"
_DARK = 0.25  # of white
_TYPICAL = 1000  # rows that tell what is typical

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
    def white(self) -> float | None: ...  # the value of white, 0 being black; None where the data are no pixels
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


def panels_of(target: Target, count: int, size: tuple[float, float], columns: int = 1) -> list[Axes]:
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


def check_dims(dims: Dims, latent_dim: int) -> None:
    """Raise unless `dims` names two axes of the latent space."""
    if len(dims) != 2 or dims[0] == dims[1] or not all(0 <= dim < latent_dim for dim in dims):
        raise ValueError(f"expected dims to be two different axes among 0 ... {latent_dim - 1} (0 is z_1), came {dims}")


def check_rows(rows: Any) -> None:
    """Raise unless `rows` is an array of one row or more."""
    if np.ndim(rows) < 2 or len(rows) == 0:
        raise DataError(f"expected an array of one row or more, came {type(rows).__name__} of shape {np.shape(rows)}")


def count_of(num: int | None, default: int) -> int:
    """`num`, or the default in the place of None."""
    if num is not None and num < 1:
        raise ValueError(f"expected num >= 1, came {num}")
    return num or default


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether one example is drawn as a picture: (height, width), or (height, width, channels) with 1, 3 or 4 of them:
    grey, red-green-blue, and these with opacity. Anything else is drawn as the row of a table.

    Example:
        >>> [is_image(shape) for shape in [(28, 28), (32, 32, 3), (28, 28, 1), (784,), (2, 28, 28)]]
        [True, True, True, False, False]
    """
    return len(event_shape) == 2 or (len(event_shape) == 3 and event_shape[2] in CHANNELS)


def column_names(fitted: Fitted) -> list[str]:
    """Names of the columns for a figure; x_1, x_2, ... where they have none."""
    return [literal(name) for name in fitted.columns or [f"x_{j + 1}" for j in range(math.prod(fitted.event_shape))]]


def literal(value: object) -> str:
    """The text as it is: matplotlib reads dollars as mathematics and hides labels that begin with an underscore."""
    text = str(value).replace("$", r"\$")
    return " " + text if text.startswith("_") else text


def picture_size(width: float, height: float, longest: float = 6.0) -> tuple[float, float]:
    """Inches for a picture of these proportions whose longer side is `longest`, and no side so small as to vanish."""
    scale = longest / max(width, height)
    return max(1.5, width * scale), max(1.5, height * scale)


def is_dark(rows: Any, white: float | None) -> bool:
    """Whether the typical pixel of the first rows is dark, so that grey pictures of them, and all beside them, are
    shown inverted. Never of measurements, whose `white` is None.
    """
    return white is not None and bool(np.median(np.asarray(rows[:_TYPICAL], dtype=float)) < _DARK * white)


def draw_tiles(
    ax: Axes,
    images: NDArray[Any],
    columns: int,
    *,
    levels: tuple[float, float] | None = None,
    inverted: bool | None = None,
    **options: Any,
) -> None:
    """Lay images of shape (N, height, width) or (N, height, width, channels) side by side in reading order, without
    gaps, as one picture. See `is_image` for the channels.

    Args:
        ax: to draw on.
        images: to lay side by side; values beyond the levels are drawn as the nearer of them.
        columns: images in a row.
        levels: the values of black and of white, as (0, 255) or (0, 1). None: 0 and 1 for values in [0, 1], 0 and 255
            for other uint8, and for what is left its own lowest and highest value. Name them for dark images of
            0 to 255 that are not uint8: their values do not tell of what they are a part.
        inverted: whether grey images are drawn black on white. None: where their own typical pixel is dark.
        options: those of matplotlib's `imshow`.
    """
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or not is_image(images.shape[1:]):
        raise ValueError(f"expected images of (height, width) or (height, width, 1, 3 or 4), came {images.shape[1:]}")
    low, high = _levels_of(images) if levels is None else levels
    shades = np.clip((images.astype(float) - low) / ((high - low) or 1.0), 0.0, 1.0)
    inverted = shades.ndim == 3 and (bool(np.median(shades) < _DARK) if inverted is None else inverted)
    blank = np.nan if "cmap" in options else 0.0 if inverted else 1.0  # NaN is the paper itself
    shades = np.concatenate([shades, np.full((-len(shades) % columns, *shades.shape[1:]), blank)])
    down, (height, width), channels = len(shades) // columns, shades.shape[1:3], shades.shape[3:]
    canvas = shades.reshape(down, columns, height, width, *channels).swapaxes(1, 2)
    canvas = canvas.reshape(down * height, columns * width, *channels)
    look: dict[str, Any] = {} if channels else {"cmap": "gray_r" if inverted else "gray", "vmin": 0.0, "vmax": 1.0}
    ax.imshow(canvas, **look | options)


def draw_images(
    ax: Axes,
    images: NDArray[Any],
    columns: int,
    white: float | None,
    shown: NDArray[Any],
    *,
    inverted: bool | None = None,
    loc: Literal["left", "center"] = "center",
    **options: Any,
) -> None:
    """Tiles of a model's data: pixels from 0, black, to `white`, inverted as in `draw_tiles`; where that is None,
    measurements over the range of `shown`, with a colour bar, or in three channels or four with the range in the title,
    which stands at `loc`.
    """
    if white is not None:
        draw_tiles(ax, images, columns, levels=(0.0, white), inverted=inverted, **options)
        return
    low, high = float(shown.min()), float(shown.max())
    if images.ndim == 4 and images.shape[3] > 1:
        draw_tiles(ax, images, columns, levels=(low, high), **options)
        ax.set_title(f"{ax.get_title(loc)} (black is {low:.4g}, white {high:.4g})".strip(), loc=loc)
        return
    draw_tiles(ax, images, columns, levels=(low, high), cmap="viridis", **options)
    beyond = "both" if images.min() < low or images.max() > high else "neither"
    ax.figure.colorbar(ScalarMappable(Normalize(low, high), "viridis"), ax=ax, extend=beyond)


def _levels_of(images: NDArray[Any]) -> tuple[float, float]:
    """The levels that `draw_tiles` takes where none are named."""
    low, high = float(images.min()), float(images.max())
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (0.0, 255.0) if images.dtype == np.uint8 else (low, high)
