"""What normalised Gammas make: Dirichlet, Beta, and Fisher & Snedecor's F.

One log-density serves all three, a sum of small terms at every concentration; see `_gamma` for what NumPyro's lose.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes

from ._cdf import beta_cdf
from ._gamma import gamma_and_log_boost, gamma_entropy
from ._special import exp_within, float_dtype, log_odds_of_beta, log_prob_at_edge, minus_log1p, smallest, stirling_rest
from ._support import CdfWithinSupport


def dirichlet_log_prob(
    t: Float[Array, "... J"], log_r: Float[Array, "... J"], log_jacobian: Float[Array, "..."], a: Array
) -> Float[Array, "..."]:
    r"""log Dirichlet(x; a) from the ratios r_j = x_j / m_j to the mean m_j = a_j / n, n = sum_j a_j, and t_j = r_j - 1.

    sum_j a_j log r_j = -sum_j a_j (r_j - 1 - log r_j), for n sum_j (x_j - m_j) = 0: no cancellation at a large n.
    """
    n = jnp.sum(a, axis=-1)
    constant = 0.5 * (jnp.sum(jnp.log(a / (2 * jnp.pi)), axis=-1) - jnp.log(n / (2 * jnp.pi)))
    rest = stirling_rest(n) - jnp.sum(stirling_rest(a), axis=-1)
    return constant + rest - jnp.sum(a * minus_log1p(t, log_r), axis=-1) - log_jacobian


def dirichlet_entropy(a: Float[Array, "... J"]) -> Float[Array, "..."]:
    r"""sum_j H(a_j) - H(n) - (J - 1) psi(n), H the entropy of Gamma(a, 1), n = sum_j a_j, in nats.

    J independent Gammas are their total, Gamma(n, 1), and apart from it their proportions: a change of variables whose
    Jacobian is the (J - 1)th power of the total.
    """
    n = jnp.sum(a, axis=-1)
    volume = (a.shape[-1] - 1) * jax.scipy.special.digamma(n)
    return jnp.sum(gamma_entropy(a), axis=-1) - gamma_entropy(n) - volume


def _with_edges(log_p: Float[Array, "..."], zero: Array, a: Float[Array, "... J"]) -> Float[Array, "..."]:
    """log p where coordinates are zero: x^(a - 1) is 0 for a > 1, which wins, infinite for a < 1, and else 1.

    `log_p` is for such coordinates with log x = 0 in the place of -inf, which is right for a = 1.
    """
    infinite = jnp.where(jnp.any(zero & (a < 1), axis=-1), jnp.inf, log_p)
    return jnp.where(jnp.any(zero & (a > 1), axis=-1), -jnp.inf, infinite)


def _on_the_simplex(key: PRNGKeyArray, a: Float[Array, "... J"], shape: tuple[int, ...]) -> Float[Array, "... J"]:
    g, log_boost = gamma_and_log_boost(key, a, shape)
    weight = g * jnp.exp(log_boost - jax.lax.stop_gradient(jnp.max(log_boost, axis=-1, keepdims=True)))
    info = np.finfo(a.dtype)
    return jnp.clip(weight / jnp.sum(weight, axis=-1, keepdims=True), smallest(a.dtype), 1 - info.epsneg)


class Dirichlet(dist.Dirichlet):
    """p(x) = Gamma(sum a) prod_j x_j^(a_j - 1) / Gamma(a_j), on the simplex: normalised Gammas.

    Example:
        >>> print(Dirichlet(jnp.array([1.0, 1.0, 2.0])).log_prob(jnp.array([0.25, 0.25, 0.5])).round(4))
        1.0986
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... J"]:
        """Of shape (*sample_shape, *batch, J)."""
        a = jnp.asarray(self.concentration, float_dtype(self.concentration))
        return _on_the_simplex(key, a, sample_shape + a.shape)

    def log_prob(self, value: Float[Array, "... J"], intermediates: object = None) -> Float[Array, "..."]:
        """In nats; -inf off the simplex, where rounding does not account for it."""
        a = jnp.asarray(self.concentration, value.dtype)
        mean = a / jnp.sum(a, axis=-1, keepdims=True)
        excess = jnp.abs(jnp.sum(value, axis=-1) - 1)
        inside = jnp.all(value >= 0, axis=-1) & (excess < value.shape[-1] * np.finfo(value.dtype).eps ** 0.5)
        x, zero = jnp.where(inside[..., None], value, mean), value == 0
        log_x = jnp.log(jnp.where(zero, 1.0, x))
        log_p = dirichlet_log_prob((x - mean) / mean, log_x - jnp.log(mean), jnp.sum(log_x, axis=-1), a)
        return jnp.where(inside, _with_edges(log_p, zero, a), -jnp.inf)

    def entropy(self) -> Float[Array, "..."]:
        """In nats."""
        return dirichlet_entropy(jnp.asarray(self.concentration, float_dtype(self.concentration)))


