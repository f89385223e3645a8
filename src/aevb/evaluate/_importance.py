"""log p(x) by importance sampling with the recognition model as proposal."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, log_joint_of, posterior_of

from ._psis import TAIL, pareto_khat
from ._rows import map_rows

# So many log-weights of a row are held at once; above it, they are folded into the sums and forgotten.
SAMPLES_AT_ONCE = 8192
# Samples of all rows in one call of the device, which Ctrl-C waits for: a second's work for an image model.
SAMPLES_A_CALL = 200_000


class ImportanceSampling(NamedTuple):
    """log p(x) of N rows from K importance samples each, and how far it can be trusted.

    The last four fields are what K samples come to in memory that does not grow with K; `importance_sampling` goes on
    from them.
    """

    log_likelihood: Float[np.ndarray, " N"]  # log 1/K sum_k w_k, nats
    standard_error: Float[np.ndarray, " N"]  # of it, by the spread of the K weights (delta method); NaN for K = 1
    effective_sample_size: Float[np.ndarray, " N"]  # (sum w)^2 / sum w^2, between 1 and K
    khat: Float[np.ndarray, " N"]  # `pareto_khat` of the weights; above 0.7 the three above cannot be trusted
    num_samples: int  # K
    largest: Float[np.ndarray, " N"]  # max_k log w_k
    sums: Float[np.ndarray, "N 2"]  # of w / max w, and of its square
    tail: Float[np.ndarray, "N tail"]  # the largest log w_k, downwards


def importance_sampling(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
    key: PRNGKeyArray,
    *,
    num_samples: int = 1000,
    chunk_size: int = 50,
    batch_size: int = 20,
    first_row: int = 0,
    more_of: ImportanceSampling | None = None,
) -> ImportanceSampling:
    r"""log 1/K sum_k w_k with w_k = p(x, z_k) / q(z_k | x), z_k ~ q(z | x), of each row, with its error and its trust.

    In expectation a lower bound on log p(x) that rises with K and is never below the ELBO (Burda et al. 2016, L_K);
    exact as K grows. Where q(z | x) is narrower than the posterior the weights have a heavy tail, and no error bar
    tells how much is missing; k-hat does.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x), the proposal.
        rows: x as the models see it, (N, D).
        key: sample k of row i uses fold_in(fold_in(key, first_row + i), k).
        num_samples: K, samples per row.
        chunk_size: samples at once; does not change the result beyond rounding.
        batch_size: rows at once; does not change the result beyond rounding.
        first_row: where `rows` begins in the data set that it is a part of.
        more_of: what the same call with fewer samples gave: only those that are missing are drawn, and the result is
            that of K samples at once.

    Raises:
        ValueError: K or the chunk below 1, or `more_of` has as many samples or other rows.

    Example:
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> some = importance_sampling(g, q, np.ones((5, 4), np.float32), jax.random.key(2), num_samples=50)
        >>> more = importance_sampling(
        ...     g, q, np.ones((5, 4), np.float32), jax.random.key(2), num_samples=200, more_of=some
        ... )
        >>> more.log_likelihood.shape, bool((more.effective_sample_size > some.effective_sample_size).all())
        ((5,), True)
    """
    result = _sample(generative, recognition, rows, key, num_samples, chunk_size, batch_size, first_row, more_of, TAIL)
    khat = pareto_khat(result.tail, result.num_samples)
    return result._replace(khat=khat.astype(result.log_likelihood.dtype))


def log_likelihood(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
    key: PRNGKeyArray,
    *,
    num_samples: int = 100,
    chunk_size: int = 50,
    batch_size: int = 20,
) -> Float[np.ndarray, " N"]:
    """log p(x) of each row in nats, (N,): `importance_sampling` without its error and k-hat.

    The arguments are those of `importance_sampling`.
    """
    result = _sample(generative, recognition, rows, key, num_samples, chunk_size, batch_size, 0, None, 1)
    return result.log_likelihood


def _sample(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Any,
    key: PRNGKeyArray,
    num_samples: int,
    chunk_size: int,
    batch_size: int,
    first_row: int,
    more_of: ImportanceSampling | None,
    tail: int,
) -> ImportanceSampling:
    num_samples = operator.index(num_samples)
    if num_samples < 1 or chunk_size < 1:
        raise ValueError(f"num_samples and chunk_size must be at least 1, got {num_samples} and {chunk_size}")
    start = 0 if more_of is None else more_of.num_samples
    if more_of is not None and (start >= num_samples or len(more_of.largest) != len(rows)):
        raise ValueError(
            f"going on from {start} samples of {len(more_of.largest)} rows needs the same rows and more samples, got "
            f"{num_samples} samples of {len(rows)} rows"
        )
    missing = num_samples - start
    num_runs = math.ceil(missing / SAMPLES_AT_ONCE)
    chunk_size = min(chunk_size, missing)
    num_chunks = math.ceil(missing / num_runs / chunk_size)
    fn = _row_function(num_chunks, chunk_size, min(tail, num_chunks * chunk_size))
    rows_at_once = math.ceil(SAMPLES_A_CALL / (num_chunks * chunk_size) / batch_size) * batch_size
    sums = None if more_of is None else (more_of.largest, more_of.sums, more_of.tail)
    for first in range(start, num_samples, num_chunks * chunk_size):
        span = jnp.asarray([first, num_samples], jnp.uint32)
        args = (generative, recognition, span)
        part = map_rows(fn, args, rows, key, batch_size=batch_size, first_row=first_row, rows_at_once=rows_at_once)
        sums = part if sums is None else _merge(sums, part, tail)
    assert sums is not None
    return _summarize(num_samples, *sums)


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(num_chunks: int, chunk_size: int, tail: int) -> Callable[..., Any]:
    def sums_of_row(
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        span: Array,
        key: PRNGKeyArray,
        row: Array,
    ) -> tuple[Array, Array, Array]:
        x = row.astype(float)

        def log_weight(k: Array) -> Float[Array, ""]:
            q = posterior_of(recognition, x)  # made anew inside: a distribution must not cross a vmap
            z = q.sample(jax.random.fold_in(key, k))
            return log_joint_of(generative, x, z) - q.log_prob(z)

        def chunk(_: None, start: Array) -> tuple[None, Array]:
            k = start + jnp.arange(chunk_size, dtype=jnp.uint32)
            # Samples past the K-th fill up the last chunk; they weigh nothing.
            return None, jnp.where(k < span[1], jax.vmap(log_weight)(k), -jnp.inf)

        starts = span[0] + jnp.arange(num_chunks, dtype=jnp.uint32) * jnp.uint32(chunk_size)
        log_w = jax.lax.scan(chunk, None, starts)[1].ravel()
        largest = jnp.max(log_w)
        w = jnp.exp(log_w - jnp.where(jnp.isfinite(largest), largest, 0.0))  # all weights zero: avoid inf - inf
        return largest, jnp.stack([jnp.sum(w), jnp.sum(jnp.square(w))]), jax.lax.top_k(log_w, tail)[0]

    return sums_of_row


def _merge(one: Any, other: Any, tail: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sums of two sets of samples together: each relative to the larger of the two largest log-weights."""
    largest = np.maximum(one[0], other[0])
    shift = np.where(np.isfinite(largest), largest, 0.0)
    scales = [np.exp(np.stack([part[0] - shift, 2 * (part[0] - shift)], axis=1)) for part in (one, other)]
    sums = one[1] * scales[0] + other[1] * scales[1]
    both = np.concatenate([one[2], other[2]], axis=1)
    return largest, sums, -np.sort(-both, axis=1)[:, :tail]


def _summarize(num_samples: int, largest: np.ndarray, sums: np.ndarray, tail: np.ndarray) -> ImportanceSampling:
    total, squares = sums.T.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows whose weights are all zero: -inf, and no error to tell
        # var(w) / (K mean(w)^2), with the sample variance: what the delta method makes of the spread of w for log w
        relative = np.maximum(num_samples * squares / total**2 - 1.0, 0.0) / (num_samples - 1)
        log_p = largest + np.log(total) - np.log(num_samples)
        effective = total**2 / squares
    dtype = largest.dtype
    return ImportanceSampling(
        log_likelihood=log_p.astype(dtype),
        standard_error=np.sqrt(relative).astype(dtype),
        effective_sample_size=effective.astype(dtype),
        khat=np.full_like(largest, np.nan),
        num_samples=num_samples,
        largest=largest,
        sums=sums,
        tail=tail,
    )
