"""How far apart chance puts the means of two samples of one distribution, whatever it is: by exchanging their rows."""

import math

import numpy as np
from jaxtyping import Float, Real

EXCHANGES = 999
_AT_ONCE = 100  # exchanges; one is a row of as many numbers as there are rows


def standard_error(
    sd: Float[np.ndarray, "*D"],
    other_sd: Float[np.ndarray, "*D"],
    pooled_sd: Float[np.ndarray, "*D"],
    num: int,
    other_num: int,
) -> Float[np.ndarray, "*D"]:
    """Of a difference of two means: the larger of Welch's and that of rows which all come from one distribution.

    Welch's alone is 0 where neither sample varies: few rows of a column that is nearly always 1 are often all 1.
    """
    welch = np.sqrt(sd**2 / num + other_sd**2 / other_num)
    return np.maximum(welch, pooled_sd * math.sqrt(1 / num + 1 / other_num))


def largest_by_chance(
    samples: Real[np.ndarray, "S D"],
    rows: Real[np.ndarray, "N D"],
    mean: Float[np.ndarray, " D"],
    sd: Float[np.ndarray, " D"],
    *,
    seed: int,
) -> float:
    """The largest |difference of means| in standard errors over all columns and `EXCHANGES` exchanges.

    Each exchange parts the S + N rows at random into S and N. If all are independent draws of one distribution, the
    true parting is one like the others: that it has a column above all of them has a probability of at most
    1 / (`EXCHANGES` + 1), for any distribution and dependence of the columns.

    Args:
        samples, rows: of the same columns.
        mean, sd: of the S + N rows together.
        seed: of the exchanges.
    """
    vary = np.flatnonzero(sd > 0)
    total, few = len(samples) + len(rows), min(len(samples), len(rows))
    many, rng, largest = total - few, np.random.default_rng(seed), 0.0
    for start in range(0, EXCHANGES, _AT_ONCE):
        among_few = np.zeros((min(_AT_ONCE, EXCHANGES - start), total))
        for one in among_few:
            one[rng.choice(total, few, replace=False, shuffle=False)] = 1.0
        for j in range(0, len(vary), 64):
            columns = vary[j : j + 64]
            y = np.concatenate([matrix[:, columns].astype(np.float64) for matrix in (samples, rows)])
            y = (y - mean[columns]) / sd[columns]  # of mean 0 and with squares that sum to total - 1
            sums, squares = among_few @ y, among_few @ y**2
            of_few = np.sqrt(np.maximum(squares - sums**2 / few, 0.0) / (few - 1))
            of_many = np.sqrt(np.maximum(total - 1 - squares - sums**2 / many, 0.0) / (many - 1))
            error = standard_error(of_few, of_many, np.ones_like(sums), few, many)
            largest = max(largest, float(np.max(np.abs(sums) * (1 / few + 1 / many) / error)))
    return largest
