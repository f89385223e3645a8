"""log p(x) by importance sampling, from a mixture of the recognition model and what it may leave out."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows, X, as_floats, log_joint_of, num_rows_of

from ._proposal import PATTERN, Proposal, make_proposal
from ._psis import TAIL, pareto_khat
from ._rows import map_rows

# So many log-weights of a row are held at once; above it, they are folded into the sums and forgotten.
SAMPLES_AT_ONCE = 8192
# Samples of all rows in one call of the device, which Ctrl-C waits for: a second's work for an image model.
SAMPLES_A_CALL = 200_000
_KINDS = max(PATTERN) + 1  # of components


class ImportanceSampling(NamedTuple):
    """log p(x) of N rows from K importance samples each, and how far it can be trusted.

    The last five fields are what K samples come to in memory that does not grow with K; `importance_sampling` goes on
    from them.
    """

    log_likelihood: Float[np.ndarray, " N"]  # log 1/K sum_k w_k, nats
    # Of it, by the spread of each component's weights; NaN for K = 1. Below some 25 samples they know too little of
    # their own spread: with K = 5 it was half of what it should be.
    standard_error: Float[np.ndarray, " N"]
    effective_sample_size: Float[np.ndarray, " N"]  # (sum w)^2 / sum w^2, between 1 and K
    khat: Float[np.ndarray, " N"]  # `pareto_khat` of the weights; see `untrustworthy`
    num_samples: int  # K
    largest: Float[np.ndarray, " N"]  # max_k log w_k
    sums: Float[np.ndarray, "N kinds 2"]  # of w / max w, and of its square, over the samples of each component
    counts: Float[np.ndarray, "N kinds"]  # of these samples
    tail: Float[np.ndarray, "N tail"]  # the largest log w_k, downwards


def importance_sampling(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    num_samples: int = 1000,
    chunk_size: int = 50,
    batch_size: int = 20,
    first_row: int = 0,
    proposal: Proposal = "defensive",
    more_of: ImportanceSampling | None = None,
) -> ImportanceSampling:
    r"""log 1/K sum_k w_k with w_k = p(x, z_k) / q0(z_k), z_k ~ q0(z), of each row, with its error and its trust.

    E[1/K sum_k w_k] = p(x) for any q0, so that in expectation this is a lower bound on log p(x), which is exact as K
    grows. With q0 = q(z | x) it rises with K from the ELBO (Burda et al. 2016, L_K). But an encoder's q is often
    narrower than the posterior, and leaves out whole regions: the bound is then low by nats, whatever the error bar
    says. The defensive q0 is a mixture of q(z | x), of q made wider, and of p(z) (`proposal_components` says which of
    them a model has): no weight is more than twice what it is with q alone. Measured in `benchmarks/log_p.json`.

    A tail of the weights that is heavy all the same is seen by k-hat; what no sample has met, nothing tells.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x).
        rows: x as the models see it, (N, D).
        key: sample k of row i uses fold_in(fold_in(key, first_row + i), k).
        num_samples: K, samples per row.
        chunk_size: samples at once; does not change the result beyond rounding.
        batch_size: rows at once; does not change the result beyond rounding.
        first_row: where `rows` begins in the data set that it is a part of.
        proposal: q0: "defensive", the mixture; "encoder", q(z | x) alone.
        more_of: what the same call with fewer samples gave: only those that are missing are drawn, and the result is
            that of K samples at once.

    Raises:
        ValueError: K or the chunk below 1, an unknown proposal, or `more_of` has as many samples or other rows.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> some = importance_sampling(g, q, np.ones((5, 4), np.float32), jax.random.key(2), num_samples=50)
        >>> more = importance_sampling(
        ...     g, q, np.ones((5, 4), np.float32), jax.random.key(2), num_samples=200, more_of=some
        ... )
        >>> more.log_likelihood.shape, bool((more.effective_sample_size > some.effective_sample_size).all())
        ((5,), True)
    """
    settings = _Settings(chunk_size, batch_size, first_row, proposal, TAIL)
    result = _sample(generative, recognition, rows, key, num_samples, settings, more_of)
    khat = pareto_khat(result.tail, result.num_samples)
    return result._replace(khat=khat.astype(result.log_likelihood.dtype))


def log_likelihood(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    num_samples: int = 100,
    chunk_size: int = 50,
    batch_size: int = 20,
    proposal: Proposal = "defensive",
) -> Float[np.ndarray, " N"]:
    """log p(x) of each row in nats, (N,): `importance_sampling` without its error and k-hat.

    The arguments are those of `importance_sampling`.
    """
    settings = _Settings(chunk_size, batch_size, 0, proposal, 1)
    return _sample(generative, recognition, rows, key, num_samples, settings, None).log_likelihood


class _Settings(NamedTuple):
    chunk_size: int
    batch_size: int
    first_row: int
    proposal: str
    tail: int


def _sample(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Any,
    key: PRNGKeyArray,
    num_samples: int,
    settings: _Settings,
    more_of: ImportanceSampling | None,
) -> ImportanceSampling:
    num_samples = operator.index(num_samples)
    chunk_size, batch_size, first_row, proposal, tail = settings
    if proposal not in get_args(Proposal):
        raise ValueError(f"proposal must be one of {', '.join(get_args(Proposal))}, got {proposal!r}")
    for name, value in (("num_samples", num_samples), ("chunk_size", chunk_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    start = 0 if more_of is None else more_of.num_samples
    if more_of is not None and (start >= num_samples or len(more_of.largest) != num_rows_of(rows)):
        raise ValueError(
            f"going on from {start} samples of {len(more_of.largest)} rows needs the same rows and more samples, got "
            f"{num_samples} samples of {num_rows_of(rows)} rows"
        )
    missing = num_samples - start
    num_runs = math.ceil(missing / SAMPLES_AT_ONCE)
    chunk_size = min(chunk_size, missing)
    num_chunks = math.ceil(missing / num_runs / chunk_size)
    fn = _row_function(num_chunks, chunk_size, min(tail, num_chunks * chunk_size), proposal)
    rows_at_once = math.ceil(SAMPLES_A_CALL / (num_chunks * chunk_size) / batch_size) * batch_size
    sums = None if more_of is None else (more_of.largest, more_of.sums, more_of.counts, more_of.tail)
    for first in range(start, num_samples, num_chunks * chunk_size):
        span = jnp.asarray([first, num_samples], jnp.uint32)
        args = (generative, recognition, span)
        part = map_rows(fn, args, rows, key, batch_size=batch_size, first_row=first_row, rows_at_once=rows_at_once)
        sums = part if sums is None else _merge(sums, part, tail)
    assert sums is not None
    return _summarize(num_samples, *sums)


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(num_chunks: int, chunk_size: int, tail: int, proposal: str) -> Callable[..., Any]:
    def sums_of_row(
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        span: Array,
        key: PRNGKeyArray,
        row: X,
    ) -> tuple[Array, Array, Array, Array]:
        x = as_floats(row)
        q0 = make_proposal(generative, recognition, x, key, proposal)

        def log_weight(k: Array) -> Float[Array, ""]:
            z, log_q0 = q0.draw(jax.random.fold_in(key, k), k)
            return log_joint_of(generative, x, z) - log_q0

        def chunk(_: None, start: Array) -> tuple[None, tuple[Array, Array]]:
            k = start + jnp.arange(chunk_size, dtype=jnp.uint32)
            # Samples past the K-th fill up the last chunk; they weigh nothing.
            return None, (jnp.where(k < span[1], jax.vmap(log_weight)(k), -jnp.inf), k)

        starts = span[0] + jnp.arange(num_chunks, dtype=jnp.uint32) * jnp.uint32(chunk_size)
        log_w, k = (a.ravel() for a in jax.lax.scan(chunk, None, starts)[1])
        largest = jnp.max(log_w)
        w = jnp.exp(log_w - jnp.where(jnp.isfinite(largest), largest, 0.0))  # all weights zero: avoid inf - inf
        of_kind = ((q0.kind(k) == jnp.arange(_KINDS)[:, None]) & (k < span[1])).astype(w.dtype)
        sums = jnp.stack([jnp.sum(of_kind * w, axis=1), jnp.sum(of_kind * jnp.square(w), axis=1)], axis=1)
        return largest, sums, jnp.sum(of_kind, axis=1), jax.lax.top_k(log_w, tail)[0]

    return sums_of_row


def _merge(one: Any, other: Any, tail: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The sums of two sets of samples together: each relative to the larger of the two largest log-weights."""
    largest = np.maximum(one[0], other[0])
    shift = np.where(np.isfinite(largest), largest, 0.0)
    scales = [np.exp(np.stack([part[0] - shift, 2 * (part[0] - shift)], axis=1))[:, None] for part in (one, other)]
    sums = one[1] * scales[0] + other[1] * scales[1]
    both = np.concatenate([one[3], other[3]], axis=1)
    return largest, sums, one[2] + other[2], -np.sort(-both, axis=1)[:, :tail]


def _summarize(
    num_samples: int, largest: np.ndarray, sums: np.ndarray, counts: np.ndarray, tail: np.ndarray
) -> ImportanceSampling:
    of_kind, squares_of_kind = np.moveaxis(sums.astype(np.float64), -1, 0)
    total, squares = of_kind.sum(axis=1), squares_of_kind.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows whose weights are all zero: -inf, and no error to tell
        # var(w) / (K mean(w)^2), with the sample variance: what the delta method makes of the spread of w for log w
        pooled = np.maximum(num_samples * squares / total**2 - 1.0, 0.0) / (num_samples - 1)
        # The same component by component, K_c var_c(w): how many samples are whose is not left to chance.
        spread = np.maximum(squares_of_kind - of_kind**2 / counts, 0.0) * counts / (counts - 1.0)
        within = np.sum(np.where(counts > 0, spread, 0.0), axis=1) / total**2
        relative = np.where(np.any(counts == 1, axis=1), pooled, within)
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
        counts=counts,
        tail=tail,
    )
