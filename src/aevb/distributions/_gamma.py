"""The Gamma, with an implicit pathwise gradient, and the chi-squared.

NumPyro has both. Its log-densities are differences of log-gammas, which keep no digit of float32 at a
concentration of 1e6, and its samples reach 0 at a small one, where the density is infinite and its gradients NaN.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints

from ._cdf import gamma_cdf
from ._special import float_dtype, log_prob_at_edge, minus_log1p, open_uniform, smallest, stirling_rest
from ._support import CdfWithinSupport

# From here on the implicit gradient is that of Cornish & Fisher's expansion: the series of `random_gamma_grad` takes
# a number of terms that grows with the concentration, and float32 has lost 4e-4 of it at 1e4.
_LARGE = 1000.0


@jax.custom_jvp
def with_implicit_gradient(concentration: Float[Array, "..."], z: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""z, drawn from Gamma(concentration, 1), with dz/da = -(dF/da) / f: F(z; a), the noise, is held fixed.

    Good for concentrations of 1 and more.
    """
    return z


@with_implicit_gradient.defjvp
def _implicit_gradient(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    a, z = primals
    large = a > _LARGE
    exact = jax.lax.random_gamma_grad(jnp.where(large, 1.0, a), jnp.where(large, 1.0, z))
    # z = a + w sqrt(a) + (w^2 - 1)/3 + (w^3 - 7w)/(36 sqrt(a)) + ..., w standard normal and held fixed.
    root = jnp.sqrt(jnp.where(large, a, _LARGE))
    y = jnp.where(large, (z - a) / root, 0.0)
    w = y - (y**2 - 1) / (3 * root)
    for _ in range(3):
        w = y - (w**2 - 1) / (3 * root) - (w**3 - 7 * w) / (36 * root**2)
    expansion = 1 + w / (2 * root) - (w**3 - 7 * w) / (72 * root**3) + (3 * w**4 + 7 * w**2 - 16) / (810 * root**4)
    return z, jnp.where(large, expansion, exact) * tangents[0]


def gamma_and_log_boost(
    key: PRNGKeyArray, concentration: Float[Array, "..."], shape: tuple[int, ...]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""g and l, with g e^l distributed as Gamma(a, 1), for every a > 0.

    For a < 1, g ~ Gamma(a + 1, 1) and l = log(u) / a, which falls far below what floating point can hold for e^l; else
    l = 0. The gradient with respect to a is the pathwise one of this pair.
    """
    of_gamma, of_uniform = jax.random.split(key)
    a = jnp.broadcast_to(concentration, shape)
    small = a < 1.0
    boosted = jnp.where(small, a + 1.0, a)
    g = with_implicit_gradient(boosted, jax.lax.stop_gradient(jax.random.gamma(of_gamma, boosted, shape, a.dtype)))
    log_u = jnp.log(open_uniform(of_uniform, shape, a.dtype))
    return g, jnp.where(small, log_u / jnp.where(small, a, 1.0), 0.0)


def log_gamma_sample(key: PRNGKeyArray, concentration: ArrayLike, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """log z of z ~ Gamma(concentration, 1), held where z is above `smallest`."""
    a = jnp.asarray(concentration, float_dtype(concentration))
    g, log_boost = gamma_and_log_boost(key, a, shape)
    return jnp.maximum(jnp.log(g) + log_boost, math.log(smallest(a.dtype)))


def gamma_log_prob(value: Float[Array, "..."], a: ArrayLike, rate: ArrayLike) -> Float[Array, "..."]:
    r"""a log x - x - log Gamma(a) - log z, x = rate z, in nats; -inf outside of z > 0, the limit at 0.

    For a > 1 as -a (r - 1 - log r) + 1/2 log(a / 2 pi) - delta(a) - log z, r = x / a: small terms near the mode.
    """
    inside = jnp.greater(value, 0) & jnp.less(value, jnp.inf)
    z = jnp.where(inside, value, 1.0)
    x = jnp.asarray(rate) * z
    large = jnp.greater(a, 1.0)
    b = jnp.where(large, a, 2.0)
    # The quotient keeps its digits at a large concentration, the sum of logarithms what x is too small or large for.
    held = jnp.greater(x, 0) & jnp.less(x, jnp.inf)
    log_r = jnp.where(held, jnp.log(jnp.where(held, x, b) / b), jnp.log(z) + jnp.log(rate) - jnp.log(b))
    stirling = -b * minus_log1p((x - b) / b, log_r) + 0.5 * jnp.log(b / (2 * jnp.pi)) - stirling_rest(b)
    c = jnp.where(large, 1.0, a)
    direct = c * (jnp.log(z) + jnp.log(rate)) - x - jax.scipy.special.gammaln(c)
    edge = jnp.where(jnp.equal(value, 0), log_prob_at_edge(jnp.subtract(a, 1), jnp.log(rate)), -jnp.inf)
    return jnp.where(inside, jnp.where(large, stirling, direct) - jnp.log(z), edge)


def gamma_entropy(a: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""log Gamma(a) + a + (1 - a) psi(a), the entropy of Gamma(a, 1) in nats, by what Stirling's formula leaves.

    With log Gamma(a) = (a - 1/2) log a - a + 1/2 log 2 pi + delta(a), and so psi(a) = log a - 1 / 2a + delta'(a), the
    terms of the order of a log a are gone.
    """
    delta, slope = jax.jvp(stirling_rest, (a,), (jnp.ones_like(a),))
    return 0.5 * (jnp.log(2 * jnp.pi * a) + 1 - 1 / a) + delta + (1 - a) * slope


class Gamma(CdfWithinSupport, dist.Gamma):
    r"""p(z) = rate^a z^(a - 1) e^(-rate z) / Gamma(a), z > 0, a = concentration.

    Samples are held at 1e-19 and above in float32 (1e-154 in float64): for a = 1e-3 nineteen in twenty are there.

    Example:
        >>> z = Gamma(1e-3, 1.0).sample(jax.random.key(0), (100,))
        >>> print((z > 0).all(), jnp.isfinite(Gamma(1e-3, 1.0).log_prob(z)).all())
        True True
    """

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Of shape (*sample_shape, *batch)."""
        a = jnp.asarray(self.concentration, float_dtype(self.concentration, self.rate))
        g, log_boost = gamma_and_log_boost(key, a, sample_shape + self.batch_shape)
        return jnp.maximum(g * jnp.exp(log_boost) / self.rate, smallest(a.dtype))

    def log_prob(self, value: ArrayLike, intermediates: object = None) -> Float[Array, "..."]:
        """In nats."""
        return gamma_log_prob(jnp.asarray(value), self.concentration, self.rate)

    def entropy(self) -> Float[Array, "..."]:
        """In nats."""
        a = jnp.asarray(self.concentration, float_dtype(self.concentration, self.rate))
        return gamma_entropy(a) - jnp.log(self.rate)

    def _cdf_inside(self, value: ArrayLike) -> Float[Array, "..."]:
        return gamma_cdf(value, self.concentration, self.rate)


class Chi2(Gamma):
    """The sum of `df` squared standard normals: Gamma(df / 2, 1 / 2).

    Example:
        >>> print(Chi2(2.0).log_prob(2.0).round(4))
        -1.6931
    """

    arg_constraints: ClassVar = {"df": constraints.positive}
    reparametrized_params: ClassVar = ["df"]

    def __init__(self, df: ArrayLike, *, validate_args: bool | None = None):
        self.df = df
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)
