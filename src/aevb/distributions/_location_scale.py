"""Families of the form z = loc + scale * eps (section 2.4, second group), where NumPyro's will not do.

Its Normal, Laplace and MultivariateNormal do, and are used as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ._cdf import student_cdf
from ._gamma import log_gamma_sample
from ._special import exp_within, float_dtype, log1p_square, log_gamma_step, log_odds_of_beta, log_range
from ._support import CdfWithinSupport


class Logistic(dist.Logistic):
    r"""p(z) = e^-|y| / (scale (1 + e^-|y|)^2), y = (z - loc) / scale.

    NumPyro's takes a difference that is NaN where y overflows below zero.

    Example:
        >>> print(Logistic(0.0, 1.0).log_prob(jnp.array([0.0, -jnp.inf])).round(4))
        [-1.3863    -inf]
    """

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        y = jnp.abs((value - self.loc) / self.scale)
        return -y - 2.0 * jnp.log1p(jnp.exp(-y)) - jnp.log(self.scale)


class Gumbel(dist.Gumbel):
    r"""p(z) = e^(-y - e^-y) / scale, y = (z - loc) / scale.

    NumPyro's is NaN where y overflows below zero.

    Example:
        >>> print(Gumbel(0.0, 1.0).log_prob(jnp.array([0.0, -jnp.inf])))
        [ -1. -inf]
    """

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        y = jnp.asarray((value - self.loc) / self.scale)
        inside = y > -jnp.inf
        y = jnp.where(inside, y, 0.0)
        return jnp.where(inside, -y - jnp.exp(-y) - jnp.log(self.scale), -jnp.inf)


class LogNormal(CdfWithinSupport, dist.LogNormal):
    """exp of a Normal. NumPyro's, but that a sample of a wide one is held at finite numbers above zero.

    The density at a held sample is not that of the draw: see `as_drawn`, through which estimators take log q.

    Example:
        >>> z = LogNormal(0.0, 1e4).sample(jax.random.key(0), (100,))
        >>> print(jnp.isfinite(z).all(), (z > 0).all())
        True True
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        return exp_within(self.base_dist.sample(key, sample_shape))

    rsample = sample

    def icdf(self, q: ArrayLike) -> Float[Array, "..."]:
        """The quantile at probability q, held where samples are."""
        return exp_within(self.base_dist.icdf(q))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats; -inf at z <= 0."""
        inside = jnp.greater(value, 0)
        log_z = jnp.log(jnp.where(inside, value, 1.0))
        return jnp.where(inside, self.base_dist.log_prob(log_z) - log_z, -jnp.inf)

    def log_prob_of_log(self, log_z: Float[Array, "..."]) -> Float[Array, "..."]:
        """log q(z) in nats from a draw of log z, which may lie where z is held.

        Below, p(x, z) hardly changes any more, and log q goes on. Above, p(x, z) z falls, and it is q(z) z that goes
        on: -log z would else pay for a z that is never reached.
        """
        return self.base_dist.log_prob(log_z) - jnp.minimum(log_z, log_range(log_z.dtype)[1])


def _student_noise(key: PRNGKeyArray, df: ArrayLike, shape: tuple[int, ...], event: tuple[int, ...]) -> Array:
    """eps sqrt(df / chi2), chi2 = 2 Gamma(df / 2): in logs, for the root's gradient overflows at a small df."""
    of_normal, of_chi2 = jax.random.split(key)
    dtype = float_dtype(df)
    eps = jax.random.normal(of_normal, shape + event, dtype)
    log_ratio = jnp.log(0.5 * df) - log_gamma_sample(of_chi2, jnp.asarray(0.5 * df, dtype), shape)
    return eps * jnp.exp(0.5 * log_ratio).reshape(shape + (1,) * len(event))


