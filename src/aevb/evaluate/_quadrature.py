"""log p(x) by integration over a grid, for latents of one or two dimensions: exact, as far as it says itself."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aevb.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    as_floats,
    likelihood_given,
    log_likelihood_of,
    num_rows_of,
    prior_given,
    take,
)
from aevb.samplers import unconstrained

from ._importance import log_likelihood

# Points of a tile along each axis, and of the first grid: at least so many, and at most, by the number of axes.
_TILE = {1: 32, 2: 16}
_FIRST, _FINEST = {1: 256, 2: 64}, {1: 65_536, 2: 512}
# The grid reaches to where the prior is so many nats below its largest density, or to |t| = _FAR if it never is.
_DEPTH, _FAR = 200.0, 16.0
# Part of a row's p(x) that may lie in a tile that is not looked at again; and how often cells may be halved.
_NEGLIGIBLE, _MOST_LEVELS = 1e-7, 16
# Tiles of one row, above which it is given up; rows that go through one tile at once (whichever fits); rows at all.
_MOST_TILES, _ROWS, _BLOCK = 2048, (32, 512), 10_000
# Samples of q(z | x) that are asked for what was missed, and nats by which their weights must stand out.
_ASKED, _STANDS_OUT = 16, 7.0
# Rounding of log p(x, z), in units of its last digit: many terms are added.
_ROUNDING = 16.0


class Quadrature(NamedTuple):
    """log p(x) of N rows by quadrature; each field of shape (N,)."""

    log_likelihood: Float[np.ndarray, " N"]  # in nats
    error: Float[np.ndarray, " N"]  # what is known of its error, in nats: an estimate, on the safe side


def has_quadrature(generative: AbstractGenerativeModel) -> bool:
    """Whether `quadrature_log_likelihood` is for this model: a prior that is known, over one or two real numbers.

    Example:
        >>> from aevb.models import Decoder, Mlp
        >>> [has_quadrature(Decoder(4, j, Mlp((3,)), key=jax.random.key(0))) for j in (1, 2, 3)]
        [True, True, False]
    """
    try:
        _axes(generative)
    except UnavailableError:
        return False
    return True


def quadrature_log_likelihood(
    generative: AbstractGenerativeModel,
    rows: Rows,
    recognition: AbstractRecognitionModel | None = None,
    *,
    tolerance: float = 1e-3,
) -> Quadrature:
    r"""log p(x) = log int p(x | z) p(z) dz of each row, by the trapezoidal rule on a grid that is refined for each row.

    z is a function of t in R^k, k = 1 or 2: u = centre + scale sinh(t) with the prior's median and spread, and z from u
    by `unconstrained` (on the half line z = e^u, say), so that the integrand is smooth and falls off to all sides; the
    rule's error is then exponentially small in (width / step)^2. The first grid is as fine as the prior needs: the sum
    over it of p(z) must be 1. Cells that can hold a part of p(x) are halved, row by row, until two steps agree to
    within the tolerance. What a cell can hold is judged by its values and by how fast these change: for a peak that is
    nearly Gaussian that is an upper bound, however narrow the peak is.

    Each part of the grid goes through the decoder once for all rows; for Bernoulli and continuous Bernoulli likelihoods
    the rest is a product of matrices.

    `error` is what the grid's own cells and rounding tell. It cannot know of a part of the prior or of the decoder that
    is narrower than the first grid's cells (a 64th of the prior's range and more) and lies between its points. Where a
    recognition model is given, it is asked whether it knows of a place that was missed: as E_q[w] <= p(x) for
    w = p(x, z) / q(z | x), a mean of weights is e^7 times p(x) with a probability of at most e^-7 (Markov), and rows
    where it is have an `error` of as much as it is above.

    Args:
        generative: p(x, z), in its two parts.
        rows: x as the models see it, (N, D).
        recognition: q(z | x), to look for what was missed; None: nothing is looked for.
        tolerance: of log p(x), in nats. Rounding can leave more, which `error` then says.

    Returns:
        A `Quadrature`. A row that was not resolved, for its posterior has too many details or lies where the prior has
        next to no density, has an `error` above the tolerance.

    Raises:
        UnavailableError: three latent dimensions or more, or no prior() whose support is known.
        ValueError: the tolerance is not positive, or there are no rows.

    Example:
        >>> from aevb.models import Decoder, Mlp
        >>> g = Decoder(2, 2, Mlp((3,)), key=jax.random.key(0))
        >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        >>> found = quadrature_log_likelihood(g, x)
        >>> print(f"{np.exp(found.log_likelihood).sum():.4f}", bool((found.error < 1e-3).all()))
        1.0000 True
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of nats, got {tolerance}")
    if not num_rows_of(rows):
        raise ValueError("there are 0 rows to evaluate")
    grid = _make_grid(generative)
    parts = [
        _integrate(generative, grid, take(rows, slice(i, i + _BLOCK)), tolerance)
        for i in range(0, num_rows_of(rows), _BLOCK)
    ]
    log_p, error = (np.concatenate(part) for part in zip(*parts, strict=True))
    if recognition is not None:
        key = jax.random.key(0)
        known = log_likelihood(generative, recognition, rows, key, num_samples=_ASKED, proposal="encoder")
        above = known.astype(np.float64) - log_p
        error = np.where(above > _STANDS_OUT, np.maximum(error, above), error)
    return Quadrature(log_p, error)


