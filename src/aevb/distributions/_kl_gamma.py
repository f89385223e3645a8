"""Closed forms of D_KL(q || p) for the Gamma and what is made of it, without differences of log-gammas.

Throughout, h(r) = r - 1 - log r >= 0; h(e^t) is `expm1_minus(t)`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._special import expm1_minus, stirling_rest


def _rest(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """1/2 h(b/a) + delta(b) - delta(a) - (b - a) delta'(a), delta being what Stirling's formula leaves."""
    delta, slope = jax.jvp(stirling_rest, (a,), (jnp.ones_like(a),))
    return 0.5 * expm1_minus(jnp.log(b) - jnp.log(a)) + (stirling_rest(b) - delta - (b - a) * slope)


def _gamma_parameters(d: Any) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    rate = jnp.asarray(d.rate)
    a = jnp.ones_like(rate) if isinstance(d, dist.Exponential) else jnp.asarray(d.concentration)
    a, rate = jnp.broadcast_arrays(a, rate)
    return a, rate


def gamma(q: Any, p: Any) -> Float[Array, "..."]:
    """a_p h(r) + rest, r the mean of q over that of p. As differences of log-gammas: no digit left at 1e6."""
    (a, rate_q), (b, rate_p) = _gamma_parameters(q), _gamma_parameters(p)
    a, b, rate_q, rate_p = jnp.broadcast_arrays(a, b, rate_q, rate_p)
    log_r = (jnp.log(a) - jnp.log(b)) + (jnp.log(rate_p) - jnp.log(rate_q))
    return b * expm1_minus(log_r) + _rest(a, b)


def _dirichlet(a: Float[Array, "... J"], b: Float[Array, "... J"]) -> Float[Array, "..."]:
    """N sum_j P_j h(p_j / P_j) + sum_j rest_j - rest of the totals, with means p = a / n and P = b / N."""
    n, total = jnp.sum(a, axis=-1, keepdims=True), jnp.sum(b, axis=-1, keepdims=True)
    log_r = (jnp.log(a) - jnp.log(n)) - (jnp.log(b) - jnp.log(total))
    return jnp.sum(b * expm1_minus(log_r) + _rest(a, b), axis=-1) - _rest(n, total)[..., 0]


def dirichlet(q: Any, p: Any) -> Float[Array, "..."]:
    """See `_dirichlet`."""
    a, b = jnp.broadcast_arrays(q.concentration, p.concentration)
    return _dirichlet(a, b)


def beta(q: Any, p: Any) -> Float[Array, "..."]:
    """A Dirichlet of two."""
    parts = jnp.broadcast_arrays(q.concentration1, q.concentration0, p.concentration1, p.concentration0)
    return _dirichlet(jnp.stack(parts[:2], axis=-1), jnp.stack(parts[2:], axis=-1))
