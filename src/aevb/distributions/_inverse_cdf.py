"""Families that are sampled by their inverse distribution function: z = F^-1(u), u uniform on (0, 1).

Section 2.4 of the paper, first group. Each is here rather than taken from NumPyro for a reason that its docstring
gives; the recurring ones are NumPyro's noise, which can be exactly 0, samples that overflow or underflow, and densities
that are positive outside their support.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints

from ._gamma import gamma_log_prob
from ._special import exp_within, float_dtype, log1p_square, log_prob_at_edge, open_uniform
from ._support import CdfWithinSupport


class Exponential(CdfWithinSupport, dist.Exponential):
    r"""p(z) = rate e^(-rate z), z > 0; z = -log(1 - u) / rate.

    NumPyro's, but for noise that is never 0, and a log-probability of -inf at z < 0 (there it is a finite number).

    Example:
        >>> print(Exponential(2.0).log_prob(1.0).round(4))
        -1.3069
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.rate))
        return -jnp.log1p(-u) / self.rate

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        return jnp.where(jnp.less(value, 0), -jnp.inf, jnp.log(self.rate) - self.rate * jnp.maximum(value, 0))


class Cauchy(dist.Cauchy):
    r"""p(z) = 1 / (pi scale (1 + y^2)), y = (z - loc) / scale; z = loc + scale tan(pi (u - 1/2)).

    NumPyro's, but for y^2, which overflows there at |y| = 1.8e19 in float32.

    Example:
        >>> print(jnp.round(Cauchy(0.0, 1.0).log_prob(1e30)))
        -139.0
    """

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        return -jnp.log(jnp.pi) - jnp.log(self.scale) - log1p_square(jnp.asarray((value - self.loc) / self.scale))


class Rayleigh(dist.Distribution):
    r"""p(z) = z / scale^2 e^(-z^2 / 2 scale^2), z > 0: the length of a Gaussian vector in the plane.

    z = scale sqrt(-2 log(1 - u)). NumPyro has none.

    Args:
        scale: standard deviation of either coordinate.

    Example:
        >>> print(Rayleigh(2.0).log_prob(2.0).round(4))
        -1.1931
    """

    arg_constraints: ClassVar = {"scale": constraints.positive}
    support = constraints.positive
    reparametrized_params: ClassVar = ["scale"]

    def __init__(self, scale: ArrayLike = 1.0, *, validate_args: bool | None = None):
        self.scale = jnp.asarray(scale)
        super().__init__(jnp.shape(scale), validate_args=validate_args)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.scale))
        return self.scale * jnp.sqrt(-2.0 * jnp.log1p(-u))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        inside = jnp.greater(value, 0) & jnp.less(value, jnp.inf)
        z = jnp.where(inside, value, 1.0)
        return jnp.where(inside, jnp.log(z) - 2 * jnp.log(self.scale) - 0.5 * jnp.square(z / self.scale), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "..."]:
        """scale sqrt(pi / 2)."""
        return self.scale * jnp.sqrt(jnp.pi / 2)

    @property
    def variance(self) -> Float[Array, "..."]:
        """(2 - pi / 2) scale^2."""
        return (2 - jnp.pi / 2) * jnp.square(self.scale)


