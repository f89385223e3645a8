"""Families whose own parameters move the edge of their support: Uniform, Triangular, Pareto, Reciprocal.

NumPyro has all but the Triangular, with densities that are positive outside of their supports too: an importance weight
or a prior that is asked there would be silently wrong.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes

from ._special import float_dtype, open_uniform
from ._support import CdfWithinSupport


class Uniform(dist.Uniform):
    r"""p(z) = 1 / (high - low), low <= z <= high; z = low + width u.

    NumPyro's has the same density outside its interval, where this one's is zero.

    Args:
        low: lower edge.
        high: upper edge.
        width: high - low, if it is known with more digits than that difference has.

    Example:
        >>> print(Uniform(0.0, 2.0).log_prob(jnp.array([1.0, 3.0])).round(4))
        [-0.6931    -inf]
    """

    pytree_data_fields = ("width",)

    def __init__(
        self,
        low: ArrayLike = 0.0,
        high: ArrayLike = 1.0,
        *,
        width: ArrayLike | None = None,
        validate_args: bool | None = None,
    ):
        self.width = jnp.subtract(high, low) if width is None else width
        super().__init__(low, high, validate_args=validate_args)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.low, self.width))
        z = self.low + self.width * u
        return z + jax.lax.stop_gradient(jnp.clip(z, self.low, self.high) - z)  # rounding alone can leave the interval

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        inside = jnp.greater_equal(value, self.low) & jnp.less_equal(value, self.high)
        return jnp.where(inside, -jnp.log(self.width), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "..."]:
        """low + width / 2."""
        return self.low + 0.5 * self.width

    @property
    def variance(self) -> Float[Array, "..."]:
        """width^2 / 12."""
        return jnp.broadcast_to(jnp.square(self.width) / 12, self.batch_shape)


class Triangular(dist.Distribution):
    r"""A density that rises in a line from `low` to low + peak * width, and falls in one to low + width.

    With y = (z - low) / width, c = peak: p = 2 y / (c width) for y < c, else 2 (1 - y) / ((1 - c) width);
    y = sqrt(c u) for u < c, else 1 - sqrt((1 - c) (1 - u)). NumPyro has none.

    On an edge the density is zero. Where floating point cannot tell the edge from half an ulp of y inside, a sample can
    come to lie there, and has the log-probability of that point.

    Args:
        low: lower edge.
        width: of the whole interval.
        peak: where the mode lies in it, in [0, 1].

    Example:
        >>> print(Triangular(0.0, 2.0, 0.5).log_prob(jnp.array([0.5, 1.0, 3.0])).round(4))
        [-0.6931  0.        -inf]
    """

    arg_constraints: ClassVar = {
        "low": constraints.real,
        "width": constraints.positive,
        "peak": constraints.unit_interval,
    }
    reparametrized_params: ClassVar = ["low", "width", "peak"]

    def __init__(self, low: ArrayLike, width: ArrayLike, peak: ArrayLike = 0.5, *, validate_args: bool | None = None):
        self.low, self.width, self.peak = promote_shapes(low, width, peak)
        shape = jnp.broadcast_shapes(jnp.shape(low), jnp.shape(width), jnp.shape(peak))
        super().__init__(shape, validate_args=validate_args)

    @property
    def support_moves(self) -> bool:
        """Whether an edge that moves has a density: where the peak is known to lie on one."""
        known = not isinstance(self.peak, jax.core.Tracer)
        return known and bool(np.any((np.asarray(self.peak) == 0) | (np.asarray(self.peak) == 1)))

    @constraints.dependent_property(is_discrete=False, event_dim=0)  # type: ignore[untyped-decorator]
    def support(self) -> constraints.Constraint:
        """[low, low + width]."""
        return constraints.interval(self.low, self.low + self.width)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.low, self.width, self.peak))
        rising = u < self.peak
        up = jnp.sqrt(jnp.where(rising, self.peak * u, 1.0))
        down = jnp.sqrt(jnp.where(rising, 1.0, (1 - self.peak) * (1 - u)))
        return self.low + self.width * jnp.where(rising, up, 1 - down)

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        low, high = self.low, self.low + self.width
        inside = jnp.greater_equal(value, low) & jnp.less_equal(value, high)
        y = (value - low) / self.width
        half_ulp = np.finfo(y.dtype).epsneg
        y = jnp.clip(jnp.where(inside, y, 0.5), half_ulp, 1 - half_ulp)
        # On an edge that rounding does not reach; the density there is zero, but for a peak that lies on it.
        inside &= jnp.greater(value, low) | jnp.equal(low + half_ulp * self.width, low) | jnp.equal(self.peak, 0)
        inside &= jnp.less(value, high) | jnp.equal(low + (1 - half_ulp) * self.width, high) | jnp.equal(self.peak, 1)
        rising = y < self.peak
        up = jnp.log(y) - jnp.log(jnp.where(rising, self.peak, 1.0))
        down = jnp.log1p(-y) - jnp.log1p(-jnp.where(rising, 0.0, self.peak))
        return jnp.where(inside, jnp.log(2.0) - jnp.log(self.width) + jnp.where(rising, up, down), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "..."]:
        """low + width (1 + peak) / 3."""
        return self.low + self.width * (1 + self.peak) / 3

    @property
    def variance(self) -> Float[Array, "..."]:
        """width^2 (1 - peak + peak^2) / 18."""
        return jnp.square(self.width) * (1 - self.peak + jnp.square(self.peak)) / 18


class Pareto(CdfWithinSupport, dist.Pareto):
    r"""p(z) = alpha scale^alpha / z^(alpha + 1), z >= scale; z = scale (1 - u)^(-1/alpha).

    NumPyro's gives a positive density below `scale`, and overflows at a small alpha.

    Example:
        >>> print(Pareto(1.0, 2.0).log_prob(jnp.array([0.5, 2.0])).round(4))
        [   -inf -1.3863]
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        return self.icdf(open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.scale, self.alpha)))

    rsample = sample  # not the base class's, which is NumPyro's chain of transforms

    def icdf(self, q: ArrayLike) -> Float[Array, "..."]:
        """The quantile at probability q, held where samples are."""
        dtype = float_dtype(self.scale, self.alpha)
        e = -jnp.log1p(-jnp.asarray(q, dtype))
        room = 0.5 * jnp.log(np.finfo(dtype).max) - jnp.log(jax.lax.stop_gradient(self.scale))
        return self.scale * jnp.exp(jnp.minimum(e / self.alpha, jnp.maximum(room, 0.0)))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        inside = jnp.greater_equal(value, self.scale)
        z = jnp.where(inside, value, self.scale)
        log_p = jnp.log(self.alpha) - self.alpha * jnp.log(z / self.scale) - jnp.log(z)
        return jnp.where(inside, log_p, -jnp.inf)