# --- the grid ---------------------------------------------------------------------------------------------------------


class _Grid(NamedTuple):
    """t = low + step * i, i = 0 .. size - 1 on each of k axes; half of `step` at the next level, and so on."""

    centre: Float[np.ndarray, " k"]
    scale: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    step: Float[np.ndarray, " k"]
    size: int
    prior_error: float  # |log sum p(z)| on the first grid


def _axes(generative: AbstractGenerativeModel) -> int:
    """k, the number of real numbers that z is a function of."""
    if not isinstance(generative, AbstractPriorLikelihood):
        raise UnavailableError(
            f"quadrature needs a model with a prior() and a likelihood(), but {type(generative).__name__} has "
            "log_joint() alone; use importance sampling"
        )
    if generative.is_conditional:
        raise UnavailableError(
            f"quadrature has one grid for all rows, and p(z) of {type(generative).__name__} is given a part of each "
            "row; use importance sampling"
        )

    def draw(model: AbstractPriorLikelihood) -> Array:
        p = prior_given(model)
        return unconstrained(p).inverse(p.sample(jax.random.key(0)))

    k = int(eqx.filter_eval_shape(draw, generative).size)
    if k not in _TILE:
        raise UnavailableError(
            f"quadrature is for one or two latent dimensions and this model has {k}: a grid over more has too many "
            "points; use importance sampling or annealed importance sampling"
        )
    return k


@eqx.filter_jit
def _draws(generative: AbstractPriorLikelihood, keys: Array) -> Float[Array, "n k"]:
    def draw(key: Array) -> Array:
        p = prior_given(generative)
        return unconstrained(p).inverse(p.sample(key)).ravel()

    return jax.vmap(draw)(keys)


def _place(
    generative: AbstractPriorLikelihood, t: Float[Array, " k"], centre: Array, scale: Array
) -> tuple[Array, Float[Array, ""]]:
    """z of a point t, and log p(z) + log |det dz/dt|."""
    p = prior_given(generative)
    to = unconstrained(p)
    shape = jax.eval_shape(lambda key: to.inverse(p.sample(key)), jax.random.key(0)).shape
    u = (centre + scale * jnp.sinh(t)).reshape(shape)
    z = to.forward(u)
    log_p = p.log_prob(z) + to.log_det(u) + jnp.sum(jnp.log(scale) + jnp.log(jnp.cosh(t)))
    # Where floating point has no density it is that of no point; whether any was lost, the sum over the grid tells.
    return z, jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)


