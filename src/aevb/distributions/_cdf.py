"""Distribution functions of Gamma, Beta and Student's t at concentrations at which JAX's incomplete integrals fail.

JAX's have a prefactor of log-gammas, which costs 1e-5 at a concentration of 50 in float32 and everything at 1e6, and
their series end after so many terms. Here the density, whose digits are kept, is integrated.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, gammainc
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ._special import expm1_minus, float_dtype, log_gamma_step, minus_log1p, product_less, stirling_rest

_LARGE = 16  # up to here JAX's are used


def _integral(
    exponent: Callable[[Array], Array], end: Float[Array, "..."], precision: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The integral of exp(-exponent(u)) sqrt(precision / 2 pi) up to `end`, for a bump about 0, by Gauss and Legendre.

    The slowest decay is that of precision (e^u - 1 - u), which at -width has come to `least`, what rounding leaves.
    """
    single = np.finfo(end.dtype).bits <= 32
    nodes, weights = (jnp.asarray(v, end.dtype) for v in np.polynomial.legendre.leggauss(32 if single else 64))
    least = (18.0 if single else 38.0) / precision
    width = jnp.sqrt(2 * least) + 0.5 * least
    half = 0.5 * (jnp.clip(end, -width, width) + width)
    u = half[..., None] * (1 + nodes) - width[..., None]
    return half * jnp.sqrt(precision / (2 * jnp.pi)) * jnp.sum(weights * jnp.exp(-exponent(u)), axis=-1)


def gamma_cdf(z: ArrayLike, a: ArrayLike, rate: ArrayLike) -> Float[Array, "..."]:
    """P(a, x), x = rate z > 0, the lower incomplete gamma function over Gamma(a)."""
    dtype = float_dtype(z, a, rate)
    z, a, rate = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (z, a, rate)))
    large = a > _LARGE
    b = jnp.where(large, a, _LARGE)
    z = jnp.minimum(z, 1e3 * b / rate)  # beyond, where the product could overflow, there is nothing left to tell
    t = product_less(rate, jnp.maximum(z, 1e-3 * b / rate), b) / b
    integral = _integral(lambda u: b[..., None] * expm1_minus(u), jnp.log1p(t), b) * jnp.exp(-stirling_rest(b))
    return jnp.where(large, jnp.clip(integral, 0.0, 1.0), gammainc(*(jnp.where(large, 1.0, v) for v in (a, rate * z))))


def _beta_integral(excess: Float[Array, "..."], a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """I_x(a, b) for an a and a b that are large, excess = n x - a, n = a + b, over the log-odds less the mean's."""
    p, q = a / (a + b), b / (a + b)

    def exponent(u: Float[Array, "..."]) -> Float[Array, "..."]:
        # x = p e^u / below, 1 - x = q / below
        e = jnp.expm1(u)
        below, log_below = 1 + p[..., None] * e, jnp.log1p(p[..., None] * e)
        of_x = a[..., None] * minus_log1p(q[..., None] * e / below, u - log_below)
        return of_x + b[..., None] * minus_log1p(-p[..., None] * e / below, -log_below)

    end = jnp.log1p(jnp.maximum(excess / a, -0.999)) - jnp.log1p(jnp.maximum(-excess / b, -0.999))
    return _integral(exponent, end, a * q) * jnp.exp(stirling_rest(a + b) - stirling_rest(a) - stirling_rest(b))


def _beta_steps(x: Float[Array, "..."], y: Float[Array, "..."], a: Array, b: Array) -> Float[Array, "..."]:
    r"""I_x(a, b) - I_x(a + K, b) = x^a y^b / (a B(a, b)) sum_{k < K} prod_{i < k} (a + b + i) x / (a + 1 + i).

    DLMF 8.17.20, K times. All terms are positive.
    """
    n = a + b
    excess, log_r, log_s = n * x - a, jnp.log(x * (n / a)), jnp.log(y * (n / b))
    exponent = a * minus_log1p(excess / a, log_r) + b * minus_log1p(-excess / b, log_s)
    constant = 0.5 * jnp.log(b / n / (2 * jnp.pi * a)) + stirling_rest(n) - stirling_rest(a) - stirling_rest(b)
    i = jnp.arange(_LARGE - 1)
    ratio = jnp.log((n[..., None] + i) / (a[..., None] + 1 + i) * x[..., None])
    first = (constant - exponent)[..., None]
    return jnp.sum(jnp.exp(jnp.concatenate([first, first + jnp.cumsum(ratio, axis=-1)], axis=-1)), axis=-1)


def beta_cdf(x: ArrayLike, a: ArrayLike, b: ArrayLike) -> Float[Array, "..."]:
    """I_x(a, b), the incomplete beta function over B(a, b), 0 < x < 1."""
    dtype = float_dtype(x, a, b)
    x, a, b = jnp.broadcast_arrays(*(jnp.asarray(v, dtype) for v in (x, a, b)))
    large = jnp.maximum(a, b) > _LARGE
    c, d = jnp.where(large, a, _LARGE), jnp.where(large, b, _LARGE)
    flip = c > d
    low, high = jnp.minimum(c, d), jnp.maximum(c, d)
    total = low + high
    # n x - a with the digits that n loses, from the side of the smaller concentration.
    excess = product_less(x, total, c) + x * (low - (total - high))
    excess, left, right = jnp.where(flip, -excess, excess), jnp.where(flip, 1 - x, x), jnp.where(flip, x, 1 - x)
    few = low < _LARGE
    steps = jnp.where(few, _LARGE, 0)
    below = jnp.where(few, _beta_steps(left, right, jnp.where(few, low, 1.0), high), 0.0)
    integral = jnp.clip(below + _beta_integral(excess - steps * right, low + steps, high), 0.0, 1.0)
    integral = jnp.where(flip, 1 - integral, integral)
    return jnp.where(large, integral, betainc(*(jnp.where(large, 0.5, v) for v in (a, b, x))))


def student_cdf(t: ArrayLike, df: ArrayLike) -> Float[Array, "..."]:
    """P(T <= t): 1/2 + sign(t)/2 I_y(1/2, df/2), y = t^2 / (t^2 + df)."""
    dtype = float_dtype(t, df)
    t, df = jnp.broadcast_arrays(jnp.asarray(t, dtype), jnp.asarray(df, dtype))
    eps = float(np.finfo(dtype).eps)
    near, far = jnp.abs(t) * jnp.sqrt(1 + 1 / df) < eps ** (1 / 3), jnp.abs(t) > jnp.sqrt(df) / eps**0.5
    middle = jnp.square(jnp.where(near | far, jnp.sqrt(df), t))
    # From the side on which y or 1 - y keeps its digits.
    inner = middle < df
    y = jnp.where(inner, middle, df) / (middle + df)
    mass = beta_cdf(y, jnp.where(inner, 0.5, 0.5 * df), jnp.where(inner, 0.5 * df, 0.5))
    # About zero, where y's root has no derivative, f(0) t; far out, where y^2 overflows, a power.
    density = jnp.exp(log_gamma_step(0.5 * df, 1)) / jnp.sqrt(df * jnp.pi)
    line = 0.5 + density * jnp.where(near, t, 0.0)
    log_ratio = 0.5 * jnp.log(df) - jnp.log(jnp.abs(jnp.where(far, t, jnp.sqrt(df))))
    tail = 2 * density / jnp.sqrt(df) * jnp.exp(df * log_ratio)
    mass = jnp.where(far, 1 - tail, jnp.where(inner, mass, 1 - mass))
    return jnp.where(near, line, 0.5 + 0.5 * jnp.sign(t) * mass)
