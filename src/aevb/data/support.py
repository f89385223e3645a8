"""The choice of likelihood and preprocessing for a data set, and every check of data against a model's support."""

import difflib
import enum
from math import prod
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from aevb.errors import ConfigError, DataError

from .arrays import blocks, has_image_shape, is_binary, is_whole_byte, named
from .dataset import Dataset
from .preprocessing import Binarization, Preprocessing, Scaling


class Values(enum.Enum):
    """Which values a likelihood is for."""

    BINARY = "0 and 1, or pixels that are drawn as such"
    UNIT = "numbers in [0, 1]"
    LEVELS = "whole numbers 0 to 255"
    REAL = "all real numbers"


class TakesValues(Protocol):
    """A likelihood, as far as data need to know of it; a `aevb.models.LikelihoodSpec` is one."""

    @property
    def kind(self) -> str:
        """Its name, for messages."""

    @property
    def values(self) -> Values:
        """Of the data that it is for."""

    @property
    def heavy_tailed(self) -> bool:
        """Whether a few wild values are no news to it, and must not set the scale of their column."""


_REMEDY = "divide by 255 (or by the maximum), or use likelihood='gaussian'"
_BEYOND = 10.0  # ranges of its data, to either side, that a Gaussian of pixels takes: its own samples leave [0, 1]
ROUNDED = 2.0**-10  # of a column's standard deviation: more than that must not be lost to float32


class Guess(NamedTuple):
    """What the likelihood `auto` becomes, and words on it where the data do not make it evident (else empty)."""

    likelihood: str
    words: str


def guess_likelihood(dataset: Dataset) -> Guess:
    """The likelihood that suits a data set: of which kind the values are is seen, what they mean is not.

    Binary values anywhere are Bernoulli. Pixels are Bernoulli too: an example shaped (H, W[, C]) with values in [0, 1]
    or whole numbers 0..255, or uint8 as given in any shape. Everything else is a table, and Gaussian; never is a table
    taken for pixels because its integers happen to be small.

    Example:
        >>> ages = np.array([[20.0, 31.0], [40.0, 62.0]], np.float32)
        >>> guess_likelihood(Dataset("ages", ages, (2,))).likelihood
        'gaussian'
    """
    low, high = _range(dataset)
    if is_binary(dataset.rows):
        return Guess("bernoulli", "")
    if _is_image(dataset) and (is_whole_byte(dataset.rows) or (low >= 0 and high <= 1)):
        shaped = has_image_shape(dataset.event_shape)
        if shaped and dataset.came_as_bytes and high >= 128:
            return Guess("bernoulli", "")
        why = f"for an example has the shape {dataset.event_shape}" if shaped else "for they came as uint8"
        white = 255 if _has_levels(dataset) else 1
        return Guess(
            "bernoulli",
            f"the values of {dataset.name!r}, {low:g} to {high:g}, are taken for pixels, {why}: likelihood "
            f"'bernoulli', each drawn as 0 or {white} with probability value / {white}; if they are measurements or "
            "counts, name the likelihood 'gaussian'",
        )
    if low < high and all(bool(((block == low) | (block == high)).all()) for _, block in blocks(dataset.rows)):
        return Guess(
            "gaussian",
            f"the two values of {dataset.name!r}, {low:g} and {high:g}, are taken for measurements: likelihood "
            "'gaussian', standardised; if they are a yes and a no, write them as 0 and 1 for likelihood 'bernoulli'",
        )
    whole = is_whole_byte(dataset.rows)
    if whole or (low >= 0 and high <= 1):
        kind = "whole numbers" if whole else "numbers in [0, 1]"
        return Guess(
            "gaussian",
            f"the {kind} of {dataset.name!r}, {low:g} to {high:g}, are taken for a table of measurements: likelihood "
            "'gaussian', standardised; if they are pixels, name the likelihood 'bernoulli' or give them the shape "
            "(N, H, W)",
        )
    return Guess("gaussian", "")


