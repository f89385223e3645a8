"""Ancestral samples held against the data: column by column, and by their distance to the training rows."""

import math
import operator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from aevb.errors import UnavailableError

from ._exchange import largest_by_chance, standard_error

# A difference of means by so many standard errors or fewer is never far.
FAR = 5.0
# From so many distances on either side the Mann-Whitney statistic is normal enough, if no two are equal; else it is
# held against so many exchanges.
_MANY, _EXCHANGES = 50, 9999


class ColumnStatistics(NamedTuple):
    """The D columns of x in samples and in data."""

    mean: Float[np.ndarray, " D"]  # of the samples
    data_mean: Float[np.ndarray, " D"]
    sd: Float[np.ndarray, " D"]
    data_sd: Float[np.ndarray, " D"]
    z_score: Float[np.ndarray, " D"]  # (mean - data_mean) in standard errors of that difference
    limit: float  # `FAR`, or more where chance alone puts a column farther
    share_far: float  # of columns with |z_score| > `limit`
    worst: Int[np.ndarray, " W"]  # indices (from 0) of up to 10 columns, by falling |z_score|

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; of the columns only the worst, counted from 1."""
        columns = [
            {
                "column": int(j) + 1,
                "mean": float(self.mean[j]),
                "data_mean": float(self.data_mean[j]),
                "sd": float(self.sd[j]),
                "data_sd": float(self.data_sd[j]),
                "z_score": float(self.z_score[j]),
            }
            for j in self.worst
        ]
        return {"num_columns": len(self.mean), "limit": self.limit, "share_far": self.share_far, "worst": columns}


def column_statistics(
    samples: Real[Array | np.ndarray, "S *x"], rows: Real[Array | np.ndarray, "N *y"], *, seed: int = 0
) -> ColumnStatistics:
    r"""Mean and standard deviation of each column of x in samples and in data, and how far apart the means are.

    z = (m_S - m_N) / e, where e^2 is the larger of s_S^2 / S + s_N^2 / N and s^2 (1 / S + 1 / N), s^2 the variance of
    all S + N rows; 0 where the means are equal. With few rows, or rare values, a model that fits can have |z| > 5: so
    where a column has, rows and samples are exchanged at random, and what is far must be above all columns of all 999
    exchanges. Chance alone does that with a probability of 0.001 at most. With many rows small misfits show too.

    Args:
        samples: x ~ p(x), S >= 2 of them, with all of its noise, not the means of p(x | z).
        rows: the data in the same units, N >= 2 independent rows.
        seed: of the exchanges.

    Example:
        >>> rows = np.array([[0, 1], [0, 3], [0, 2], [0, 2]])
        >>> c = column_statistics(rows + np.array([0, 1]), rows)
        >>> print(c.z_score.round(3), c.worst)
        [0.    1.528] [1 0]
    """
    x, data = _matrix(samples, "samples"), _matrix(rows, "rows")
    _check_columns(x, data, "samples", "rows")
    if min(len(x), len(data)) < 2:
        raise ValueError(f"a spread needs 2 samples and 2 rows or more, got {len(x)} and {len(data)}")
    (mean, sd), (data_mean, data_sd) = _moments(x), _moments(data)
    difference = mean - data_mean
    n, num_rows = len(x), len(data)
    both = n + num_rows
    within = (n - 1) * sd**2 + (num_rows - 1) * data_sd**2
    pooled_sd = np.sqrt((within + n * num_rows / both * difference**2) / (both - 1))
    error = standard_error(sd, data_sd, pooled_sd, n, num_rows)
    z_score = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    limit = FAR
    if np.max(np.abs(z_score)) > FAR:
        chance = largest_by_chance(x, data, data_mean + n / both * difference, pooled_sd, seed=seed)
        limit = max(FAR, math.ceil(10 * chance + 1e-6) / 10)  # as it is printed
    share_far = float(np.mean(np.abs(z_score) > limit))
    worst = np.argsort(-np.abs(z_score), kind="stable")[:10]
    return ColumnStatistics(mean, data_mean, sd, data_sd, z_score, limit, share_far, worst)


class NearestRows(NamedTuple):
    """The training rows nearest to each sample, the nearest first."""

    row_index: Int[np.ndarray, "S k"]
    distance: Float[np.ndarray, "S k"]  # Euclidean
    held_out_distance: Float[np.ndarray, " H"] | None  # of each held-out row to its nearest training row


def nearest_rows(
    samples: Real[Array | np.ndarray, "S *x"],
    train_rows: Real[Array | np.ndarray, "N *y"],
    *,
    held_out: Real[Array | np.ndarray, "H *z"] | None = None,
    num_neighbours: int = 1,
    chunk_size: int = 1000,
) -> NearestRows:
    r"""The nearest training rows of each sample in Euclidean distance, by matrix products in bounded memory.

    The search goes by |a|^2 - 2 ab + |b|^2 in float64, which loses digits where a and b are close; so a few more than
    `num_neighbours` candidates are kept, and their distances are computed anew from a - b.

    Args:
        samples: x ~ p(x), S of them, in the units of the training rows. Samples of x, noise and all, as the held-out
            rows have theirs: means of p(x | z) are smoother than data, and nearer to all of it.
        train_rows: the N rows that the model was fitted to.
        held_out: rows of the same source that it was not fitted to, for `memorisation`.
        num_neighbours: k, at most N.
        chunk_size: rows of either kind at once; bounds the memory, does not change the result.

    Raises:
        ValueError: no rows, rows of different length, not finite, or more neighbours than rows.

    Example:
        >>> found = nearest_rows(np.array([[0.9, 0.0], [5.0, 5.0]]), np.array([[0, 0], [1, 0], [5, 5]]))
        >>> print(found.row_index.ravel(), found.distance.ravel().round(3))
        [1 2] [0.1 0. ]
    """
    num_neighbours, chunk_size = operator.index(num_neighbours), operator.index(chunk_size)
    train = _matrix(train_rows, "train_rows")
    if not 1 <= num_neighbours <= len(train):
        raise ValueError(f"num_neighbours must be 1 ... {len(train)}, the number of rows, got {num_neighbours}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    x = _matrix(samples, "samples")
    _check_columns(x, train, "samples", "train_rows")
    held = None
    if held_out is not None:
        held = _matrix(held_out, "held_out")
        _check_columns(held, train, "held_out", "train_rows")
    index, distance = _nearest(x, train, num_neighbours, chunk_size)
    held_distance = None if held is None else _nearest(held, train, 1, chunk_size)[1][:, 0]
    return NearestRows(index, distance, held_distance)


class Memorisation(NamedTuple):
    """Distances of samples to their nearest training row, held against those of held-out rows."""

    median_ratio: float  # the samples' median distance over the held-out rows'; 1 if the model is right, 0 for copies
    nearer: float  # P(a sample is nearer to the training rows than a held-out row is); 1/2 if the model is right
    p_value_nearer: float  # of so large a `nearer` (Mann-Whitney, one-sided)
    p_value_farther: float  # of so small a one
    share_close: float  # of samples nearer than all but the nearest 1 % of held-out rows
    expected_share_close: float  # m / (H + 1), m the number of held-out rows in that 1 %, at least 1
    p_value_close: float  # of so large a `share_close`
    num_held_out: int  # H, without those that the model was trained on


def memorisation(nearest: NearestRows, trained_on: Bool[np.ndarray, " H"] | None = None) -> Memorisation:
    r"""Whether samples lie nearer to the training rows than rows do that the model has never seen.

    The Mann-Whitney statistic of Meehan, Chaudhuri & Dasgupta (2020, section 3) over all of the space, not in cells of
    it: U = #(sample < held-out) + #(ties) / 2 over the S H pairs, `nearer` = U / (S H). Its p-values are those of the
    normal approximation, or, with equal distances or few rows, of 9,999 random exchanges of the two. Because a few
    copies among many samples move U little, the samples below the m-th smallest held-out distance are counted too;
    where both kinds of rows come from one continuous distribution their number is beta-binomial(S; m, H - m + 1).

    Args:
        nearest: of `nearest_rows` with `held_out`.
        trained_on: which of the held-out rows the model was trained on after all; they are left out. None: none was.

    Raises:
        UnavailableError: there are no held-out rows to compare with, or the model was trained on all of them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, held_out = rng.normal(size=(200, 5)), rng.normal(size=(200, 5))
        >>> copies = train[:100] + 0.001 * rng.normal(size=(100, 5))
        >>> m = memorisation(nearest_rows(copies, train, held_out=held_out))
        >>> m.median_ratio < 0.1, m.nearer > 0.9, m.share_close > 0.9
        (True, True, True)
    """
    if nearest.held_out_distance is None:
        raise UnavailableError("there are no held-out rows to compare with; give nearest_rows its argument held_out")
    held = nearest.held_out_distance
    if trained_on is not None:
        if np.shape(trained_on) != held.shape:
            raise ValueError(f"trained_on must have one entry for each of {len(held)} held-out rows")
        held = held[~np.asarray(trained_on)]
        if len(held) == 0:
            raise UnavailableError(
                "the model was trained on all of these rows: there is none to hold the samples against"
            )
    samples, held = nearest.distance[:, 0], np.sort(held)
    s, h = len(samples), len(held)

    above = h - np.searchsorted(held, samples, side="right")
    ties = np.searchsorted(held, samples, side="right") - np.searchsorted(held, samples, side="left")
    u = float(np.sum(above) + np.sum(ties) / 2)
    m = max(1, math.ceil(0.01 * h))
    close = int(np.sum(samples < held[m - 1]))
    median = float(np.median(held))
    ratio = float(np.median(samples)) / median if median > 0 else math.nan
    return Memorisation(
        ratio,
        u / (s * h),
        *_mann_whitney(samples, held, u),
        close / s,
        m / (h + 1),
        _beta_binomial_tail(close, s, m, h - m + 1),
        h,
    )


def _mann_whitney(samples: Float[np.ndarray, " S"], held: Float[np.ndarray, " H"], u: float) -> tuple[float, float]:
    """The p-values of so large and of so small a U, if all distances are of one distribution."""
    s, h = len(samples), len(held)
    _, group, same = np.unique(np.concatenate([samples, held]), return_inverse=True, return_counts=True)
    if min(s, h) >= _MANY and len(same) == s + h:
        z = (u - s * h / 2) / math.sqrt(s * h * (s + h + 1) / 12)
        return math.erfc(z / math.sqrt(2)) / 2, math.erfc(-z / math.sqrt(2)) / 2
    # How many of each group of equal distances an exchange puts among the H. U grows with the sum of their ranks, and
    # twice a middle rank is a whole number.
    ranks = 2 * np.cumsum(same) - same + 1
    found = int(np.sum(ranks[group[s:]]))
    rng, larger, smaller = np.random.default_rng(0), 1, 1
    for start in range(0, _EXCHANGES, 1000):
        num = min(1000, _EXCHANGES - start)
        drawn = rng.multivariate_hypergeometric(same, h, size=num, method="marginals") @ ranks
        larger, smaller = larger + int(np.sum(drawn >= found)), smaller + int(np.sum(drawn <= found))
    return larger / (_EXCHANGES + 1), smaller / (_EXCHANGES + 1)


# --- matrices ---------------------------------------------------------------------------------------------------------


def _matrix(rows: Real[Array | np.ndarray, "N *x"], name: str) -> Real[np.ndarray, "N D"]:
    """One row per example, in the dtype that it has, and finite."""
    if len(rows) == 0:
        raise ValueError(f"there are 0 {name}; give at least one")
    matrix = np.asarray(rows).reshape(len(rows), -1)
    for start in range(0, len(matrix), 1000):
        if not np.all(np.isfinite(matrix[start : start + 1000])):
            raise ValueError(f"{name} hold a value that is not finite, between rows {start} and {start + 999}")
    return matrix


def _check_columns(a: np.ndarray, b: np.ndarray, a_name: str, b_name: str) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a_name} and {b_name} must have as many columns, got {a.shape[1]} and {b.shape[1]}")


def _moments(matrix: Real[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Mean and standard deviation (n - 1) of each column in float64, a few columns at a time. A constant has sd 0."""
    d = matrix.shape[1]
    mean, sd = np.empty(d), np.empty(d)
    for j in range(0, d, 64):
        block = matrix[:, j : j + 64].astype(np.float64)
        first = block[0].copy()  # the shift makes a constant column's moments exact
        block -= first
        mean[j : j + 64], sd[j : j + 64] = first + block.mean(axis=0), block.std(axis=0, ddof=1)
    return mean, sd


