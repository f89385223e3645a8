"""Kullback-Leibler divergences in closed form."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions.kl import kl_divergence as numpyro_kl_divergence

from aevb.errors import UnavailableError

from ._bernoulli import BernoulliCrossEntropy
from ._kl_rules import RULES, Rule
from ._special import expm1_minus


def kl_divergence(q: dist.Distribution, p: dist.Distribution) -> Float[Array, "*batch"]:
    """D_KL(q || p) in nats, in closed form.

    Gaussians use the paper's Appendix B, written so that it keeps its digits when q is near p; `_kl_rules` has
    the other pairs, and NumPyro's rules are asked last.

    Args:
        q: the distribution that the expectation is over.
        p: the distribution that q is compared with, of the same batch and event shape.

    Returns:
        Non-negative numbers, one per element of the batch shape.

    Raises:
        UnavailableError: no closed form is known for this pair; names both families. Nothing is sampled in its stead.

    Example:
        >>> q = dist.Normal(jnp.array([1.0, 0.0]), jnp.ones(2)).to_event(1)
        >>> p = dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)
        >>> print(kl_divergence(q, p))
        0.5
    """
    if isinstance(q, dist.ExpandedDistribution) or isinstance(p, dist.ExpandedDistribution):
        shape = jnp.broadcast_shapes(q.batch_shape, p.batch_shape)
        return jnp.broadcast_to(kl_divergence(_unexpanded(q), _unexpanded(p)), shape)
    if isinstance(q, dist.Independent) and isinstance(p, dist.Independent):
        shared = min(q.reinterpreted_batch_ndims, p.reinterpreted_batch_ndims)
        per_dimension = kl_divergence(_less_independent(q, shared), _less_independent(p, shared))
        axes = tuple(range(-shared, 0))
        return jnp.sum(per_dimension, axis=axes)
    if type(q) is dist.Normal and type(p) is dist.Normal:
        return _normal_normal(q, p)
    try:
        return (_rule(q, p) or _rule_of_numpyro(q, p))(q, p)
    except NotImplementedError:  # either may decline: an Independent has a rule only where it is one of Normals
        raise UnavailableError(
            f"no closed form is known for the KL divergence from {_family(q)} to {_family(p)}; use estimator 'sgvb-a' "
            "(SgvbA), which samples it, or give the posterior and the prior families that have one"
        ) from None


def has_analytic_kl(q: dist.Distribution, p: dist.Distribution) -> bool:
    """Whether D_KL(q || p) has a closed form that `kl_divergence` knows. By shapes alone, nothing is computed.

    Example:
        >>> normal, laplace = dist.Normal(0.0, 1.0), dist.Laplace(0.0, 1.0)
        >>> has_analytic_kl(normal, normal), has_analytic_kl(dist.Cauchy(0.0, 1.0), laplace)
        (True, False)
    """
    try:
        jax.eval_shape(lambda: kl_divergence(q, p))
    except UnavailableError:
        return False
    return True


def kl_per_dimension(q: dist.Distribution, p: dist.Distribution) -> Float[Array, " J"]:
    """D_KL(q_j || p_j) of each latent dimension, for a posterior and a prior whose J dimensions are independent.

    Raises:
        UnavailableError: one of them does not fall apart into dimensions, or the pair has no closed form.

    Example:
        >>> q = dist.Normal(jnp.array([1.0, 0.0]), jnp.ones(2)).to_event(1)
        >>> print(kl_per_dimension(q, dist.Normal(jnp.zeros(2), jnp.ones(2)).to_event(1)))
        [0.5 0. ]
    """
    for d in (q, p):
        if not isinstance(d, dist.Independent) or len(d.base_dist.batch_shape) != 1:
            raise UnavailableError(
                f"the KL of single latent dimensions needs independent ones, but {_family(d)} does not fall apart into "
                "dimensions"
            )
    return kl_divergence(q.base_dist, p.base_dist)


def _normal_normal(q: dist.Normal, p: dist.Normal) -> Float[Array, "*batch"]:
    r"""Appendix B for one dimension: 1/2 (r_sigma^2 - 1 - log r_sigma^2 + ((mu_q - mu_p) / sigma_p)^2)."""
    log_ratio = 2.0 * (jnp.log(q.scale) - jnp.log(p.scale))  # log(sigma_q^2 / sigma_p^2)
    return 0.5 * (expm1_minus(log_ratio) + jnp.square((q.loc - p.loc) / p.scale))


def _rule(q: dist.Distribution, p: dist.Distribution) -> Rule | None:
    """The rule of the nearest base classes of q and p that have one."""
    if isinstance(q, BernoulliCrossEntropy) or isinstance(p, BernoulliCrossEntropy):
        return None  # it is no normalised density, so that there is no divergence from it
    pairs = ((a, b) for a in type(q).__mro__ for b in type(p).__mro__)
    return next((RULES[pair] for pair in pairs if pair in RULES), None)


def _rule_of_numpyro(q: dist.Distribution, p: dist.Distribution) -> Rule:
    """NumPyro's rules, without the two that are no divergences. Raises NotImplementedError for those."""
    while isinstance(q, dist.MaskedDistribution):
        q = q.base_dist
    # From a Kumaraswamy to a Beta: a series cut after ten terms, which can even be negative. From a point: minus its
    # log-density under p, where the divergence is infinite.
    if isinstance(q, dist.Kumaraswamy | dist.Delta):
        raise NotImplementedError
    rule: Rule = numpyro_kl_divergence
    return rule


def _unexpanded(d: dist.Distribution) -> dist.Distribution:
    return d.base_dist if isinstance(d, dist.ExpandedDistribution) else d


def _less_independent(d: dist.Independent, fewer: int) -> dist.Distribution:
    left = d.reinterpreted_batch_ndims - fewer
    return dist.Independent(d.base_dist, left) if left else d.base_dist


def _family(d: dist.Distribution) -> str:
    if isinstance(d, dist.Independent):
        return f"Independent({_family(d.base_dist)})"
    return type(d).__name__
