"""The Pareto k-hat of importance weights: whether their mean can be trusted."""

import math

import numpy as np
from jaxtyping import Float

# So many of the largest log-weights of a row are kept, however many there are in all: the rule below asks for more only
# above 7,225 samples, and a shorter tail lies further out, where the shape is that of the limit anyway.
TAIL = 256


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

    Args:
        largest: the log-weights of each row from the largest downwards, at least `tail_length(K)` + 1 of them.
        num_samples: K, how many log-weights there were in all.
        rows_at_once: bounds the memory; does not change the result.

    Returns:
        (N,). NaN where K < 25, too few for a tail; -inf where all weights of the tail are equal.

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


def _fit(largest: np.ndarray) -> np.ndarray:
    log_w = np.asarray(largest, np.float64)
    weights = np.exp(log_w - np.where(np.isfinite(log_w[:, :1]), log_w[:, :1], 0.0))
    x = (weights[:, :-1] - weights[:, -1:])[:, ::-1]  # exceedances over the threshold, the (M + 1)-th largest weight
    khat = np.full(len(x), -np.inf)
    khat[~np.isfinite(log_w[:, 0])] = np.nan
    fits = (x[:, -1] > 0) & np.isfinite(log_w[:, 0])
    x = x[fits]
    n = x.shape[1]
    # Zhang & Stephens, eqs. 3-8: a mean over a grid of b = -k / sigma, weighted by its profile likelihood.
    j = np.arange(1, 31 + math.isqrt(n))
    quartile = np.maximum(x[:, math.floor(n / 4 + 0.5) - 1], np.finfo(np.float64).tiny)
    b = 1 / x[:, -1:] + (1 - np.sqrt(len(j) / (j - 0.5))) / (3 * quartile[:, None])
    k = np.mean(np.log1p(-b[:, :, None] * x[:, None, :]), axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = np.where(k == 0, -np.inf, n * (np.log(-b / k) - k - 1))
    weight = np.exp(profile - profile.max(axis=1, keepdims=True))
    b_mean = np.sum(b * weight, axis=1) / np.sum(weight, axis=1)
    k_mean = np.mean(np.log1p(-b_mean[:, None] * x), axis=1)
    khat[fits] = (n * k_mean + 10 * 0.5) / (n + 10)
    return khat