def _nearest(
    queries: Real[np.ndarray, "S D"], train: Real[np.ndarray, "N D"], k: int, chunk_size: int
) -> tuple[Int[np.ndarray, "S k"], Float[np.ndarray, "S k"]]:
    """Indices and distances of the k nearest training rows."""
    num = min(k + 4, len(train))  # candidates: more than k, for what rounding may have put in the wrong order
    # Far from zero |b|^2 - 2 ab would have no digit left of a distance.
    centre = train.mean(axis=0, dtype=np.float64)
    squared = np.full((len(queries), num), np.inf)
    index = np.zeros((len(queries), num), np.int64)
    for start in range(0, len(train), chunk_size):
        b = train[start : start + chunk_size].astype(np.float64) - centre
        b_squared = np.einsum("nd,nd->n", b, b)
        for q in range(0, len(queries), chunk_size):
            a = queries[q : q + chunk_size].astype(np.float64) - centre
            # |b|^2 - 2 ab: |a|^2 is the same for all candidates
            new = np.concatenate([squared[q : q + chunk_size], b_squared - 2.0 * (a @ b.T)], axis=1)
            where = np.concatenate(
                [index[q : q + chunk_size], np.broadcast_to(start + np.arange(len(b)), (len(a), len(b)))], axis=1
            )
            best = np.argpartition(new, num - 1, axis=1)[:, :num]
            squared[q : q + chunk_size] = np.take_along_axis(new, best, axis=1)
            index[q : q + chunk_size] = np.take_along_axis(where, best, axis=1)
    # The distances anew, from a - b; then the nearest first, and of equal ones the lower index.
    distance = np.empty_like(squared)
    for c in range(num):
        for q in range(0, len(queries), chunk_size):
            a = queries[q : q + chunk_size].astype(np.float64)
            b = train[index[q : q + chunk_size, c]].astype(np.float64)
            distance[q : q + chunk_size, c] = np.sqrt(np.sum((a - b) ** 2, axis=1))
    order = np.lexsort((index, distance), axis=1)[:, :k]
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(distance, order, axis=1)


def _beta_binomial_tail(count: int, n: int, a: int, b: int) -> float:
    """P(C >= count), C ~ beta-binomial(n; a, b): P(C = c) = (n choose c) B(c + a, n - c + b) / B(a, b)."""

    def log_beta(a: int, b: int) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    def probability(c: int) -> float:
        log_choose = -math.log(n + 1) - log_beta(n - c + 1, c + 1)
        return math.exp(log_choose + log_beta(c + a, n - c + b) - log_beta(a, b))

    return min(1.0, math.fsum(probability(c) for c in range(count, n + 1)))
