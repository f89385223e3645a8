"""Kullback-Leibler divergences in closed form."""

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions.kl import kl_divergence as numpyro_kl_divergence


def kl_divergence(q: dist.Distribution, p: dist.Distribution) -> Float[Array, "*batch"]:
    """D_KL(q || p) in nats, in closed form.

    Gaussians use the paper's Appendix B, written so that it keeps its digits when q is near p; other pairs use
    NumPyro's rules.

    Args:
        q: the distribution that the expectation is over.
        p: the distribution that q is compared with, of the same batch and event shape.

    Returns:
        Non-negative numbers, one per element of the batch shape.

    Raises:
        TypeError: no closed form is known for this pair; names both families. Nothing is sampled in its stead.

    Example:
        >>> q = dist.Normal(jnp.array([1.0, 0.0]), jnp.ones(2)).to_event(1)
        >>> p = dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)
        >>> print(kl_divergence(q, p))
        0.5
    """
    if (
        isinstance(q, dist.Independent)
        and isinstance(p, dist.Independent)
        and q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims
    ):
        per_dimension = kl_divergence(q.base_dist, p.base_dist)
        axes = tuple(range(-q.reinterpreted_batch_ndims, 0))
        return jnp.sum(per_dimension, axis=axes)
    if type(q) is dist.Normal and type(p) is dist.Normal:
        return _normal_normal(q, p)
    try:
        return numpyro_kl_divergence(q, p)
    except NotImplementedError:
        raise TypeError(
            f"no closed form is known for the KL divergence from {_family(q)} to {_family(p)}; use estimator 'sgvb-a' "
            "(SgvbA), which samples it, or give the posterior and the prior families that have one"
        ) from None


def _normal_normal(q: dist.Normal, p: dist.Normal) -> Float[Array, "*batch"]:
    r"""Appendix B for one dimension: 1/2 (r_sigma^2 - 1 - log r_sigma^2 + ((mu_q - mu_p) / sigma_p)^2)."""
    log_ratio = 2.0 * (jnp.log(q.scale) - jnp.log(p.scale))  # log(sigma_q^2 / sigma_p^2)
    return 0.5 * (_expm1_minus(log_ratio) + jnp.square((q.loc - p.loc) / p.scale))


def _expm1_minus(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """exp(t) - 1 - t, without the cancellation near zero that costs expm1(t) - t half of its digits."""
    small = jnp.abs(t) < 0.3
    near = jnp.where(small, t, 0.0)  # both branches stay finite, so that the unused one has no NaN gradient
    far = jnp.where(small, 1.0, t)
    # t^2/2! + t^3/3! + ... + t^13/13!, by Horner's rule; at 0.3 what is left out is below 1e-16 of the sum.
    series = jnp.zeros_like(t)
    for n in range(13, 2, -1):
        series = (series + 1.0) * near / n
    series = (series + 1.0) * near * near / 2.0
    return jnp.where(small, series, jnp.expm1(far) - far)


def _family(d: dist.Distribution) -> str:
    if isinstance(d, dist.Independent):
        return f"Independent({_family(d.base_dist)})"
    return type(d).__name__
