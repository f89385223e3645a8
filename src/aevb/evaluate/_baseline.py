"""A yardstick for log p(x): what a model without latent variables, its columns independent, makes of the same rows."""

import numpy as np
from jaxtyping import Float, Real

from aevb.data import Values

# Half a row of each value, so that a column that never varied in training does not make a row impossible.
_PSEUDO_COUNT = 0.5


def independent_columns(
    train: Real[np.ndarray, "N *x"],
    rows: Real[np.ndarray, "M *x"],
    values: Values,
    *,
    min_scale: float = 1e-3,
) -> Float[np.ndarray, " M"]:
    r"""log p(x) of each row under prod_d p_d(x_d), each p_d fitted to one column of the training rows, in nats.

    What a latent-variable model must beat to have learnt anything of how columns go together. To beat Gaussian columns
    it is enough, too, that the data's own are not Gaussian: a model of skewed columns can do that by their skew alone.

    Args:
        train: training rows as the models see them.
        rows: the rows to judge, as the models see them.
        values: `Values.BINARY`: p_d from the counts of ones, with half a count of either value added; `Values.REAL`:
            a Gaussian of the column's mean and standard deviation.
        min_scale: floor of the Gaussian's standard deviation, that of the model's decoder.

    Example:
        >>> train = np.array([[0, 1], [1, 1], [0, 1], [1, 1]])
        >>> independent_columns(train, np.array([[0, 1]]), Values.BINARY).round(4)  # log 1/2 + log 0.9
        array([-0.7985])
    """
    train, rows = (np.asarray(part).reshape(len(part), -1) for part in (train, rows))
    mean = train.mean(axis=0, dtype=np.float64)
    if values is Values.BINARY:
        p = (mean * len(train) + _PSEUDO_COUNT) / (len(train) + 2 * _PSEUDO_COUNT)
        log_odds, log_zero = np.log(p) - np.log1p(-p), np.log1p(-p)
        return np.asarray(rows.astype(np.float64) @ log_odds + log_zero.sum())
    scale = np.maximum(train.std(axis=0, dtype=np.float64), min_scale)
    y = (rows - mean) / scale
    return np.asarray(-0.5 * np.sum(y**2 + np.log(2 * np.pi), axis=1) - np.log(scale).sum())