class StudentT(dist.StudentT):
    r"""p(z) ~ (1 + y^2 / df)^(-(df + 1) / 2), y = (z - loc) / scale.

    NumPyro's takes the difference of two log-gammas, which is noise at df = 1e6 in float32, and samples infinities at a
    small df.

    Example:
        >>> print(f"{StudentT(1.0, 0.0, 1.0).log_prob(1.0):.4f}")
        -1.8379
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        df = jnp.asarray(self.df, float_dtype(self.df, self.loc, self.scale))
        return self.loc + self.scale * _student_noise(key, df, sample_shape + self.batch_shape, ())

    def icdf(self, q: ArrayLike) -> Float[Array, "..."]:
        """The quantile at probability q: y^2 / (y^2 + df) is Beta(1/2, df / 2). Beyond |y| = 1.8e19 it is held there.

        From df = 100 on by the expansion about the normal quantile; the incomplete beta function loses its digits.
        """
        df = jnp.asarray(self.df, float_dtype(self.df, self.loc, self.scale))
        q = jnp.asarray(q, df.dtype)
        large = df > 100.0
        near = jnp.where(large, 1.0, df)
        log_square = log_odds_of_beta(jnp.abs(2 * q - 1), jnp.full_like(df, 0.5), 0.5 * near) + jnp.log(near)
        exact = jnp.sign(q - 0.5) * exp_within(0.5 * log_square)
        x = jax.scipy.special.ndtri(q)
        # Abramowitz & Stegun 26.7.5.
        second, third = 5 * x**5 + 16 * x**3 + 3 * x, 3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x
        expansion = x + (x**3 + x) / (4 * df) + second / (96 * df**2) + third / (384 * df**3)
        return self.loc + self.scale * jnp.where(large, expansion, exact)

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        y = jnp.asarray((value - self.loc) / (self.scale * jnp.sqrt(self.df)))
        normaliser = (
            log_gamma_step(jnp.asarray(0.5 * self.df), 1) - 0.5 * jnp.log(self.df * jnp.pi) - jnp.log(self.scale)
        )
        return normaliser - 0.5 * (self.df + 1) * log1p_square(y)

    def cdf(self, value: ArrayLike) -> Float[Array, "..."]:
        """P(z <= value)."""
        return student_cdf((value - self.loc) / self.scale, self.df)

    def entropy(self) -> Float[Array, "..."]:
        r"""(df + 1)/2 g'(df/2) - g(df/2) + 1/2 log(pi df) + log scale, g(x) = log Gamma(x + 1/2) - log Gamma(x)."""
        x = jnp.asarray(0.5 * self.df, float_dtype(self.df, self.loc, self.scale))
        # E[log(1 + y^2 / df)] = psi(x + 1/2) - psi(x), the derivative of g, whose digits are its series'.
        step, slope = jax.jvp(lambda x: log_gamma_step(x, 1), (x,), (jnp.ones_like(x),))
        of_standard = (x + 0.5) * slope - step + 0.5 * jnp.log(2 * jnp.pi * x)
        return jnp.broadcast_to(of_standard + jnp.log(self.scale), self.batch_shape)


class MultivariateStudentT(dist.MultivariateStudentT):
    r"""p(z) ~ (1 + |L^-1 (z - loc)|^2 / df)^(-(df + J) / 2), L = scale_tril, for J dimensions.

    Overrides NumPyro's for the same reasons as `StudentT`.

    Example:
        >>> d = MultivariateStudentT(1.0, jnp.zeros(2), jnp.eye(2))
        >>> print(f"{d.log_prob(jnp.zeros(2)):.4f}")
        -1.8379
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "... J"]:
        """Of shape (*sample_shape, *batch, J)."""
        df = jnp.asarray(self.df, float_dtype(self.df, self.loc, self.scale_tril))
        eps = _student_noise(key, df, sample_shape + self.batch_shape, self.event_shape)
        return self.loc + jnp.einsum("...ij,...j->...i", self.scale_tril, eps)

    def log_prob(self, value: Float[Array, "... J"], intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        num_dims = self.event_shape[0]
        residual = value - self.loc
        tril = jnp.broadcast_to(self.scale_tril, (*residual.shape, num_dims))
        y = jax.lax.linalg.triangular_solve(tril, residual[..., None], left_side=True, lower=True)[..., 0]
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.scale_tril, axis1=-2, axis2=-1)), axis=-1)
        constant = log_gamma_step(jnp.asarray(0.5 * self.df), num_dims) - 0.5 * num_dims * jnp.log(self.df * jnp.pi)
        # log(1 + |y|^2 / df) by the norm, which is taken of y over its largest element and so does not overflow.
        largest = jax.lax.stop_gradient(
            jnp.maximum(jnp.max(jnp.abs(y), axis=-1, keepdims=True), np.finfo(y.dtype).tiny)
        )
        square = jnp.sum(jnp.square(y / largest), axis=-1)
        far = largest[..., 0] > 1.0
        scaled = jnp.log(jnp.where(far, square, 1.0) / self.df) + 2.0 * jnp.log(largest[..., 0])
        near = jnp.sum(jnp.square(jnp.where(far[..., None], 0.0, y)), axis=-1) / self.df
        log1p = jnp.where(far, jax.nn.softplus(scaled), jnp.log1p(near))
        return constant - log_det - 0.5 * (self.df + num_dims) * log1p
