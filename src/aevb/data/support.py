"""The choice of preprocessing for a data set and a likelihood, and every check of data against a model's support."""

from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aevb.errors import ConfigError, DataError

from .arrays import blocks
from .dataset import Dataset
from .preprocessing import Binarization, Preprocessing, Scaling

Likelihood = Literal["bernoulli", "gaussian", "continuous-bernoulli", "discretized-logistic"]

_REMEDY = "divide by 255 (or by the maximum), pass uint8, or use --likelihood gaussian"


def is_binary(rows: NDArray[Any]) -> bool:
    """Whether every value of (N, D) rows is 0 or 1."""
    return all(bool(((block == 0) | (block == 1)).all()) for _, block in blocks(rows))


def choose_preprocessing(
    dataset: Dataset,
    likelihood: Likelihood,
    binarization: Binarization | Literal["auto"] = "auto",
    scaling: Scaling | Literal["auto"] = "auto",
) -> Preprocessing:
    """Decide, once and on record, what the likelihood will see of the data.

    Bernoulli, "auto": data of only 0 and 1 pass unchanged; other uint8 data are binarised dynamically with maximum 255,
    and other floats in [0, 1] with maximum 1. With binarization "none", or with scaling "unit" asked for, they pass as
    grey values and `grey` is set.
    Continuous Bernoulli and discretised logistic: divided by 255, or passed if they lie in [0, 1] (the latter wants
    uint8).
    Gaussian, "auto": uint8 arrays are divided by 255 (by 1 if they are only 0 and 1); others, and tables with named
    columns, are standardised column by column.

    Raises:
        ConfigError: for an unknown choice, or two that contradict each other.
        DataError: if the data lie outside the likelihood's support, or cannot be scaled as asked.
    """
    _check_choice("likelihood", likelihood, get_args(Likelihood))
    _check_choice("binarization", binarization, ("auto", *get_args(Binarization)))
    _check_choice("scaling", scaling, ("auto", *get_args(Scaling)))
    if likelihood != "bernoulli":
        if binarization in ("dynamic", "threshold"):
            raise ConfigError(
                f"binarization {binarization!r} gives 0 and 1, which a {likelihood} likelihood does not model"
            )
        if likelihood == "gaussian":
            return _for_gaussian(dataset, scaling)
        if scaling in ("none", "standardize"):
            raise ConfigError(f"a {likelihood} likelihood needs data in [0, 1]; use scaling 'unit'")
        if likelihood == "discretized-logistic" and (dataset.rows.dtype != np.uint8 or _range(dataset)[1] <= 1):
            raise DataError(
                f"{dataset.name!r} does not hold levels 0 to 255 as uint8, which are what a discretized-logistic "
                "likelihood gives probabilities to: use --likelihood continuous-bernoulli or gaussian"
            )
        return _for_gaussian(dataset, "unit")
    if scaling == "standardize":
        raise ConfigError("a bernoulli likelihood needs data in [0, 1]: scaling 'standardize' leaves it")
    if binarization in ("dynamic", "threshold") and scaling == "unit":
        raise ConfigError(f"binarization {binarization!r} divides by the maximum itself: scaling 'unit' repeats it")
    return _for_bernoulli(dataset, binarization, scaling)


