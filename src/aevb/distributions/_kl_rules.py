"""Closed forms of D_KL(q || p), one per pair of families, each written as a sum of terms that do not cancel.

Throughout, h(r) = r - 1 - log r >= 0, which is zero at r = 1 alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from ._bounded import Reciprocal, Uniform
from ._inverse_cdf import Erlang, Rayleigh
from ._kl_gamma import beta, dirichlet, gamma
from ._likelihoods import ContinuousBernoulli, log_normaliser, mean_of_continuous_bernoulli
from ._special import cumulant_series, expm1_minus, series_radius
from ._von_mises import log_i0e, one_minus_ratio

Rule = Callable[[Any, Any], Float[Array, "..."]]


def _h(log_r: Float[Array, "..."]) -> Float[Array, "..."]:
    return expm1_minus(log_r)


def _log(x: Any) -> Float[Array, "..."]:
    return jnp.log(jnp.asarray(x))


def bernoulli(q: Any, p: Any) -> Float[Array, "..."]:
    """log(1 + e^m) - log(1 + e^l) - sigmoid(l) (m - l), for logits l of q and m of p."""
    l, m = jnp.broadcast_arrays(q.logits, p.logits)  # noqa: E741
    l, m = -jnp.abs(l), jnp.where(l > 0, -m, m)  # noqa: E741  # 0 and 1 change places: now sigmoid(l) is exact
    d = m - l
    u = jax.nn.sigmoid(l)
    small = jnp.abs(d) < series_radius(d.dtype)
    t = jnp.where(small, d, 0.0)
    return jnp.where(small, t * cumulant_series(u, t, first=2), jax.nn.softplus(m) - jax.nn.softplus(l) - u * d)


def bernoulli_probs(q: Any, p: Any) -> Float[Array, "..."]:
    """y log(y / w) + (1 - y) log((1 - y) / (1 - w)), for probabilities y of q and w of p; 0 and 1 are allowed."""
    y, w = jnp.asarray(q.probs), jnp.asarray(p.probs)
    return jax.scipy.special.rel_entr(y, w) + jax.scipy.special.rel_entr(1 - y, 1 - w)


def categorical(q: Any, p: Any) -> Float[Array, "..."]:
    """sum_k q_k (log q_k - log p_k); a category that q never has adds nothing."""
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    never = log_q < -60.0  # q log(q / p) is below 1e-24, and e^-d may overflow
    difference = jnp.where(never, 0.0, log_q) - jnp.where(never, 0.0, log_p)
    # sum_k q_k (e^-d - 1 + d): with sum_k p_k = 1 this is the same number, and no term is negative.
    mass = jnp.where(never, jnp.exp(log_p), 0.0)
    return jnp.sum(jnp.exp(log_q) * expm1_minus(-difference) + mass, axis=-1)


def laplace(q: Any, p: Any) -> Float[Array, "..."]:
    """h(r) + r (e^-s - 1 + s), r = b_q / b_p, s = |loc_q - loc_p| / b_q."""
    log_r = _log(q.scale) - _log(p.scale)
    return _h(log_r) + jnp.exp(log_r) * expm1_minus(-jnp.abs(q.loc - p.loc) / q.scale)


def log_normal(q: Any, p: Any) -> Float[Array, "..."]:
    """That of the two Normals: exp maps both."""
    log_r = 2.0 * (_log(q.scale) - _log(p.scale))
    return 0.5 * (_h(log_r) + jnp.square((q.loc - p.loc) / p.scale))


def rayleigh(q: Any, p: Any) -> Float[Array, "..."]:
    """h(sigma_q^2 / sigma_p^2)."""
    return _h(2.0 * (_log(q.scale) - _log(p.scale)))


def _extreme_value(log_r: Float[Array, "..."], m: Float[Array, "..."]) -> Float[Array, "..."]:
    """e^w - 1 - w + log Gamma(r) + gamma (r - 1), w = log Gamma(1 + r) - m: of two Gumbels or two Weibulls."""
    r = jnp.exp(log_r)
    log_gamma = jax.scipy.special.gammaln(1.0 + r)
    return expm1_minus(log_gamma - m) + (log_gamma - log_r) + jnp.euler_gamma * jnp.expm1(log_r)


def gumbel(q: Any, p: Any) -> Float[Array, "..."]:
    """With r = beta_q / beta_p, m = (loc_q - loc_p) / beta_p."""
    return _extreme_value(_log(q.scale) - _log(p.scale), (q.loc - p.loc) / p.scale)


def weibull(q: Any, p: Any) -> Float[Array, "..."]:
    """Minus the logarithm of a Weibull is a Gumbel with loc -log(scale) and scale 1 / concentration."""
    m = p.concentration * (_log(p.scale) - _log(q.scale))
    return _extreme_value(_log(p.concentration) - _log(q.concentration), m)


def _width(d: Any) -> Float[Array, "..."]:
    return jnp.asarray(d.width if isinstance(d, Uniform) else d.high - d.low)


def _within(q: Any, p: Any) -> Array:
    return jnp.greater_equal(q.low, p.low) & jnp.less_equal(q.high, p.high)


def uniform(q: Any, p: Any) -> Float[Array, "..."]:
    """log(width_p / width_q), infinite where q reaches outside of p."""
    return jnp.where(_within(q, p), jnp.log(_width(p)) - jnp.log(_width(q)), jnp.inf)


def reciprocal(q: Any, p: Any) -> Float[Array, "..."]:
    """That of the two Uniforms of the logarithm."""
    widths = [d.log_ratio if isinstance(d, Reciprocal) else jnp.log(d.high) - jnp.log(d.low) for d in (q, p)]
    return jnp.where(_within(q, p), jnp.log(widths[1]) - jnp.log(widths[0]), jnp.inf)


def pareto(q: Any, p: Any) -> Float[Array, "..."]:
    """h(alpha_p / alpha_q) + alpha_p log(s_q / s_p), infinite where q starts below p."""
    shift = p.alpha * (_log(q.scale) - _log(p.scale))
    return jnp.where(jnp.greater_equal(q.scale, p.scale), _h(_log(p.alpha) - _log(q.alpha)) + shift, jnp.inf)


def von_mises(q: Any, p: Any) -> Float[Array, "..."]:
    """log(I0(k_p) / I0(k_q)) + A(k_q) (k_q - k_p cos d), d the angle between the two."""
    k, c = jnp.asarray(q.concentration), jnp.asarray(p.concentration)
    gap = one_minus_ratio(k)  # 1 - A
    turn = 2.0 * c * (1.0 - gap) * jnp.square(jnp.sin(0.5 * (q.loc - p.loc)))
    return (log_i0e(c) - log_i0e(k)) + (c - k) * gap + turn


def continuous_bernoulli(q: Any, p: Any) -> Float[Array, "..."]:
    """A(m) - A(l) - (m - l) A'(l), A the log-normaliser, l and m the logits of q and of p."""
    l, m = jnp.broadcast_arrays(q.logits, p.logits)  # noqa: E741
    l, m = -jnp.abs(l), jnp.where(l > 0, -m, m)  # noqa: E741  # x -> 1 - x: now A has no term of size |l|
    return log_normaliser(m) - log_normaliser(l) - (m - l) * mean_of_continuous_bernoulli(l)