class Beta(CdfWithinSupport, dist.Beta):
    """p(x) = x^(a - 1) (1 - x)^(b - 1) / B(a, b), 0 < x < 1, a = concentration1, b = concentration0.

    Example:
        >>> print(Beta(2.0, 2.0).log_prob(0.5).round(4))
        0.4055
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        a = self._concentrations()
        return _on_the_simplex(key, a, sample_shape + a.shape)[..., 0]

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats; -inf outside of [0, 1], the limit at 0 and 1."""
        a = self._concentrations()
        m = a / jnp.sum(a, axis=-1, keepdims=True)
        inside = jnp.greater_equal(value, 0) & jnp.less_equal(value, 1)
        x = jnp.where(inside, value, 0.5)
        d = (x - m[..., 0])[..., None]
        t = jnp.concatenate([d, -d], axis=-1) / m
        zero = jnp.stack([x == 0, x == 1], axis=-1)
        log_x = jnp.stack([jnp.log(jnp.where(x == 0, 1.0, x)), jnp.log1p(-jnp.where(x == 1, 0.0, x))], axis=-1)
        log_p = dirichlet_log_prob(t, log_x - jnp.log(m), jnp.sum(log_x, axis=-1), a)
        return jnp.where(inside, _with_edges(log_p, zero, a), -jnp.inf)

    def entropy(self) -> Float[Array, "..."]:
        """In nats."""
        return dirichlet_entropy(self._concentrations())

    def _cdf_inside(self, value: ArrayLike) -> Float[Array, "..."]:
        return beta_cdf(value, self.concentration1, self.concentration0)

    def _concentrations(self) -> Float[Array, "... 2"]:
        both = jnp.broadcast_arrays(self.concentration1, self.concentration0)
        return jnp.stack(both, axis=-1).astype(float_dtype(*both))


class F(dist.Distribution):
    r"""Fisher & Snedecor's: (chi2_m / m) / (chi2_n / n), m = df1, n = df2. NumPyro has none.

    With a = m / 2, b = n / 2, y = a z / (a z + b) is Beta(a, b), and dy/dz = y (1 - y) / z.

    Example:
        >>> print(F(2.0, 4.0).log_prob(1.0).round(4))
        -1.2164
    """

    arg_constraints: ClassVar = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    reparametrized_params: ClassVar = ["df1", "df2"]

    def __init__(self, df1: ArrayLike, df2: ArrayLike, *, validate_args: bool | None = None):
        self.df1, self.df2 = promote_shapes(df1, df2)
        shape = jnp.broadcast_shapes(jnp.shape(df1), jnp.shape(df2))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        shape = sample_shape + self.batch_shape
        of_first, of_second = jax.random.split(key)
        # Both logarithms are unbounded below at a small df: only their difference is held.
        logs = []
        for k, df in ((of_first, self.df1), (of_second, self.df2)):
            a = jnp.asarray(0.5 * df, float_dtype(self.df1, self.df2))
            g, log_boost = gamma_and_log_boost(k, a, shape)
            logs.append(jnp.log(g / a) + log_boost)
        return exp_within(logs[0] - logs[1])

    def icdf(self, q: ArrayLike) -> Float[Array, "..."]:
        """The quantile at probability q, in float32 to four digits up to a df of 1e4 and held where samples are."""
        a, b = (jnp.asarray(0.5 * df, float_dtype(self.df1, self.df2)) for df in (self.df1, self.df2))
        return exp_within(log_odds_of_beta(q, a, b) + jnp.log(b) - jnp.log(a))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        a = jnp.stack(jnp.broadcast_arrays(0.5 * self.df1, 0.5 * self.df2), axis=-1)
        m = a / jnp.sum(a, axis=-1, keepdims=True)
        m1, m2 = m[..., 0], m[..., 1]
        inside = jnp.greater(value, 0) & jnp.less(value, jnp.inf)
        z = jnp.where(inside, value, 1.0)
        below = m1 * z + m2
        t = jnp.stack([m2 * (z - 1) / below, m1 * (1 - z) / below], axis=-1)
        log_r = jnp.stack([jnp.log(z) - jnp.log(below), -jnp.log(below)], axis=-1)
        edge = jnp.where(jnp.equal(value, 0), log_prob_at_edge(a[..., 0] - 1, 0.0), -jnp.inf)
        return jnp.where(inside, dirichlet_log_prob(t, log_r, jnp.log(z), a), edge)