@eqx.filter_jit
def _log_prior(generative: AbstractPriorLikelihood, t: Array, centre: Array, scale: Array) -> Float[Array, " n"]:
    def one(t: Array) -> Array:
        return _place(generative, t, centre, scale)[1]

    return jax.lax.map(one, t, batch_size=4096)


def _make_grid(generative: AbstractGenerativeModel) -> _Grid:
    k = _axes(generative)
    assert isinstance(generative, AbstractPriorLikelihood)
    u = np.asarray(_draws(generative, jax.random.split(jax.random.key(0), 4096)), np.float64)
    below, centre, above = np.quantile(u, (0.16, 0.5, 0.84), axis=0)
    scale = np.maximum(0.5 * (above - below), np.finfo(np.float32).tiny)

    def log_prior(low: np.ndarray, step: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        axes = [low[i] + step[i] * np.arange(size) for i in range(k)]
        t = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)
        values = _log_prior(generative, *(jnp.asarray(a, float) for a in (t, centre, scale)))
        return t, np.asarray(values, np.float64)

    # From end to end of where the prior's density or its draws are.
    wide = np.full(k, 2 * _FAR / 256)
    t, values = log_prior(np.full(k, -_FAR), wide, 257)
    inside = t[values > values.max() - _DEPTH]
    drawn = np.clip(np.arcsinh((u - centre) / scale), -_FAR, _FAR)
    low = np.minimum(inside.min(axis=0), drawn.min(axis=0)) - wide
    high = np.maximum(inside.max(axis=0), drawn.max(axis=0)) + wide
    size = _FIRST[k]
    while True:
        step = (high - low) / size
        _, values = log_prior(low, step, size)
        total = float(_log_sum_exp(values) + np.sum(np.log(step)))
        if abs(total) < 1e-4 or size >= _FINEST[k]:
            return _Grid(centre, scale, low, step, size, abs(total) if abs(total) >= 1e-4 else 0.0)
        size *= 2


# --- a tile: some points of the grid, and rows ------------------------------------------------------------------------


