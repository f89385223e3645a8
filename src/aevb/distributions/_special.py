"""Elementary functions that keep their digits, and uniform noise that never reaches an edge."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray


def float_dtype(*parameters: ArrayLike) -> jnp.dtype:
    """The float type that samples have: that of the parameters."""
    return jnp.result_type(float, *parameters)


def open_uniform(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Uniform on the OPEN interval (0, 1): the middles of 2^23 (2^52) equal cells.

    `jax.random.uniform` returns 0 once in 8 million float32 draws. An exponential made of it is 0, the logarithm of a
    Weibull -inf. The middles are exact in floating point, and lie symmetrically about 1/2.
    """
    return jax.random.uniform(key, shape, dtype) + np.finfo(dtype).eps / 2


def smallest(dtype: jnp.dtype) -> float:
    """The least positive sample: the square root of the smallest normal number, 1.1e-19 in float32.

    A sample that underflows to 0 has log-probability -inf. At the smallest normal number itself that is finite, but its
    derivative, of the order of 1 / z, is not once it is multiplied by anything.
    """
    return float(np.finfo(dtype).tiny) ** 0.5


def log_prob_at_edge(power: ArrayLike, finite: ArrayLike) -> Float[Array, "..."]:
    """log(c d^power) at distance d = 0 from an edge: infinite, or log c = `finite` where the power is zero."""
    return jnp.where(jnp.equal(power, 0), finite, jnp.where(jnp.less(power, 0), jnp.inf, -jnp.inf))


def exp_within(log_z: Float[Array, "..."], log_scale: ArrayLike = 0.0) -> Float[Array, "..."]:
    """exp(log z), with z e^log_scale held within `log_range`; see `smallest`.

    Where the limit holds the gradient is zero, which is that of the limited sampler.
    """
    low, high = log_range(log_z.dtype)
    return jnp.exp(jnp.clip(log_z, low - log_scale, high - log_scale))


def log_range(dtype: jnp.dtype) -> tuple[float, float]:
    """The logarithms of the least and of the largest sample: the roots of the least normal and the largest number."""
    info = np.finfo(dtype)
    return 0.5 * float(np.log(float(info.tiny))), 0.5 * float(np.log(float(info.max)))


