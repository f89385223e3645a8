"""log p(x) by importance sampling with the recognition model as proposal."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

from ._rows import map_rows


def log_likelihood(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
    key: PRNGKeyArray,
    *,
    num_samples: int = 100,
    chunk_size: int = 50,
    batch_size: int = 100,
) -> Float[np.ndarray, " N"]:
    r"""log 1/K sum_k p(x, z_k) / q(z_k | x), z_k ~ q(z | x), for each row (Burda et al. 2016, L_K).

    In expectation a lower bound on log p(x) that rises with K and is never below the ELBO; exact as K grows.
    The K log-weights are folded into a running log-sum-exp, a chunk at a time, so that memory does not grow with K.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x), the proposal.
        rows: x as the models see it, (N, D).
        key: sample k of row i uses fold_in(fold_in(key, i), k).
        num_samples: K, samples per row.
        chunk_size: samples at once; does not change the result beyond rounding.
        batch_size: rows at once; does not change the result beyond rounding.

    Returns:
        (N,), in nats.
    """
    num_samples = operator.index(num_samples)
    if num_samples < 1 or chunk_size < 1:
        raise ValueError(f"num_samples and chunk_size must be at least 1, got {num_samples} and {chunk_size}")
    fn = _row_function(num_samples, min(chunk_size, num_samples))
    result: np.ndarray = map_rows(fn, (generative, recognition), rows, key, batch_size=batch_size)
    return result


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(num_samples: int, chunk_size: int):  # type: ignore[no-untyped-def]
    num_chunks = -(-num_samples // chunk_size)

    def log_likelihood_of_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Array
    ) -> Float[Array, ""]:
        x = row.astype(float)

        def log_weight(k: Array) -> Float[Array, ""]:
            q = recognition.posterior(x)  # made anew inside: a distribution must not cross a vmap
            z = q.sample(jax.random.fold_in(key, k))
            return generative.log_joint(x, z) - q.log_prob(z)

        def add_chunk(
            carry: tuple[Array, Array], start: Array
        ) -> tuple[tuple[Float[Array, ""], Float[Array, ""]], None]:
            largest, total = carry  # total = sum of exp(log_weight - largest) so far
            k = start + jnp.arange(chunk_size, dtype=jnp.uint32)
            # Samples past the K-th fill up the last chunk; they weigh nothing.
            weights = jnp.where(k < num_samples, jax.vmap(log_weight)(k), -jnp.inf)
            new = jnp.maximum(largest, jnp.max(weights))
            shift = jnp.where(jnp.isfinite(new), new, 0.0)  # all weights zero so far: avoid inf - inf
            return (new, total * jnp.exp(largest - shift) + jnp.sum(jnp.exp(weights - shift))), None

        zero = jnp.zeros((), x.dtype)
        starts = jnp.arange(num_chunks, dtype=jnp.uint32) * jnp.uint32(chunk_size)
        (largest, total), _ = jax.lax.scan(add_chunk, (zero - jnp.inf, zero), starts)
        return largest + jnp.log(total) - jnp.log(jnp.asarray(num_samples, x.dtype))

    return log_likelihood_of_row