class Weibull(CdfWithinSupport, dist.Weibull):
    r"""p(z) = c / z y^c e^(-y^c), y = z / scale, c = concentration; z = scale (-log(1 - u))^(1/c).

    NumPyro's loses its digits in c log z - c log scale at a large c; its samples reach 0 and infinity at a small one.

    Example:
        >>> print(Weibull(1.0, 2.0).log_prob(1.0).round(4))
        -0.3069
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        dtype = float_dtype(self.scale, self.concentration)
        return self.icdf(open_uniform(key, sample_shape + self.batch_shape, dtype))

    def icdf(self, q: ArrayLike) -> Float[Array, "..."]:
        """The quantile at probability q, held where samples are."""
        # The scale outside of the exponential: at a concentration of 1e7 its logarithm has too few digits.
        log_y = jnp.log(-jnp.log1p(-jnp.asarray(q, float_dtype(self.scale)))) / self.concentration
        log_scale = jax.lax.stop_gradient(jnp.log(self.scale))
        return self.scale * exp_within(log_y, log_scale)

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        inside = jnp.greater(value, 0) & jnp.less(value, jnp.inf)
        z = jnp.where(inside, value, 1.0)
        # The quotient keeps its digits at a large concentration; the difference neither over- nor underflows.
        y = z / self.scale
        steep = jnp.greater(self.concentration, 1.0) & (y > 0) & (y < jnp.inf)
        log_y = jnp.where(steep, jnp.log(jnp.where(steep, y, 1.0)), jnp.log(z) - jnp.log(self.scale))
        # Near the scale, where all z are at a large concentration, z - scale is exact and the quotient is not.
        t = (z - self.scale) / self.scale
        near = jnp.abs(t) < 0.5
        log_y = jnp.where(near, jnp.log1p(jnp.where(near, t, 0.0)), log_y)
        log_h = self.concentration * log_y  # log of the cumulative hazard y^c
        at_zero = log_prob_at_edge(self.concentration - 1.0, -jnp.log(self.scale))
        edge = jnp.where(jnp.equal(value, 0), at_zero, -jnp.inf)
        return jnp.where(inside, jnp.log(self.concentration) - jnp.log(z) + log_h - jnp.exp(log_h), edge)


class Gompertz(CdfWithinSupport, dist.Gompertz):
    r"""p(z) = c r e^(rz) e^(-c (e^(rz) - 1)), z > 0; z = log(1 - log(1 - u) / c) / r.

    NumPyro's, but for noise that is never 0, and -inf at z < 0.

    Example:
        >>> print(Gompertz(1.0, 1.0).log_prob(jnp.array([-1.0, 1.0])).round(4))
        [   -inf -0.7183]
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.concentration, self.rate))
        return jnp.log1p(-jnp.log1p(-u) / self.concentration) / self.rate

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        rise = self.rate * jnp.maximum(value, 0)
        inside = jnp.greater_equal(value, 0) & (rise < jnp.inf)
        y = jnp.where(inside, rise, 0.0)
        log_p = jnp.log(self.concentration) + jnp.log(self.rate) + y - self.concentration * jnp.expm1(y)
        return jnp.where(inside, log_p, -jnp.inf)


class Erlang(dist.Distribution):
    r"""The Gamma with a whole concentration k: z = -(log u_1 + ... + log u_k) / rate.

    No implicit gradient is needed: the sum is differentiable in the rate, and k is no parameter that is fitted.

    Args:
        k: number of exponential waiting times that are added; static.
        rate: of each.

    Example:
        >>> print(Erlang(2, 1.0).log_prob(1.0).round(4))
        -1.0
    """

    arg_constraints: ClassVar = {"rate": constraints.positive}
    support = constraints.positive
    reparametrized_params: ClassVar = ["rate"]
    pytree_aux_fields = ("k",)

    def __init__(self, k: int, rate: ArrayLike = 1.0, *, validate_args: bool | None = None):
        if k < 1:
            raise ValueError(f"an Erlang adds one or more waiting times, but k = {k}")
        self.k, self.rate = k, jnp.asarray(rate)
        super().__init__(jnp.shape(rate), validate_args=validate_args)

    @property
    def concentration(self) -> Float[Array, "..."]:
        """k, as the Gamma calls it."""
        return jnp.full(self.batch_shape, self.k, float_dtype(self.rate))

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, (self.k, *sample_shape, *self.batch_shape), float_dtype(self.rate))
        return -jnp.sum(jnp.log(u), axis=0) / self.rate

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        return gamma_log_prob(jnp.asarray(value), self.concentration, self.rate)

    @property
    def mean(self) -> Float[Array, "..."]:
        """k / rate."""
        return self.k / self.rate

    @property
    def variance(self) -> Float[Array, "..."]:
        """k / rate^2."""
        return self.k / jnp.square(self.rate)
