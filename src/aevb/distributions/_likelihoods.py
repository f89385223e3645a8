"""Distributions of a value in [0, 1] that NumPyro lacks: the continuous Bernoulli and the discretised logistic."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.util import promote_shapes

from ._special import cumulant_series, float_dtype, open_uniform, series_radius, smallest


def log_normaliser(l: Float[Array, "..."]) -> Float[Array, "..."]:  # noqa: E741
    """log int_0^1 e^(l t) dt = log((e^l - 1) / l), the log-normaliser of the continuous Bernoulli, also at l = 0."""
    small = jnp.abs(l) < 1.0
    near, far = jnp.where(small, 0.5 * l, 0.0), jnp.abs(jnp.where(small, 1.0, l))
    # l/2 + log(sinh(y) / y), y = l/2; sinh(y)/y - 1 = y^2/6 (1 + y^2/20 (1 + y^2/42 (...))).
    series = jnp.zeros_like(near)
    for n in range(7, 0, -1):
        series = (series + 1.0) * near**2 / (2 * n * (2 * n + 1))
    outside = jnp.maximum(l, 0.0) + jnp.log(-jnp.expm1(-far)) - jnp.log(far)
    return jnp.where(small, near + jnp.log1p(series), outside)


def mean_of_continuous_bernoulli(l: Float[Array, "..."]) -> Float[Array, "..."]:  # noqa: E741
    """1 / (1 - e^-l) - 1 / l, the log-normaliser's derivative; 1/2 at l = 0."""
    small = jnp.abs(l) < 1.0
    far = jnp.abs(jnp.where(small, 1.0, l))
    less = 1.0 / far - jnp.exp(-far) / -jnp.expm1(-far)  # of -|l|, without cancellation
    y = jnp.where(small, 0.5 * l, 0.0) ** 2
    # (coth y - 1/y)/2 = y/6 (1 - y^2/15 (1 - ...)), as the continued fraction y / (3 + y^2 / (5 + y^2 / (7 + ...))).
    fraction = jnp.full_like(y, 21.0)
    for n in range(19, 1, -2):
        fraction = n + y / fraction
    return jnp.where(small, 0.5 + 0.25 * l / fraction, jnp.where(l > 0, 1.0 - less, less))


class ContinuousBernoulli(dist.Distribution):
    r"""p(x) = e^(l x) / int_0^1 e^(l t) dt on [0, 1] (Loaiza-Ganem & Cunningham, 2019), by its logit l.

    A density, so that grey pixels have a likelihood which is normalised, unlike under `BernoulliCrossEntropy`.

    Args:
        logits: l, any real numbers; 0 is the uniform distribution.

    Example:
        >>> d = ContinuousBernoulli(jnp.array([0.0, 2.0]))
        >>> print(jnp.round(100 * d.mean), jnp.round(100 * jnp.exp(d.log_prob(1.0))))
        [50. 66.] [100. 231.]
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.unit_interval
    reparametrized_params: ClassVar = ["logits"]

    def __init__(self, logits: ArrayLike, *, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(jnp.shape(logits), validate_args=validate_args)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """F^-1(u) = log(1 + u (e^l - 1)) / l, of shape (*sample_shape, *batch)."""
        l = jnp.asarray(self.logits, float_dtype(self.logits))  # noqa: E741
        u = open_uniform(key, sample_shape + self.batch_shape, l.dtype)
        small = jnp.abs(l) < series_radius(l.dtype)
        far = -jnp.abs(jnp.where(small, 1.0, l))  # e^l is for l < 0 only: the other half by x -> 1 - x
        # F^-1(u; l) = 1 - F^-1(1 - u; -l), and 1 - u is uniform too.
        mirrored = jnp.log1p(u * jnp.expm1(far)) / far
        mirrored = jnp.where(l > 0, 1.0 - mirrored, mirrored)
        v = jnp.where(l > 0, 1.0 - u, u)  # so that the two branches are one function of u
        near = cumulant_series(v, jnp.where(small, l, 0.0), first=1)
        return jnp.clip(jnp.where(small, near, mirrored), smallest(l.dtype), 1 - np.finfo(l.dtype).epsneg)

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats; -inf outside [0, 1]."""
        l = jnp.asarray(self.logits, float_dtype(self.logits))  # noqa: E741
        inside = jnp.greater_equal(value, 0) & jnp.less_equal(value, 1)
        x = jnp.where(inside, value, 0.5)
        small = jnp.abs(l) < 1.0
        near, far = jnp.where(small, l, 0.0), jnp.where(small, 1.0, l)
        # l x - log_normaliser(l); for a large l > 0 with its two terms of size |l| cancelled by hand.
        mirrored = -jnp.abs(far) * jnp.where(far > 0, 1.0 - x, x) - log_normaliser(-jnp.abs(far))
        return jnp.where(inside, jnp.where(small, near * x - log_normaliser(near), mirrored), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "..."]:
        """1 / (1 - e^-l) - 1 / l, whose limit at l = 0 is 1/2. It is not sigmoid(l)."""
        return mean_of_continuous_bernoulli(jnp.asarray(self.logits, float_dtype(self.logits)))

    @property
    def variance(self) -> Float[Array, "..."]:
        """The mean's derivative in l."""
        l = jnp.asarray(self.logits, float_dtype(self.logits))  # noqa: E741
        return jax.jvp(mean_of_continuous_bernoulli, (l,), (jnp.ones_like(l),))[1]


