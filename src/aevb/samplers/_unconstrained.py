"""A map between R^k and the support of a distribution, for samplers that move through R^k."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aevb.distributions import Distribution, Independent, biject_to, constraints
from aevb.errors import UnavailableError


class Unconstrained(NamedTuple):
    """z = forward(u) of ONE event, one to one and differentiable from R^k onto the support of z.

    A density of z becomes one of u by log p(u) = log p(z) + log_det(u).
    """

    forward: Callable[[Array], Array]  # u -> z
    inverse: Callable[[Array], Array]  # z -> u; an edge of the support, which rounding can reach, comes out finite
    log_det: Callable[[Array], Array]  # u -> log |det dz/du|, a number


def unconstrained(support_of: Distribution) -> Unconstrained:
    r"""The map onto the support of a distribution of event shape (J,) or any other.

    The identity for real numbers; z = e^u on the positive half-line (shifted to its edge for a Pareto);
    z = low + (high - low) / (1 + e^-u) on an interval; stick-breaking on the simplex, with k = J - 1. A circle is cut
    open at +-pi into an interval, so that a path in u does not lead across. What floating point cannot tell from an
    edge of the support is one point in z, so a density's mass closer to it than that is lost.

    Args:
        support_of: only its support and event shape are looked at. As with any NumPyro distribution, make it, and this
            map, anew in the function that is mapped by `jax.vmap`.

    Raises:
        UnavailableError: the support is discrete, unknown, or has no such map.

    Example:
        >>> from aevb.distributions import Gamma
        >>> to = unconstrained(Gamma(2.0, 1.0))
        >>> print(to.forward(jnp.log(3.0)).round(4), to.inverse(jnp.array(1.0)), to.log_det(jnp.array(0.5)))
        3.0 0.0 0.5
    """
    support = _support(support_of)
    base = _one_coordinate(support)
    if base is constraints.real:
        return Unconstrained(lambda u: u, lambda z: z, lambda u: jnp.zeros((), u.dtype))
    if base is constraints.simplex:
        return Unconstrained(_break_stick, _mend_stick, lambda u: jnp.sum(_log_pieces(u)[:-1] + _log_left(u)))
    try:
        transform = biject_to(support)
    except NotImplementedError:
        raise UnavailableError(
            f"the support of {_name(support_of)}, {support}, cannot be mapped to all of R^k; use a family on the real "
            "line, the positive half-line, an interval, the circle or the simplex"
        ) from None

    def inverse(z: Array) -> Array:
        bound = float(np.log(np.finfo(z.dtype).max))  # of what exp can take
        return jnp.clip(transform.inv(z), -bound, bound)

    return Unconstrained(transform, inverse, lambda u: jnp.sum(transform.log_abs_det_jacobian(u, transform(u))))


def support_within(q: Distribution, p: Distribution) -> bool:
    """Whether q lies where p can have a density, for two distributions with known (not traced) parameters.

    Of two families by name, `family_lies_within` tells.

    Example:
        >>> from aevb.distributions import Beta, Gamma, Normal
        >>> q, p, r = Beta(2.0, 2.0), Gamma(2.0, 1.0), Normal(0.0, 1.0)
        >>> support_within(q, p), support_within(p, r), support_within(r, p)
        (True, True, False)
    """
    if q.event_shape != p.event_shape:
        return False
    inner, outer = _one_coordinate(_support(q)), _one_coordinate(_support(p))
    edges_q, edges_p = _edges(inner), _edges(outer)
    if edges_q is None or edges_p is None:
        return bool(inner == outer)
    return bool(np.all(edges_q[0] >= edges_p[0]) and np.all(edges_q[1] <= edges_p[1]))


def _support(q: Distribution) -> Any:
    support = q.support
    if not isinstance(support, constraints.Constraint) or support.is_discrete:
        raise UnavailableError(
            f"{_name(q)} has {'a discrete' if support is not None else 'no known'} support, and a path through R^k "
            "needs a continuous one; use a continuous latent variable whose distribution states its support"
        )
    return support


def _name(q: Distribution) -> str:
    while isinstance(q, Independent):
        q = q.base_dist
    return type(q).__name__


def _one_coordinate(support: Any) -> Any:
    """The support of one coordinate, where they are independent."""
    return support.base_constraint if isinstance(support, constraints.independent) else support


def _edges(support: Any) -> tuple[Any, Any] | None:
    """Lower and upper edge of a connected part of the real line; None if the support is not one.

    In float32, in which pi, say, is the same whoever computed it.
    """
    known = (constraints.interval, constraints.greater_than, constraints.less_than)
    if support is not constraints.real and not isinstance(support, known):
        return None
    edges = (getattr(support, name, end) for name, end in (("lower_bound", -np.inf), ("upper_bound", np.inf)))
    low, high = (np.asarray(edge, np.float32) for edge in edges)
    return low, high


# Stick-breaking. NumPyro's computes what is left of the stick as 1 - (z_1 + ... + z_j), which has no digits when little
# is left, as in a sparse vector; here it is z_{j+1} + ... + z_J, and logarithms are added.


def _shifted(u: Float[Array, " k"]) -> Float[Array, " k"]:
    """u = 0 shall be the middle of the simplex, where piece j is 1 / (J - j + 1) of what is left."""
    return u - jnp.log(jnp.arange(u.shape[-1], 0, -1, dtype=u.dtype))


def _log_left(u: Float[Array, " k"]) -> Float[Array, " k"]:
    """log of the share of the stick that step j leaves, 1 - sigmoid."""
    return jax.nn.log_sigmoid(-_shifted(u))


def _log_pieces(u: Float[Array, " k"]) -> Float[Array, " J"]:
    """log z: z_j = sigmoid(u_j) prod_{i < j} (1 - sigmoid(u_i)), and z_J is what is left."""
    zero = jnp.zeros(1, u.dtype)
    before = jnp.concatenate([zero, jnp.cumsum(_log_left(u))])
    return before + jnp.concatenate([jax.nn.log_sigmoid(_shifted(u)), zero])


def _break_stick(u: Float[Array, " k"]) -> Float[Array, " J"]:
    return jnp.exp(jnp.maximum(_log_pieces(u), np.log(np.finfo(u.dtype).tiny)))


def _mend_stick(z: Float[Array, " J"]) -> Float[Array, " k"]:
    z = jnp.maximum(z, np.finfo(z.dtype).tiny)
    left = jnp.cumsum(z[::-1])[::-1][1:]  # z_{j+1} + ... + z_J
    return jnp.log(z[:-1]) - jnp.log(left) + jnp.log(jnp.arange(left.shape[-1], 0, -1, dtype=z.dtype))
