"""The units in which a report tells values of x: those of the data, or 0 and 1 where the model saw them binarised."""

import numpy as np

from aevb.fitted import FittedModel

BINARISED = "The data are told as the model sees them: binarised, 0 and 1."


def is_binarised(fitted: FittedModel) -> bool:
    """Whether what the model sees has lost the stored values."""
    return fitted.spec is not None and fitted.preprocessing.binarization != "none"


def told(fitted: FittedModel, stored: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Rows of data as they are told, of these two: as they are stored and as the models see them.

    Not by the inverse: of a standardised 0 it makes almost 0.
    """
    return x if is_binarised(fitted) else stored


def made(fitted: FittedModel, x: np.ndarray) -> np.ndarray:
    """x that the model made, (N, D), in the units of `told`; whole numbers where `FittedModel.sample` gives them."""
    if is_binarised(fitted):
        return x
    values = fitted.feed.restored(x).reshape(len(x), -1)
    return np.rint(values) if fitted.makes_levels else values