class DiscretizedLogistic(dist.Distribution):
    r"""A logistic over K values k / (K - 1), each with the mass of its bin; the first and last take the tails.

    P(x) = S(b) - S(a), with a, b = (x -+ w/2 - loc) / scale, w = 1 / (K - 1), S the sigmoid (Salimans et al., 2017).
    Its logarithm is log S(b) + log S(-a) + log(1 - e^(a - b)), which neither cancels nor overflows.

    Args:
        loc: of the logistic, in units of the value.
        scale: of the logistic.
        num_bins: K, at least 2; static. 256 for the pixels of an 8-bit image divided by 255.

    Example:
        >>> d = DiscretizedLogistic(0.3, 0.05, num_bins=4)
        >>> print(jnp.round(100 * jnp.exp(d.log_prob(jnp.array([0.0, 1 / 3, 2 / 3, 1.0])))))
        [ 6. 92.  2.  0.]
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.unit_interval
    pytree_aux_fields = ("num_bins",)

    def __init__(self, loc: ArrayLike, scale: ArrayLike, num_bins: int = 256, *, validate_args: bool | None = None):
        if num_bins < 2:
            raise ValueError(f"a discretised logistic has two bins or more, but num_bins = {num_bins}")
        self.num_bins = num_bins
        self.loc, self.scale = promote_shapes(loc, scale)
        super().__init__(jnp.broadcast_shapes(jnp.shape(loc), jnp.shape(scale)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """False: its values are discrete."""
        return False

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """One of the K values, of shape (*sample_shape, *batch)."""
        u = open_uniform(key, sample_shape + self.batch_shape, float_dtype(self.loc, self.scale))
        z = self.loc + self.scale * jax.scipy.special.logit(u)
        steps = self.num_bins - 1
        return jax.lax.stop_gradient(jnp.clip(jnp.round(z * steps), 0, steps) / steps)

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats; `value` is taken to the nearest of the K, and has no mass where that is not one of them."""
        steps = self.num_bins - 1
        nearest = jnp.round(jnp.asarray(value) * steps)
        k = jnp.clip(nearest, 0, steps)
        upper, lower = ((k + 0.5) / steps - self.loc) / self.scale, ((k - 0.5) / steps - self.loc) / self.scale
        width = 1.0 / (steps * self.scale)
        below, above = -jax.nn.softplus(-upper), -jax.nn.softplus(lower)  # log S(b), log S(-a)
        inner = below + above + jnp.log(-jnp.expm1(-width))
        return jnp.where(k == nearest, jnp.where(k == 0, below, jnp.where(k == steps, above, inner)), -jnp.inf)

    @property
    def mean(self) -> Float[Array, "..."]:
        """E[x] over the K values. It is not loc: the values end at 0 and 1, and a bin's mass lies at its middle."""
        centre, first, _ = self._moments()
        return (centre + first) / (self.num_bins - 1)

    @property
    def variance(self) -> Float[Array, "..."]:
        """E[x^2] - E[x]^2 over the K values."""
        _, first, second = self._moments()
        return (second - jnp.square(first)) / (self.num_bins - 1) ** 2

    def _moments(self) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
        r"""c, E[k - c] and E[(k - c)^2] of the number k of a value, c being the one nearest to loc.

        By tails, each from the side where it is small, so that float32 keeps their digits:
        E[k - c] = sum_{j > c} P(k >= j) - sum_{j <= c} P(k < j), and the square has the weights 2 |j - c| -+ 1.
        One j after another: all K at once would take K times the memory of a decoded batch.
        """
        steps = self.num_bins - 1
        loc, scale = jnp.broadcast_arrays(
            *(jnp.asarray(v, float_dtype(self.loc, self.scale)) for v in (self.loc, self.scale))
        )
        centre = jnp.clip(jnp.round(loc * steps), 0, steps)

        def add(j: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            sign = jnp.where(j > centre, 1.0, -1.0).astype(loc.dtype)
            tail = jax.nn.sigmoid(sign * (loc - (j - 0.5) / steps) / scale)
            return sums[0] + sign * tail, sums[1] + (2.0 * jnp.abs(j - centre) - sign) * tail

        start = (jnp.zeros_like(loc), jnp.zeros_like(loc))
        return centre, *jax.lax.fori_loop(1, steps + 1, add, start)
