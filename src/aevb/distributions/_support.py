"""What a support tells: whether parameters move it (an estimator that is made of the score must know), and the cdf."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.distributions import constraints

_WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)
_WHOLE = (constraints.real, constraints.real_vector, constraints.real_matrix)


class CdfWithinSupport(dist.Distribution):
    """For a family on an interval: its distribution function, 0 below the support and 1 above.

    NumPyro's goes on there by its formula: the Exponential's is negative, and the Gamma's NaN.
    """

    def cdf(self, value: ArrayLike) -> Float[Array, "..."]:
        """P(z <= value)."""
        low, high = (
            getattr(self.support, f"{end}_bound", edge) for end, edge in (("lower", -jnp.inf), ("upper", jnp.inf))
        )
        below, above = jnp.less_equal(value, low), jnp.greater_equal(value, high)
        inner = jnp.where(jnp.isinf(high), low + 1.0, 0.5 * (low + high))  # for a gradient that is no NaN outside
        probability = self._cdf_inside(jnp.where(below | above, inner, value))
        return jnp.where(below, 0.0, jnp.where(above, 1.0, probability))

    def _cdf_inside(self, value: ArrayLike) -> Float[Array, "..."]:
        return super().cdf(value)


def support_depends_on_parameters(q: dist.Distribution) -> bool:
    """Whether q's parameters move an edge of its support at which its density is not zero.

    For such a distribution E_q[grad log q(z)] is not zero, and no gradient may be built on it. What holds another
    distribution (an `Independent`, a mixture, a transformed one) is looked into. Where nothing can be derived the
    answer is True, unless q tells by an attribute `support_moves`, as a `Reparameterized` or a `Sequential` can. Edges
    that are plain numbers, and not arrays, are nobody's parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> low = jnp.zeros(2)
        >>> moving = dist.Uniform(low, low + 1.0).to_event(1)
        >>> support_depends_on_parameters(moving), support_depends_on_parameters(dist.Gamma(2.0, low + 1.0))
        (True, False)
    """
    told = getattr(q, "support_moves", None)
    if told is not None:
        return bool(told)
    if isinstance(q, _WRAPPERS):
        return support_depends_on_parameters(q.base_dist)
    if isinstance(q, dist.MixtureSameFamily):
        return support_depends_on_parameters(q.component_distribution)
    if isinstance(q, dist.MixtureGeneral):
        return any(support_depends_on_parameters(component) for component in q.component_distributions)
    if isinstance(q, dist.TransformedDistribution):
        return support_depends_on_parameters(q.base_dist) or _moved(q.base_dist.support, q.transforms)
    return q.support is None or not is_fixed(q.support)


def has_point_mass(q: dist.Distribution) -> bool:
    """Whether q is a `Delta`, or made of one: at a point of positive probability there is no density.

    Example:
        >>> has_point_mass(dist.Delta(0.0).expand([2]).to_event(1)), has_point_mass(dist.Normal(0.0, 1.0))
        (True, False)
    """
    told = getattr(q, "holds_point_mass", None)  # as a `Sequential` does, of its factors
    if told is not None:
        return bool(told)
    if isinstance(q, dist.Delta):
        return True
    if isinstance(q, (*_WRAPPERS, dist.TransformedDistribution)):
        return has_point_mass(q.base_dist)
    if isinstance(q, dist.MixtureSameFamily):
        return has_point_mass(q.component_distribution)
    return isinstance(q, dist.MixtureGeneral) and any(has_point_mass(part) for part in q.component_distributions)


def is_fixed(support: Any) -> bool:
    """Whether no array, which could be a parameter, is an edge of a support. A discrete one cannot move by degrees."""
    return support.is_discrete or not _has_arrays(support)


def is_whole(support: Any) -> bool:
    """Whether a support is all of R^J."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return any(support is whole for whole in _WHOLE)


def _moved(support: Any, transforms: Any) -> bool:
    """Whether maps, one after another, carry a fixed support to one that their own parameters move."""
    for transform in transforms:
        # The image of a fixed set by a map without parameters is fixed; one with parameters may map R^J onto itself.
        onto = is_whole(support) and is_whole(transform.domain) and is_whole(transform.codomain)
        if _has_arrays(transform) and not onto:
            return True
        support = transform.codomain
    return False


def _has_arrays(tree: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))