def _loc_and_tril(d: Any) -> tuple[Float[Array, "... J"], Float[Array, "... J J"]]:
    """Of a Gaussian; any other `Independent` is declined by a NotImplementedError, as NumPyro's own rules do."""
    if not isinstance(d, dist.Independent):
        return d.loc, d.scale_tril
    if type(d.base_dist) is not dist.Normal or d.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    loc, scale = jnp.broadcast_arrays(d.base_dist.loc, d.base_dist.scale)
    return loc, scale[..., None] * jnp.eye(scale.shape[-1], dtype=scale.dtype)


def multivariate_normal(q: Any, p: Any) -> Float[Array, "..."]:
    """1/2 (|M|^2 - J - log det M^2 + |L_p^-1 (loc_q - loc_p)|^2), M = L_p^-1 L_q; the diagonal by h(M_jj^2)."""
    (loc_q, tril_q), (loc_p, tril_p) = _loc_and_tril(q), _loc_and_tril(p)
    shift = (loc_q - loc_p)[..., None]
    batch = jnp.broadcast_shapes(shift.shape[:-2], tril_q.shape[:-2], tril_p.shape[:-2])
    num_dims = shift.shape[-2]
    right = jnp.concatenate(
        [jnp.broadcast_to(tril_q, (*batch, num_dims, num_dims)), jnp.broadcast_to(shift, (*batch, num_dims, 1))], -1
    )
    left = jnp.broadcast_to(tril_p, (*batch, num_dims, num_dims))
    solved = jax.lax.linalg.triangular_solve(left, right, left_side=True, lower=True)
    log_diagonal = jnp.log(jnp.diagonal(tril_q, axis1=-2, axis2=-1)) - jnp.log(jnp.diagonal(tril_p, axis1=-2, axis2=-1))
    off = jnp.sum(jnp.square(jnp.tril(solved[..., :-1], -1)), axis=(-2, -1))
    return 0.5 * (off + jnp.sum(_h(2.0 * log_diagonal), -1) + jnp.sum(jnp.square(solved[..., -1]), -1))


_GAMMAS = (dist.Gamma, dist.Exponential, Erlang)
_BERNOULLIS = (dist.BernoulliLogits, dist.BernoulliProbs)

RULES: dict[tuple[type, type], Rule] = {
    **{(q, p): bernoulli_probs for q in _BERNOULLIS for p in _BERNOULLIS},
    **{(q, p): gamma for q in _GAMMAS for p in _GAMMAS},
    (dist.BernoulliLogits, dist.BernoulliLogits): bernoulli,
    (dist.CategoricalLogits, dist.CategoricalLogits): categorical,
    (dist.Laplace, dist.Laplace): laplace,
    (dist.LogNormal, dist.LogNormal): log_normal,
    (Rayleigh, Rayleigh): rayleigh,
    (dist.Gumbel, dist.Gumbel): gumbel,
    (dist.Weibull, dist.Weibull): weibull,
    (dist.Beta, dist.Beta): beta,
    (dist.Dirichlet, dist.Dirichlet): dirichlet,
    (dist.Uniform, dist.Uniform): uniform,
    (dist.LogUniform, dist.LogUniform): reciprocal,
    (dist.Pareto, dist.Pareto): pareto,
    (dist.VonMises, dist.VonMises): von_mises,
    (ContinuousBernoulli, ContinuousBernoulli): continuous_bernoulli,
    (dist.MultivariateNormal, dist.MultivariateNormal): multivariate_normal,
    (dist.Independent, dist.MultivariateNormal): multivariate_normal,
    (dist.MultivariateNormal, dist.Independent): multivariate_normal,
}