class Reciprocal(CdfWithinSupport, dist.LogUniform):
    r"""p(z) = 1 / (z log(high / low)), low <= z <= high: log z is uniform.

    z = low (high / low)^u. NumPyro's has a density outside its support, too.

    Args:
        low: lower edge, positive.
        high: upper edge.
        log_ratio: log(high / low), if it is known with more digits than the edges give.

    Example:
        >>> print(Reciprocal(1.0, jnp.e).log_prob(jnp.array([2.0, 3.0])).round(4))
        [-0.6931    -inf]
    """

    pytree_data_fields = ("log_ratio",)

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        *,
        log_ratio: ArrayLike | None = None,
        validate_args: bool | None = None,
    ):
        # By log1p where the two are close, which keeps the digits.
        excess = jnp.subtract(high, low) / low
        small = jnp.less(excess, 1.0)
        difference = jnp.log(high) - jnp.log(low)
        ours = jnp.where(small, jnp.log1p(jnp.where(small, excess, 0.0)), difference)
        self.log_ratio = ours if log_ratio is None else log_ratio
        super().__init__(low, high, validate_args=validate_args)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.low, self.high))
        z = self.low * jnp.exp(u * self.log_ratio)
        # Only rounding can leave the support; lax.stop_gradient keeps the sample's own gradient there.
        return z + jax.lax.stop_gradient(jnp.clip(z, self.low, self.high) - z)

    rsample = sample

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        inside = jnp.greater_equal(value, self.low) & jnp.less_equal(value, self.high)
        z = jnp.where(inside, value, 1.0)
        return jnp.where(inside, -jnp.log(z) - jnp.log(self.log_ratio), -jnp.inf)

    # With r = log(high / low), m = sqrt(low high) and z = m e^(r (u - 1/2)).

    @property
    def mean(self) -> Float[Array, "..."]:
        """m sinh(r/2) / (r/2) = low (e^r - 1) / r."""
        r = jnp.asarray(self.log_ratio)
        return self.low * jnp.expm1(r) / r

    @property
    def variance(self) -> Float[Array, "..."]:
        """m^2 (sinh(r)/r - (sinh(r/2)/(r/2))^2) = m^2 sum_n 2n r^2n / (2n + 2)!: r^2/12 and on."""
        r = jnp.asarray(self.log_ratio)
        small = r < 1.0
        near, far = jnp.where(small, r, 0.0), jnp.where(small, 1.0, r)
        series = sum(2 * n / math.factorial(2 * n + 2) * near ** (2 * n) for n in range(1, 9))
        # low^2 (e^2r / 2r)(1 - ...): the second moment less the mean's square, over the second moment's larger part.
        direct = jnp.exp(far) * (-jnp.expm1(-2 * far) / (2 * far) - jnp.square(jnp.expm1(-far) / far))
        return jnp.square(self.low) * jnp.exp(r) * jnp.where(small, series, direct)