def levels_taken(dataset: Dataset, preprocessing: Preprocessing) -> str:
    """Words on whole numbers of a table that a likelihood of pixels takes for levels 0 to 255; or nothing.

    Example:
        >>> counts = Dataset("counts", np.array([[3.0, 14.0], [0.0, 2.0]], np.float32), (2,))
        >>> from aevb.models import BernoulliLikelihood
        >>> levels_taken(counts, choose_preprocessing(counts, BernoulliLikelihood()))[:69]
        "the whole numbers of 'counts', 0 to 14, are taken for levels 0 to 255"
    """
    if preprocessing.maximum != 255 or _is_image(dataset):
        return ""
    low, high = _range(dataset)
    return (
        f"the whole numbers of {dataset.name!r}, {low:g} to {high:g}, are taken for levels 0 to 255 of pixels, as this "
        "likelihood is for; if they are counts or measurements, use likelihood='gaussian'"
    )


def choose_preprocessing(
    dataset: Dataset,
    likelihood: TakesValues,
    binarization: Binarization | Literal["auto"] = "auto",
    scaling: Scaling | Literal["auto"] = "auto",
) -> Preprocessing:
    """Decide, once and on record, what the likelihood will see of the data.

    A likelihood of pixels that was asked for takes whole numbers 0..255 for pixels, whatever held them.

    Bernoulli, "auto": data of only 0 and 1 pass unchanged; whole numbers 0..255 are binarised dynamically with maximum
    255, and fractions in [0, 1] with maximum 1. With binarization "none", or with scaling "unit" asked for, they pass
    as grey values and `grey` is set.
    Continuous Bernoulli and discretised logistic: divided by 255, or passed if they lie in [0, 1] (the latter wants
    whole numbers 0..255).
    Gaussian and others of real numbers, "auto": images (see `guess_likelihood`) are divided by 255, or passed if they
    lie in [0, 1], and binary data are passed; all else is standardised column by column (by median and median absolute
    deviation for a likelihood with heavy tails, whose outliers must not set the scale).

    Raises:
        ConfigError: for an unknown choice, or two that contradict each other.
        DataError: if the data lie outside the likelihood's support, or cannot be scaled as asked.
    """
    _check_choice("binarization", binarization, ("auto", *get_args(Binarization)))
    _check_choice("scaling", scaling, ("auto", *get_args(Scaling)))
    if likelihood.values is not Values.BINARY:
        if binarization in ("dynamic", "threshold"):
            raise ConfigError(
                f"binarization {binarization!r} gives 0 and 1, which a {likelihood.kind} likelihood does not model"
            )
        if likelihood.values is Values.REAL:
            return _for_real(dataset, scaling, robust=likelihood.heavy_tailed)
        if scaling in ("none", "standardize"):
            raise ConfigError(f"a {likelihood.kind} likelihood needs data in [0, 1]; use scaling 'unit'")
        if likelihood.values is Values.LEVELS and not _has_levels(dataset):
            raise DataError(
                f"{dataset.name!r} does not hold the whole levels 0 to 255, which are what a {likelihood.kind} "
                "likelihood gives probabilities to: use likelihood='continuous-bernoulli' or 'gaussian'"
            )
        return _for_real(dataset, "unit")
    if scaling == "standardize":
        raise ConfigError(f"a {likelihood.kind} likelihood needs data in [0, 1]: scaling 'standardize' leaves it")
    if binarization in ("dynamic", "threshold") and scaling == "unit":
        raise ConfigError(f"binarization {binarization!r} divides by the maximum itself: scaling 'unit' repeats it")
    return _for_bernoulli(dataset, binarization, scaling)