@eqx.filter_jit
def _of_tile(
    generative: AbstractPriorLikelihood,
    x: Rows,
    index: Array,
    t: Float[Array, "P k"],
    centre: Array,
    scale: Array,
) -> Float[Array, "R parts 2"]:
    """For rows x[index] and each half (quarter) of a tile: log of the sum of e^f, and of what it could be.

    f = log p(x, z) |det dz/dt|. What f could be between here and the next point: f and its largest change to a
    neighbour, along each axis. For f = -r^2 / 2 s^2 that is an upper bound of its peak within 2.4 steps of it.
    """
    z, log_p = jax.vmap(lambda t: _place(generative, t, centre, scale))(t)
    f = jnp.where(log_p == -jnp.inf, -jnp.inf, _log_likelihoods(generative, as_floats(take(x, index)), z) + log_p)
    k = t.shape[1]
    n = round(len(t) ** (1 / k))
    f = f.reshape(-1, *(n,) * k)
    could_be = f
    for axis in range(1, k + 1):
        change = jnp.abs(jnp.diff(f, axis=axis))
        change = jnp.where(jnp.isfinite(change), change, 0.0)  # at an edge of the support
        edge = jnp.zeros_like(jnp.take(f, jnp.array([0]), axis=axis))
        here = [jnp.concatenate(parts, axis=axis) for parts in ((change, edge), (edge, change))]
        could_be = could_be + jnp.maximum(*here)

    def of_parts(f: Array) -> Float[Array, "R parts"]:
        halves = f.reshape(-1, *(2, n // 2) * k)
        return jax.scipy.special.logsumexp(halves, axis=tuple(range(2, 2 * k + 1, 2))).reshape(-1, 2**k)

    return jnp.stack([of_parts(f), of_parts(could_be)], axis=-1)


def _log_likelihoods(generative: AbstractPriorLikelihood, x: Rows, z: Float[Array, "P *z"]) -> Float[Array, "R P"]:
    """log p(x | z) of every row and point: x . eta - a, a product of matrices, where the family is of this form."""
    whole = type(generative).log_likelihood is AbstractPriorLikelihood.log_likelihood  # not a part of x, say
    if whole and type(_innermost(likelihood_given(generative, z[0]))) in (Bernoulli, ContinuousBernoulli):

        def linear(z: Array) -> tuple[Array, Array]:
            d = likelihood_given(generative, z)
            eta = _innermost(d).logits
            return jnp.broadcast_to(eta, x.shape[1:]).ravel(), -log_likelihood_of(generative, jnp.zeros_like(x[0]), z)

        eta, a = jax.vmap(linear)(z)
        # The product knows nothing of the likelihood's support, which is the same at every z.
        outside = jax.vmap(lambda row: log_likelihood_of(generative, row, z[0]))(x) == -jnp.inf
        return jnp.where(outside[:, None], -jnp.inf, jnp.matmul(x.reshape(len(x), -1), eta.T, precision="highest") - a)

    def of_point(z: Array) -> Float[Array, " R"]:
        return jax.vmap(lambda row: log_likelihood_of(generative, row, z))(x)

    return jax.lax.map(of_point, z, batch_size=16).T


def _innermost(d: Any) -> Distribution:
    while isinstance(d, Independent):
        d = d.base_dist
    return d


def _tile_points(grid: _Grid, level: int, tile: np.ndarray) -> np.ndarray:
    """t of a tile's points, (P, k)."""
    k = len(grid.low)
    step = grid.step / 2.0**level
    axes = [grid.low[i] + step[i] * (tile[i] * _TILE[k] + np.arange(_TILE[k])) for i in range(k)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)


def _sums(
    generative: Any, grid: _Grid, x: Array, level: int, row: np.ndarray, tile: np.ndarray
) -> Float[np.ndarray, "pairs parts 2"]:
    """What `_of_tile` gives for each pair of a row and a tile; the pairs are sorted by tile."""
    parts = []
    centre, scale = jnp.asarray(grid.centre, float), jnp.asarray(grid.scale, float)
    for start, stop in _runs(tile):
        t = jnp.asarray(_tile_points(grid, level, tile[start]), float)
        while start < stop:
            size = next((s for s in _ROWS if s >= stop - start), _ROWS[-1])
            index = np.resize(row[start : min(stop, start + size)], size)  # filled up by repetition
            parts.append((min(stop - start, size), _of_tile(generative, x, jnp.asarray(index), t, centre, scale)))
            start += size
    return np.concatenate([np.asarray(found, np.float64)[:count] for count, found in parts])


def _runs(tile: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last + 1 of each run of equal tiles."""
    ends = np.flatnonzero(np.any(tile[1:] != tile[:-1], axis=1)) + 1
    yield from zip([0, *ends.tolist()], [*ends.tolist(), len(tile)], strict=True)


# --- the integral -----------------------------------------------------------------------------------------------------


def _integrate(generative: Any, grid: _Grid, rows: Any, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """log p(x) and its error of each row."""
    n, k, x = num_rows_of(rows), len(grid.low), jax.tree.map(jnp.asarray, rows)
    eps = float(np.finfo(jnp.result_type(float)).eps)
    children = np.stack(np.meshgrid(*[[0, 1]] * k, indexing="ij"), axis=-1).reshape(-1, k)
    side = grid.size // _TILE[k]
    first = np.stack(np.meshgrid(*[np.arange(side)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    row, tile = np.tile(np.arange(n, dtype=np.int32), len(first)), np.repeat(first, n, axis=0)
    result, error = np.full(n, np.nan), np.full(n, np.nan)
    # Logs: of the sum over tiles that are done with, and of what it could be; of p(x) by the last level's points.
    settled, doubtful, previous = np.full(n, -np.inf), np.full(n, -np.inf), np.full(n, np.inf)
    last_change = np.full(n, np.inf)
    # How far rounding moves z, in steps of the first grid: t is a rounded number, and so is u = centre + scale sinh(t).
    largest = np.maximum(np.abs(grid.low), np.abs(grid.low + grid.step * grid.size))
    moved = float(np.sum(eps * (largest + np.abs(grid.centre) / grid.scale + 1.0) / grid.step))
    for level in range(_MOST_LEVELS):
        mass, could_be = np.moveaxis(_sums(generative, grid, x, level, row, tile), -1, 0)
        cell = float(np.sum(np.log(grid.step))) - k * level * math.log(2.0)
        mass, could_be = mass + cell, could_be + cell
        here = _by_row(mass, row, n)
        total = np.logaddexp(settled, here)
        seen = np.bincount(row, minlength=n) > 0
        rounding = _ROUNDING * eps * np.abs(total)
        with np.errstate(invalid="ignore", divide="ignore"):  # rows that are done with, and those of p(x) = 0
            change, excess = np.abs(total - previous), _by_row(could_be, row, n) - here
            fine = excess <= k * math.log(4.0)
            at_edge = np.any((16 * tile < side) | (16 * (tile + 1) > 15 * side), axis=1)
            beyond = _by_row(np.where(at_edge[:, None], could_be, -np.inf), row, n)
            # Of what lies in the outermost parts of the grid nobody knows how it goes on.
            lost = -np.log1p(-np.exp(np.minimum(np.logaddexp(doubtful, beyond) - total, 0.0)))
            # Where a peak is no wider than a step, two levels can agree by chance, and what it could hold is the error.
            # e^excess is 4.6^k for a Gaussian of one step's width.
            remaining = _remaining(change, last_change) + np.where(fine, 0.0, excess)
            result[seen] = total[seen]
            # A row is resolved when its posterior is a step wide or more: log p(x, z) changes by 1 or so within a step.
            error[seen] = (remaining + lost + grid.prior_error + rounding)[seen] + moved * 2.0**level
            done = (remaining <= np.maximum(tolerance, rounding)) | ~np.isfinite(total)
        previous, last_change = total, change
        keep = ~done[row][:, None] & (could_be > total[row][:, None] + math.log(_NEGLIGIBLE))
        done |= np.bincount(row, keep.sum(axis=1), minlength=n) > _MOST_TILES
        dropped = ~keep & ~done[row][:, None]
        settled = np.logaddexp(settled, _by_row(np.where(dropped, mass, -np.inf), row, n))
        doubtful = np.logaddexp(doubtful, _by_row(np.where(dropped, could_be, -np.inf), row, n))
        pair, child = np.nonzero(keep & ~done[row][:, None])
        if not len(pair):
            break
        row, tile, side = row[pair], 2 * tile[pair] + children[child], 2 * side
        order = np.lexsort(tile.T)
        row, tile = row[order], tile[order]
    return result, error


def _remaining(change: np.ndarray, last_change: np.ndarray) -> np.ndarray:
    """What further levels would still change: a geometric series of the last ratio, or, where it says little, as much
    as the last one. The rule's error falls by a quarter a level where the integrand has a kink, and much faster where
    it is smooth.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = change / last_change
        return np.where(np.isfinite(last_change) & (ratio < 0.5), change * ratio / (1.0 - ratio), change)


def _by_row(values: Float[np.ndarray, "pairs parts"], row: np.ndarray, n: int) -> Float[np.ndarray, " n"]:
    """log sum e^values of each row."""
    largest = np.full(n, -np.inf)
    np.maximum.at(largest, row, values.max(axis=1))
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.bincount(row, np.exp(values - shift[row][:, None]).sum(axis=1), minlength=n))


def _log_sum_exp(values: np.ndarray) -> float:
    largest = float(values.max())
    return largest + math.log(float(np.exp(values - largest).sum()))