def check_compatible(
    preprocessing: Preprocessing,
    columns: tuple[str, ...] | None,
    event_shape: tuple[int, ...],
    other: Dataset,
    *,
    name: str = "the training data",
) -> None:
    """Check a second data set (validation, test, to be encoded) against the one that the model was fitted to.

    Args:
        preprocessing, columns, event_shape, name: of the fitted model and its data.
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
    bernoulli = preprocessing.binarization != "none" or preprocessing.grey or preprocessing.binary
    if not bernoulli and preprocessing.scaling != "unit":
        return
    low, high = _range(other)
    limit = preprocessing.maximum
    if low < 0 or high > limit:
        raise DataError(f"{pair}: its values lie in [{low:g}, {high:g}], expected [0, {limit:g}]: scale them the same")
    if limit > 1 and 0 < high <= 1:
        raise DataError(
            f"{pair}: its values lie in [{low:g}, {high:g}], but there {limit:g} means 1: multiply by {limit:g} "
            "or fit to data scaled like these"
        )
    if preprocessing.binary:
        values = other.rows if limit == 1 else other.rows / np.float32(limit)
        if not is_binary(values):
            raise DataError(f"{pair}: that is 0 and 1 only, this holds values between: binarise them")


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"unknown {what} {value!r}; choose one of {', '.join(choices)}")


def _range(dataset: Dataset) -> tuple[float, float]:
    return float(dataset.rows.min()), float(dataset.rows.max())


def _for_bernoulli(
    dataset: Dataset, binarization: Binarization | Literal["auto"], scaling: Scaling | Literal["auto"]
) -> Preprocessing:
    low, high = _range(dataset)
    integers = dataset.rows.dtype == np.uint8
    if not integers and (low < 0 or high > 1):
        raise DataError(
            f"{dataset.name!r} holds values in [{low:g}, {high:g}], a bernoulli likelihood needs [0, 1] or "
            f"uint8: {_REMEDY}"
        )
    binary = is_binary(dataset.rows)
    maximum = 255.0 if integers and not binary else 1.0
    if binarization == "auto":
        binarization = "none" if binary or scaling == "unit" else "dynamic"
    if binarization != "none":
        return Preprocessing(binarization=binarization, maximum=maximum)
    if maximum == 1.0:
        return Preprocessing(scaling="unit" if scaling == "unit" else "none", grey=not binary, binary=binary)
    if scaling == "none":
        raise DataError(
            f"{dataset.name!r}: 0-255 integers to a Bernoulli decoder without binarisation or scaling: use "
            "--binarization dynamic, --scaling unit, or --likelihood gaussian"
        )
    grey = any(bool(((block > 0) & (block < 255)).any()) for _, block in blocks(dataset.rows))
    return Preprocessing(scaling="unit", maximum=maximum, grey=grey, binary=not grey)


def _for_gaussian(dataset: Dataset, scaling: Scaling | Literal["auto"]) -> Preprocessing:
    integers = dataset.rows.dtype == np.uint8
    if scaling == "none":
        return Preprocessing()
    image = integers and dataset.columns is None
    if scaling == "unit" or (scaling == "auto" and image):
        low, high = _range(dataset)
        if not integers and (low < 0 or high > 1):
            raise DataError(
                f"{dataset.name!r} holds values in [{low:g}, {high:g}]; scaling 'unit' needs uint8 or data in [0, 1]: "
                "use --scaling standardize or none"
            )
        return Preprocessing(scaling="unit", maximum=255.0 if integers and high > 1 else 1.0)
    return _standardize(dataset)


def _standardize(dataset: Dataset) -> Preprocessing:
    rows = dataset.rows
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    _refuse_columns(dataset, low == high, "constant: they have no scale to standardise by")
    total = np.zeros(rows.shape[1], np.float64)
    for _, block in blocks(rows):
        total += block.sum(axis=0, dtype=np.float64)
    mean = total / rows.shape[0]
    squares = np.zeros_like(total)
    for _, block in blocks(rows):
        squares += ((block - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / rows.shape[0])
    limits = np.finfo(np.float32)
    tiny, largest = float(limits.tiny), float(limits.max)
    extreme = (std < tiny) | (std > 1.0 / tiny) | (np.maximum(high - mean, mean - low) > largest)
    _refuse_columns(dataset, extreme, "too small or too large in scale for float32: rescale them first")
    return Preprocessing(scaling="standardize", mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _refuse_columns(dataset: Dataset, wrong: NDArray[np.bool_], reason: str) -> None:
    indices = [int(index) for index in np.flatnonzero(wrong)]
    if indices:
        names = [repr(dataset.columns[i]) if dataset.columns else str(i) for i in indices[:5]]
        more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
        kind = "columns" if dataset.columns else "columns (counted from 0)"
        raise DataError(
            f"{dataset.name!r}: {len(indices)} of {dataset.num_columns} {kind} are {reason}: {', '.join(names)}{more}; "
            "drop them or use --scaling none"
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