def expm1_minus(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """exp(t) - 1 - t, without the cancellation near zero that costs expm1(t) - t half of its digits."""
    small = jnp.abs(t) < 0.3
    near = jnp.where(small, t, 0.0)  # both branches stay finite, so that the unused one has no NaN gradient
    far = jnp.where(small, 1.0, t)
    # t^2/2! + t^3/3! + ... + t^13/13!, by Horner's rule; at 0.3 what is left out is below 1e-16 of the sum.
    series = jnp.zeros_like(t)
    for n in range(13, 2, -1):
        series = (series + 1.0) * near / n
    series = (series + 1.0) * near * near / 2.0
    return jnp.where(small, series, jnp.expm1(far) - far)


def minus_log1p(t: Float[Array, "..."], log_r: Float[Array, "..."]) -> Float[Array, "..."]:
    """r - 1 - log r >= 0 for a positive ratio r, from t = r - 1 and log r, each given with its own digits."""
    small = jnp.abs(t) < 0.25
    near = jnp.where(small, t, 0.0)
    return jnp.where(small, expm1_minus(jnp.log1p(near)), t - log_r)


def product_less(x: Float[Array, "..."], y: Float[Array, "..."], a: ArrayLike) -> Float[Array, "..."]:
    """x y - a, for an a near x y, whose rounding it does without: Dekker's (1971) product of halves."""
    info = np.finfo(x.dtype)
    x1, y1 = (jax.lax.reduce_precision(v, info.nexp, info.nmant // 2) for v in (x, y))
    x2, y2 = x - x1, y - y1
    return (x1 * y1 - a) + (x1 * y2 + x2 * y1 + x2 * y2)


def log1p_square(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + y^2), also where y^2 overflows."""
    large = jnp.abs(y) > 1.0
    inner, outer = jnp.where(large, 0.0, y), jnp.where(large, y, 1.0)
    return jnp.where(large, 2.0 * jnp.log(jnp.abs(outer)) + jnp.log1p(jnp.square(1.0 / outer)), jnp.log1p(inner**2))


def stirling_rest(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """delta(a) = log Gamma(a) - [(a - 1/2) log a - a + 1/2 log 2 pi]: what Stirling's formula leaves.

    With it the log-densities of Gamma, Beta and Dirichlet are sums of small terms at every concentration; as
    differences of log-gammas they keep no digit of float32 beyond a = 1e6.
    """
    # A log-gamma is rounded by more than the rest's digits: in float32 it is left as early as the series allows.
    edge = 3.0 if np.finfo(a.dtype).bits <= 32 else 16.0
    large = a > edge
    far, near = jnp.where(large, a, edge), jnp.where(large, 1.0, a)
    x = 1.0 / (far * far)
    # Stirling's series (Abramowitz & Stegun 6.1.41); at 16 the term left out is 1e-18, at 3 4e-9.
    series = (1 / 12 - x * (1 / 360 - x * (1 / 1260 - x * (1 / 1680 - x * (1 / 1188 - x * 691 / 360360))))) / far
    exact = jax.scipy.special.gammaln(near) - ((near - 0.5) * jnp.log(near) - near + 0.5 * jnp.log(2 * jnp.pi))
    return jnp.where(large, series, exact)


def log_gamma_step(x: Float[Array, "..."], n: int) -> Float[Array, "..."]:
    """log Gamma(x + n/2) - log Gamma(x), for a whole number n of halves."""
    total = sum((jnp.log(x + n / 2 - k) for k in range(1, n // 2 + 1)), jnp.zeros_like(x))
    if n % 2 == 0:
        return total
    edge = 4.0 if np.finfo(x.dtype).bits <= 32 else 20.0
    large = x > edge
    far, near = jnp.where(large, x, edge), jnp.where(large, 1.0, x)
    y = 1.0 / (far * far)
    # The ratio's own asymptotic series: no difference of large log-gammas.
    series = (-1 / 8 + y * (1 / 192 - y * (1 / 640 - y * (17 / 14336 - y * 31 / 18432)))) / far + 0.5 * jnp.log(far)
    exact = jax.scipy.special.gammaln(near + 0.5) - jax.scipy.special.gammaln(near)
    return total + jnp.where(large, series, exact)


def log_odds_of_beta(p: ArrayLike, a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """log y / (1 - y) of the quantile y of Beta(a, b) at probability p, by bisection of its distribution function.

    Far in a tail, where floats hold no y, that function is a power: F(y) = y^a / (a B(a, b)), and 1 - F likewise.
    """

    def halve(_: object, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        # From the nearer side, whose y keeps its digits.
        left, right = jax.nn.sigmoid(middle), jax.nn.sigmoid(-middle)
        upper = middle > 0
        tail = jax.scipy.special.betainc(jnp.where(upper, b, a), jnp.where(upper, a, b), jnp.where(upper, right, left))
        below = jnp.where(upper, tail > 1.0 - jnp.asarray(p), tail < p)
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    shape, dtype = jnp.broadcast_shapes(jnp.shape(p), a.shape, b.shape), jnp.result_type(a, b)
    edge = jnp.full(shape, -np.log(smallest(dtype)), dtype)
    low, high = jax.lax.fori_loop(0, np.finfo(dtype).nmant + 7, halve, (-edge, edge))
    inner = 0.5 * (low + high)
    p = jnp.asarray(p, dtype)
    lower, upper = (jnp.log(p) + _log_beta_step(a, b)) / a, -(jnp.log1p(-p) + _log_beta_step(b, a)) / b
    return jnp.where(inner < -0.5 * edge, lower, jnp.where(inner > 0.5 * edge, upper, inner))


def _log_beta_step(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(a B(a, b)) = log Gamma(a + 1) + log(Gamma(b) / Gamma(a + b)), the ratio by `stirling_rest`."""
    ratio = a - (b - 0.5) * jnp.log1p(a / b) - a * jnp.log(a + b) + stirling_rest(b) - stirling_rest(a + b)
    return jax.scipy.special.gammaln(a + 1) + ratio


def bernoulli_cumulants(u: Float[Array, "..."]) -> list[Float[Array, "..."]]:
    """The first eight cumulants of a coin that shows 1 with probability u: log(1 + u (e^t - 1)) = sum k_n t^n / n!."""
    v, d = u * (1 - u), 1 - 2 * u
    return [
        u,
        v,
        v * d,
        v * (1 - 6 * v),
        v * d * (1 - 12 * v),
        v * (1 - 30 * v + 120 * v**2),
        v * d * (1 - 60 * v + 360 * v**2),
        v * (1 - 126 * v + 1680 * v**2 - 5040 * v**3),
    ]


def cumulant_series(u: Float[Array, "..."], t: Float[Array, "..."], first: int) -> Float[Array, "..."]:
    """sum over n >= first of k_n t^(n - 1) / n!, by Horner's rule: good for |t| below `series_radius`."""
    cumulants = bernoulli_cumulants(u)
    total = jnp.zeros_like(t)
    factorial = [1, 2, 6, 24, 120, 720, 5040, 40320]
    for n in range(8, first - 1, -1):
        total = total * t + cumulants[n - 1] / factorial[n - 1]
    return total * t ** (first - 1)


def series_radius(dtype: jnp.dtype) -> float:
    """Where eight terms of that series (it converges for |t| < pi) meet the precision of the type."""
    return 0.3 if np.finfo(dtype).bits <= 32 else 0.02
