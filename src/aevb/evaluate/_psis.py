"""The Pareto k-hat of importance weights: whether their mean can be trusted."""

import math

import numpy as np
from jaxtyping import Bool, Float

# So many of the largest log-weights of a row are kept, however many there are in all: the rule below asks for more only
# above 7,225 samples, and a shorter tail lies further out, where the shape is that of the limit anyway.
TAIL = 256
# log w is a sum of many terms: so many units in the last digit of the largest log-weight are taken for rounding.
_ROUNDING = 32.0
# Above `KHAT_LIMIT` a mean of weights has a tail that no number of samples tames. It matters where the weights' own
# spread leaves more than this error, in nats, or where so small a part of the samples carries the mean.
KHAT_LIMIT, _SMALL_ERROR, _FEW = 0.7, 0.01, 0.1


def tail_length(num_samples: int) -> int:
    """M, how many of K weights are the tail: min(K / 5, 3 sqrt(K)) (Vehtari et al. 2024), as far as they are kept."""
    return min(math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples))), TAIL - 1)


def pareto_khat(
    largest: Float[np.ndarray, "N tail"], num_samples: int, *, rows_at_once: int = 1000
) -> Float[np.ndarray, " N"]:
    r"""Shape k of the generalised Pareto distribution that the largest of K importance weights follow.

    Weights with k < 1/2 have a finite variance. Their mean, and the log-likelihood with it, converges fast enough to be
    believed for k < 0.7 or so; above it, its error bars cannot be believed either (Vehtari, Simpson, Gelman, Yao &
    Gabry 2024, Pareto smoothed importance sampling). The fit is that of Zhang & Stephens (2009), drawn a little towards
    1/2 as Vehtari et al. do.

    Weights that differ by no more than rounding have no tail: where the largest log-weight is above the tail's
    threshold by less than 32 units in its last digit, as the array's type has them, k is -inf.

    Args:
        largest: the log-weights of each row from the largest downwards, at least `tail_length(K)` + 1 of them, in the
            floating-point type that they were computed in.
        num_samples: K, how many log-weights there were in all.
        rows_at_once: bounds the memory; does not change the result.

    Returns:
        (N,). NaN where K is below 21, too few for a tail, or all weights are zero; -inf where all weights of the tail
        are equal, which is perfect.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> log_weights = rng.exponential(scale=0.3, size=(1, 10_000))  # weights of a Pareto tail with k = 0.3
        >>> largest = -np.sort(-log_weights)[:, :TAIL]
        >>> print(bool(abs(pareto_khat(largest, 10_000)[0] - 0.3) < 0.2))
        True
    """
    length = tail_length(num_samples)
    if length < 5:
        return np.full(len(largest), np.nan)
    if largest.shape[1] <= length:
        raise ValueError(f"a tail of {length} of {num_samples} weights needs the {length + 1} largest of them")
    parts = [_fit(largest[i : i + rows_at_once, : length + 1]) for i in range(0, len(largest), rows_at_once)]
    return np.concatenate(parts)


def untrustworthy(
    khat: Float[np.ndarray, " N"],
    effective_sample_size: Float[np.ndarray, " N"],
    standard_error: Float[np.ndarray, " N"],
    num_samples: int,
) -> Bool[np.ndarray, " N"]:
    """Rows whose estimate and error bar cannot be believed: a heavy tail (k-hat above 0.7) of weights that matter.

    Matter: the standard error of log p(x) is above 0.01 nats, or fewer than a tenth of the samples are effective.
    Weights that are all but equal have a tail as well, and it may be of any shape.

    Args:
        khat, effective_sample_size, standard_error: of `importance_sampling`.
        num_samples: K.

    Returns:
        (N,). False where k-hat is NaN: nothing is known of a tail there.

    Example:
        >>> error, effective = np.array([0.5, 0.001]), np.array([20.0, 990.0])
        >>> untrustworthy(np.array([0.9, 0.9]), effective, error, 1000)
        array([ True, False])
    """
    matters = (standard_error > _SMALL_ERROR) | (effective_sample_size < _FEW * num_samples)
    return (khat > KHAT_LIMIT) & matters


def _fit(largest: np.ndarray) -> np.ndarray:
    rounding = _ROUNDING * np.finfo(largest.dtype).eps * np.abs(np.asarray(largest[:, 0], np.float64))
    log_w = np.asarray(largest, np.float64)
    weights = np.exp(log_w - np.where(np.isfinite(log_w[:, :1]), log_w[:, :1], 0.0))
    x = (weights[:, :-1] - weights[:, -1:])[:, ::-1]  # exceedances over the threshold, the (M + 1)-th largest weight
    khat = np.full(len(x), -np.inf)
    khat[~np.isfinite(log_w[:, 0])] = np.nan
    with np.errstate(invalid="ignore"):  # all weights zero
        fits = (x[:, -1] > 0) & np.isfinite(log_w[:, 0]) & (log_w[:, 0] - log_w[:, -1] > rounding)
    x = x[fits]
    n = x.shape[1]
    # Zhang & Stephens, eqs. 3-8: a mean over a grid of b = -k / sigma, weighted by its profile likelihood.
    j = np.arange(1, 31 + math.isqrt(n))
    # Several weights may be equal to the threshold, but not to a number that the grid overflows for.
    quartile = np.maximum(x[:, math.floor(n / 4 + 0.5) - 1], 1e-9 * x[:, -1])
    b = 1 / x[:, -1:] + (1 - np.sqrt(len(j) / (j - 0.5))) / (3 * quartile[:, None])
    k = np.mean(np.log1p(-b[:, :, None] * x[:, None, :]), axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = np.where(k == 0, -np.inf, n * (np.log(-b / k) - k - 1))
    weight = np.exp(profile - profile.max(axis=1, keepdims=True))
    b_mean = np.sum(b * weight, axis=1) / np.sum(weight, axis=1)
    k_mean = np.mean(np.log1p(-b_mean[:, None] * x), axis=1)
    khat[fits] = (n * k_mean + 10 * 0.5) / (n + 10)
    return khat