def check_compatible(
    preprocessing: Preprocessing,
    columns: tuple[str, ...] | None,
    event_shape: tuple[int, ...],
    other: Dataset,
    *,
    likelihood: TakesValues | None = None,
    name: str = "the training data",
) -> None:
    """Check a second data set (validation, test, to be encoded) against the one that the model was fitted to.

    A row is not refused for being alone: what can be told of many rows only is not asked of one.

    Args:
        preprocessing, columns, event_shape, name: of the fitted model and its data.
        likelihood: the model's. One of real numbers has no limits: it refuses only what is evidently scaled otherwise.
        other: the second data set; its event shape may differ if the number of columns does not.

    Raises:
        DataError: naming both, if the number of columns, the column names or their order, or the range of values
            does not fit.
    """
    pair = f"{other.name!r} does not fit {name}"
    if other.num_columns != prod(event_shape):
        raise DataError(
            f"{pair}: it has {other.num_columns} columns (shape {other.event_shape}), expected {prod(event_shape)} "
            f"(shape {tuple(event_shape)})"
        )
    if len(event_shape) > 1 and len(other.event_shape) > 1 and other.event_shape != tuple(event_shape):
        raise DataError(f"{pair}: its examples have shape {other.event_shape}, expected {tuple(event_shape)}")
    if columns is not None and other.columns is not None and columns != other.columns:
        _raise_names(pair, columns, other.columns)
    limit = preprocessing.white
    if limit is None:
        return
    low, high = _range(other)
    margin = _BEYOND * limit if likelihood is not None and likelihood.values is Values.REAL else 0.0
    if low < -margin or high > limit + margin:
        expected = "about " if margin else ""
        raise DataError(
            f"{pair}: its values lie in [{low:g}, {high:g}], expected {expected}[0, {limit:g}]: scale them the same"
        )
    if limit > 1 and 0 < high <= 1 and not (len(other) == 1 and is_binary(other.rows)):
        # One row of levels 0 and 1 is a dark image among 0..255; a set of nothing else is data on another scale.
        raise DataError(
            f"{pair}: its values lie in [{low:g}, {high:g}], but there {limit:g} means 1: multiply by {limit:g} "
            "or fit to data scaled like these"
        )
    if preprocessing.binary:
        values = other.rows if limit == 1 else other.rows / np.float32(limit)
        if not is_binary(values):
            raise DataError(
                f"{pair}: that is 0 and 1 only, this holds values between, as probabilities are, which `reconstruct` "
                "and `decode` give: binarise them"
            )


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        close = difflib.get_close_matches(value, choices, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown {what} {value!r}; {hint}choose one of {', '.join(choices)}")


def _range(dataset: Dataset) -> tuple[float, float]:
    return float(dataset.rows.min()), float(dataset.rows.max())


def _has_levels(dataset: Dataset) -> bool:
    """Whether the values are whole numbers 0..255, and not 0 and 1 only."""
    return is_whole_byte(dataset.rows) and float(dataset.rows.max()) > 1


def _is_image(dataset: Dataset) -> bool:
    return dataset.columns is None and (has_image_shape(dataset.event_shape) or dataset.came_as_bytes)


def _for_bernoulli(
    dataset: Dataset, binarization: Binarization | Literal["auto"], scaling: Scaling | Literal["auto"]
) -> Preprocessing:
    low, high = _range(dataset)
    levels = _has_levels(dataset)
    if not levels and (low < 0 or high > 1):
        raise DataError(
            f"{dataset.name!r} holds values in [{low:g}, {high:g}], a bernoulli likelihood needs [0, 1] or "
            f"whole numbers 0 to 255: {_REMEDY}"
        )
    binary = is_binary(dataset.rows)
    maximum = 255.0 if levels else 1.0
    if binarization == "auto":
        binarization = "none" if binary or scaling == "unit" else "dynamic"
    if binarization != "none":
        return Preprocessing(binarization=binarization, maximum=maximum)
    if maximum == 1.0:
        return Preprocessing(scaling="unit" if scaling == "unit" else "none", grey=not binary, binary=binary)
    if scaling == "none":
        raise DataError(
            f"{dataset.name!r}: 0-255 integers to a Bernoulli decoder without binarisation or scaling: use "
            "binarization='dynamic', scaling='unit', or likelihood='gaussian'"
        )
    grey = any(bool(((block > 0) & (block < 255)).any()) for _, block in blocks(dataset.rows))
    return Preprocessing(scaling="unit", maximum=maximum, grey=grey, binary=not grey)


def _for_real(dataset: Dataset, scaling: Scaling | Literal["auto"], *, robust: bool = False) -> Preprocessing:
    if scaling == "none":
        _refuse_rounding(dataset)
        return Preprocessing()
    low, high = _range(dataset)
    levels = _has_levels(dataset)
    scalable = levels or (low >= 0 and high <= 1)
    image = scalable and (_is_image(dataset) or is_binary(dataset.rows))
    if scaling == "unit" or (scaling == "auto" and image):
        if not scalable:
            raise DataError(
                f"{dataset.name!r} holds values in [{low:g}, {high:g}]; scaling 'unit' needs whole numbers 0 to 255 or "
                "data in [0, 1]: use scaling='standardize' or 'none'"
            )
        return Preprocessing(scaling="unit", maximum=255.0 if levels else 1.0)
    return _standardize(dataset, robust)


def _moments(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column, in float64 and in two passes."""
    rows = dataset.rows
    total = np.zeros(rows.shape[1], np.float64)
    for _, block in blocks(rows):
        total += block.sum(axis=0, dtype=np.float64)
    mean = total / rows.shape[0]
    squares = np.zeros_like(total)
    for _, block in blocks(rows):
        squares += ((block - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(squares / rows.shape[0])


def _robust(dataset: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and scaled median absolute deviation of each column: for a Gaussian's, its mean and standard deviation.

    Where more than half of a column is one value there is no such deviation, and its moments stand in.
    """
    middle, spread = _moments(dataset)
    for start in range(0, dataset.num_columns, 64):
        block = dataset.rows[:, start : start + 64].astype(np.float64)
        median = np.median(block, axis=0)
        deviation = 1.4826 * np.median(np.abs(block - median), axis=0)
        at = slice(start, start + block.shape[1])
        middle[at] = np.where(deviation > 0, median, middle[at])
        spread[at] = np.where(deviation > 0, deviation, spread[at])
    return middle, spread


def _standardize(dataset: Dataset, robust: bool = False) -> Preprocessing:
    low, high = dataset.rows.min(axis=0).astype(np.float64), dataset.rows.max(axis=0).astype(np.float64)
    pixels = "; if these are pixels, name likelihood='bernoulli'" if _has_levels(dataset) else ""
    constant = "constant in the rows to train on: they have no scale to standardise by"
    _refuse_columns(dataset, low == high, constant, f"drop them or use scaling='none'{pixels}")
    mean, std = _robust(dataset) if robust else _moments(dataset)
    limits = np.finfo(np.float32)
    tiny, largest = float(limits.tiny), float(limits.max)
    extreme = (std < tiny) | (std > 1.0 / tiny) | (np.maximum(high - mean, mean - low) > largest)
    _refuse_columns(dataset, extreme, "too small or too large in scale for float32", "rescale them first")
    return Preprocessing(scaling="standardize", mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _refuse_rounding(dataset: Dataset) -> None:
    """Refuse columns whose digits float32, in which models compute, would lose: only what is float64 can."""
    if dataset.rows.dtype != np.float64:
        return
    lost = np.zeros(dataset.num_columns)
    for _, block in blocks(dataset.rows):
        lost = np.maximum(lost, np.abs(block - block.astype(np.float32)).max(axis=0))
    std = _moments(dataset)[1]
    wrong = (lost > ROUNDED * std) & (dataset.rows.min(axis=0) < dataset.rows.max(axis=0))
    _refuse_columns(dataset, wrong, "too far from zero for their spread: float32 loses it", "use scaling='standardize'")


def _refuse_columns(dataset: Dataset, wrong: NDArray[np.bool_], reason: str, remedy: str) -> None:
    indices = [int(index) for index in np.flatnonzero(wrong)]
    if indices:
        raise DataError(
            f"{dataset.name!r}: {len(indices)} of {dataset.num_columns} columns are {reason}: "
            f"{named(indices, dataset.columns)}; {remedy}"
        )


def _raise_names(pair: str, expected: tuple[str, ...], found: tuple[str, ...]) -> None:
    lacking = [name for name in expected if name not in set(found)]
    added = [name for name in found if name not in set(expected)]
    if not lacking:
        index = next(i for i, (left, right) in enumerate(zip(expected, found, strict=True)) if left != right)
        raise DataError(
            f"{pair}: the same columns in another order; column {index + 1} is {found[index]!r}, expected "
            f"{expected[index]!r}: reorder them"
        )
    shown = ", ".join(map(repr, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
    instead = ", ".join(map(repr, added[:5])) + (", ..." if len(added) > 5 else "")
    raise DataError(f"{pair}: the columns {shown} are missing, {instead} came instead: rename or reorder them")
