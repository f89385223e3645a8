"""Simulation-based calibration: whether q(z | x) is the posterior of the model whose data it reads."""

import bisect
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    Rows,
    as_floats,
    log_joint_of,
    posterior_of,
    take,
)

from ._rows import map_rows
from ._simulated import given_rows

Shape = Literal["uniform", "shifted low", "shifted high", "under-dispersed", "over-dispersed", "other"]

LOG_JOINT = "log p(x, z)"
# Ranks at which the ECDF is compared. Enough for any departure that a few thousand simulations can show.
_MAX_POINTS = 100


class Calibration(NamedTuple):
    """Ranks of the truth among the draws, held against uniform ones. Q quantities: the J of z, then log p(x, z)."""

    names: tuple[str, ...]
    ranks: Int[np.ndarray, "N Q"]  # of the truth among the draws, 0 ... num_draws
    num_draws: int
    level: float  # probability that ALL Q curves are within the bands if q is the exact posterior (at least)
    uniform: Float[np.ndarray, " K"]  # the ECDF of uniform ranks at the points of comparison
    ecdf_difference: Float[np.ndarray, "Q K"]  # ECDF of the ranks less `uniform`
    lower: Float[np.ndarray, " K"]  # the band of each difference
    upper: Float[np.ndarray, " K"]
    max_deviation: Float[np.ndarray, " Q"]  # largest |ecdf_difference|
    p_values: Float[np.ndarray, " Q"]  # of each quantity alone; compare with (1 - level) / Q
    shapes: tuple[Shape, ...]  # how the draws differ from the posterior; "uniform" within the bands

    @property
    def within(self) -> Bool[np.ndarray, " Q"]:
        """Whether each quantity's whole curve is within the bands."""
        return np.all((self.ecdf_difference >= self.lower) & (self.ecdf_difference <= self.upper), axis=1)

    @property
    def calibrated(self) -> bool:
        """Whether all of them are."""
        return bool(np.all(self.within))

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, without the ranks."""
        values = {name: value for name, value in self._asdict().items() if name != "ranks"}
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        return {"num_simulations": len(self.ranks), "calibrated": self.calibrated, **plain}


def simulation_based_calibration(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    key: PRNGKeyArray,
    *,
    like: Rows | None = None,
    num_simulations: int = 1000,
    num_draws: int = 100,
    level: float = 0.99,
    batch_size: int = 50,
) -> Calibration:
    r"""Draw z* ~ p(z), x ~ p(x | z*), z_l ~ q(z | x) many times over, and rank z* among the z_l.

    If q(z | x) is the posterior p(z | x), then (x, z*) and (x, z_l) have one distribution, and the rank of f(x, z*)
    among f(x, z_1) ... f(x, z_L) is uniform on {0, ..., L} for every f (Talts et al. 2018, theorem 1). Here f is each
    dimension of z, and log p(x, z), which depends on x and so finds what no function of z alone can: q(z | x) = p(z)
    has uniform ranks in every dimension (Modrak et al. 2025, section 3). Ties are broken at random, which keeps the
    ranks uniform for discrete quantities too. Uniform ranks are necessary for q(z | x) = p(z | x), not sufficient.

    The ECDF of the ranks is held against simultaneous bands (Saeilynoja et al. 2022): at each point the counts are
    binomial, and the level of the pointwise intervals is chosen so that the whole curve stays inside with a given
    probability, here computed exactly and with no random numbers. Over the Q quantities the bands are Bonferroni's:
    each has the level 1 - (1 - level) / Q.

    Args:
        generative: p(x, z); with a VampPrior, tied to the recognition model.
        recognition: q(z | x).
        key: simulation i uses fold_in(key, i).
        like: rows of data; simulation i is given what row i modulo their number is. A conditional model needs them.
        num_simulations: N. The bands are about 2 / sqrt(N) to each side of 0.
        num_draws: L, draws from q(z | x) in each simulation.
        level: probability that an exact posterior is called calibrated, all quantities taken together.
        batch_size: simulations at once; bounds the memory and does not change the result beyond rounding.

    Raises:
        ValueError: a number out of range; z of another shape in the two models.
        UnavailableError: log p(x, z) or z is not a number in some simulation.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> c = simulation_based_calibration(g, q, jax.random.key(2), num_simulations=50, num_draws=10)
        >>> c.names, c.ranks.shape
        (('z_1', 'z_2', 'log p(x, z)'), (50, 3))
    """
    num_simulations, num_draws = operator.index(num_simulations), operator.index(num_draws)
    if num_simulations < 2 or num_draws < 2:
        raise ValueError(f"num_simulations and num_draws must be at least 2, got {num_simulations} and {num_draws}")
    _check_level(level)
    rows = given_rows(generative, like, np.arange(num_simulations))
    names = (*_names(_latent_shape(generative, recognition, take(rows[1], 0))), LOG_JOINT)
    ranks, is_nan = map_rows(_row_function(num_draws), (generative, recognition), rows, key, batch_size=batch_size)
    if is_nan.any():
        row, quantity = np.argwhere(is_nan)[0]
        raise UnavailableError(
            f"{names[quantity]} is not a number at the truth or at a draw in {np.count_nonzero(is_nan.any(axis=1))} of "
            f"{num_simulations} simulations (first: {row + 1}), so that it has no rank; look for an overflow in the "
            "models"
        )
    return rank_calibration(ranks, num_draws, names, level=level)


def rank_calibration(
    ranks: Int[np.ndarray, "N Q"], num_draws: int, names: tuple[str, ...], *, level: float = 0.99
) -> Calibration:
    """The bands, p-values and readings of `simulation_based_calibration`, for ranks that are there already.

    Args:
        ranks: of the truth among the draws, 0 ... num_draws; one row per simulation, one column per quantity.
        num_draws: L >= 2.
        names: of the quantities.
        level: of all bands together.

    Example:
        >>> ranks = np.arange(200)[:, None] % 20  # as uniform as can be
        >>> rank_calibration(ranks, 19, ("z_1",)).calibrated
        True
        >>> c = rank_calibration(ranks // 2, 19, ("z_1",))  # the truth is never among the upper half of the draws
        >>> c.calibrated, c.shapes
        (False, ('shifted high',))
    """
    _check_level(level)
    n, num_quantities = ranks.shape
    if n < 1 or num_quantities != len(names) or num_quantities < 1:
        raise ValueError(f"ranks must have a row or more and a column for each of {names}, got {ranks.shape}")
    if num_draws < 2 or ranks.min() < 0 or ranks.max() > num_draws:
        raise ValueError(
            f"ranks among {num_draws} draws (at least 2) are 0 ... {num_draws}, got {ranks.min()} ... {ranks.max()}"
        )
    points = np.unique(np.linspace(0, num_draws - 1, min(num_draws, _MAX_POINTS)).round().astype(int))
    null = _Null.of(n, (points + 1) / (num_draws + 1))
    alpha = (1 - level) / num_quantities
    low, high = null.bounds(null.largest_tail(alpha))
    counts = np.stack([np.searchsorted(np.sort(column), points, side="right") for column in ranks.T])  # (Q, K)
    difference = counts / n - null.uniform
    p_values = np.array([null.p_value(c) for c in counts])
    within = np.all((counts >= low) & (counts <= high), axis=1)
    return Calibration(
        names,
        ranks,
        num_draws,
        level,
        null.uniform,
        difference,
        low / n - null.uniform,
        high / n - null.uniform,
        np.abs(difference).max(axis=1),
        p_values,
        tuple("uniform" if ok else _shape(column, num_draws) for ok, column in zip(within, ranks.T, strict=True)),
    )


# --- simulations ------------------------------------------------------------------------------------------------------


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(num_draws: int) -> Callable[..., Any]:
    def simulation(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Any
    ) -> tuple[Int[Array, " Q"], Bool[Array, " Q"]]:
        truth_key, draw_key, tie_key = jax.random.split(key, 3)
        x, truth = generative.sample(truth_key, *row[1])  # z* ~ p(z), x ~ p(x | z*)
        x = as_floats(x)

        def draw(l: Array) -> Array:  # noqa: E741
            z = posterior_of(recognition, x).sample(jax.random.fold_in(draw_key, l))  # made anew inside
            return z.astype(float)

        z = jnp.concatenate([truth.astype(float)[None], jax.vmap(draw)(jnp.arange(num_draws, dtype=jnp.uint32))])
        # The truth's log p(x, z) in the same batch as the draws', so that equal z have it equal to the last bit.
        log_joint = jax.vmap(lambda z: log_joint_of(generative, x, z))(z)
        f = jnp.concatenate([z.reshape(num_draws + 1, -1), log_joint[:, None]], axis=1)  # (1 + L, Q)
        below, ties = jnp.sum(f[1:] < f[0], axis=0), jnp.sum(f[1:] == f[0], axis=0)
        # r = #{f_l < f*}, and of those equal to f* a number drawn evenly from 0 ... #ties
        return below + jax.random.randint(tie_key, ties.shape, 0, ties + 1), jnp.any(jnp.isnan(f), axis=0)

    return simulation


def _latent_shape(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, given: tuple[Any, ...]
) -> tuple[int, ...]:
    """The shape of z, which must be the same in both models. A trace by shapes, nothing is computed."""

    def latents(key: PRNGKeyArray, pair: tuple[AbstractGenerativeModel, AbstractRecognitionModel]) -> Any:
        x, z = pair[0].sample(key, *as_floats(given))
        return z, posterior_of(pair[1], as_floats(x)).sample(key)

    p, q = eqx.filter_eval_shape(latents, jax.random.key(0), (generative, recognition))
    if p.shape != q.shape:
        raise ValueError(f"z must have one shape in both models, got {p.shape} from p(z) and {q.shape} from q(z | x)")
    return tuple(p.shape)


def _names(shape: tuple[int, ...]) -> list[str]:
    return [f"z_{','.join(str(i + 1) for i in index)}" if index else "z" for index in np.ndindex(shape)]


# --- ranks under the null hypothesis ----------------------------------------------------------------------------------


class _Null(NamedTuple):
    """How counts of uniform ranks behave: C_k, the number of n ranks up to the k-th point, is Binomial(n, uniform_k).

    The statistic of a curve is its most extreme point, min_k tail_k(C_k), tail = 2 min(P(C_k <= c), P(C_k >= c)).
    """

    n: int
    uniform: Float[np.ndarray, " K"]
    tail: Float[np.ndarray, "K n_1"]
    log_factorial: Float[np.ndarray, " n_1"]

    @classmethod
    def of(cls, n: int, uniform: Float[np.ndarray, " K"]) -> "_Null":
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
        c, p = np.arange(n + 1), uniform[:, None]
        log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
        pmf = np.exp(log_choose + c * np.log(p) + (n - c) * np.log1p(-p))
        at_most, at_least = np.cumsum(pmf, axis=1), np.cumsum(pmf[:, ::-1], axis=1)[:, ::-1]
        return cls(n, uniform, 2 * np.minimum(at_most, at_least), log_factorial)

    def _above(self, tail: float) -> Bool[np.ndarray, "K n_1"]:
        """With a margin for rounding: c of C_k and n - c of its mirror image have the same tail."""
        return self.tail > tail * (1 + 1e-9)

    def bounds(self, tail: float) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
        """The smallest and the largest count at each point whose tail is above the given one."""
        inside = self._above(tail)
        return np.argmax(inside, axis=1), self.n - np.argmax(inside[:, ::-1], axis=1)

    def probability(self, tail: float) -> float:
        r"""P(min_k tail_k(C_k) <= tail): that the curve leaves the bounds somewhere.

        The increments of C_k are multinomial, that is, independent Poisson counts given that they sum to n; so the
        probability to stay inside is a chain of convolutions, cut off at the bounds after each, over P(the sum is n).
        """
        if not np.all(np.any(self._above(tail), axis=1)):
            return 1.0
        low, high = self.bounds(tail)
        mass, first = np.ones(1), 0  # P(C_k = first + i and inside so far)
        shares = np.diff(self.uniform, prepend=0.0, append=1.0)
        for share, a, b in zip(shares, [*low, self.n], [*high, self.n], strict=True):
            mass = np.convolve(mass, self._poisson(share, int(b) - first))[a - first : b - first + 1]
            first = int(a)
        return float(1.0 - mass[0] / self._poisson(1.0, self.n)[-1])

    def _poisson(self, share: float, largest: int) -> Float[np.ndarray, " m"]:
        """P(0), ..., P(largest) of a Poisson count with mean n share."""
        mean = self.n * share
        return np.exp(np.arange(largest + 1) * math.log(mean) - mean - self.log_factorial[: largest + 1])

    def p_value(self, counts: Int[np.ndarray, " K"]) -> float:
        """P(a statistic as small as these counts' or smaller)."""
        tail = float(np.min(self.tail[np.arange(len(counts)), counts]))
        # Between one point's share of it and the sum over points, which hold where 1 - P(inside) is lost to rounding.
        return float(np.clip(self.probability(tail), tail / 2, min(1.0, len(counts) * tail)))

    def largest_tail(self, alpha: float) -> float:
        """The largest value of the statistic that has a p-value of at most alpha; 0 if none has."""
        values = np.concatenate([[0.0], np.unique(self.tail)])
        return float(values[max(bisect.bisect_right(values, alpha, key=self.probability) - 1, 0)])


def _shape(ranks: Int[np.ndarray, " N"], num_draws: int) -> Shape:
    """What stands out in ranks that are not uniform: their mean or their variance, in standard errors of each.

    A truth that ranks high means draws that are too low; ranks piled up at both ends, draws that are too narrow.
    """
    grid = (np.arange(num_draws + 1) + 0.5) / (num_draws + 1) - 0.5
    variance, fourth = np.mean(grid**2), np.mean(grid**4)
    u, n = grid[ranks], len(ranks)
    of_mean = np.mean(u) / np.sqrt(variance / n)
    of_variance = (np.var(u) - variance) / np.sqrt((fourth - variance**2) / n)
    if max(abs(of_mean), abs(of_variance)) < 3:
        return "other"
    if abs(of_mean) >= abs(of_variance):
        return "shifted low" if of_mean > 0 else "shifted high"
    return "under-dispersed" if of_variance > 0 else "over-dispersed"


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, both excluded, got {level}")
