"""log p(x) by integration over a grid, for latents of one or two dimensions: exact, as far as it says itself."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from aevb.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent, Uniform

# From its own module: this is no part of the public face of `aevb.distributions`.
from aevb.distributions._unconstrained import unconstrained
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    likelihood_of,
    log_likelihood_of,
    posterior_and_prior,
    prior_of,
)

from ._quadrature_grid import TILE, Grid, axes_of, make_grid, place
from ._rows import map_rows

# Part of a row's p(x) that may lie in a tile that is not looked at again; and how often cells may be halved.
_NEGLIGIBLE, _MOST_LEVELS = 1e-7, 16
# Tiles of one row, above which it is given up; rows that go through one tile at once (whichever fits); rows at all.
_MOST_TILES, _ROWS, _BLOCK = 2048, (32, 512), 10_000
# Rounding of log p(x, z), in units of its last digit: many terms are added.
_ROUNDING = 16.0
# Draws of q(z|x) of each row; of the prior, at most, for all rows; and nats by which a draw must stand out.
_OWN, _SHARED, _STANDS_OUT = 2, 256, 0.1
# Prior mass that may be nowhere: what rounding leaves of the sum over p(z).
_LOST_PRIOR = 2e-5


class Quadrature(NamedTuple):
    """log p(x) of N rows by quadrature; each field of shape (N,)."""

    log_likelihood: Float[np.ndarray, " N"]  # in nats
    error: Float[np.ndarray, " N"]  # what is known of its error, in nats: an estimate, on the safe side


def has_quadrature(generative: AbstractGenerativeModel) -> bool:
    """Whether `quadrature_log_likelihood` is for this model: a prior that is known, over one or two real numbers.

    Example:
        >>> from aevb.models import BernoulliGenerative
        >>> [has_quadrature(BernoulliGenerative(4, j, (3,), key=jax.random.key(0))) for j in (1, 2, 3)]
        [True, True, False]
    """
    try:
        axes_of(generative)
    except UnavailableError:
        return False
    return True


def quadrature_log_likelihood(
    generative: AbstractGenerativeModel,
    rows: Real[Array | np.ndarray, "N *x"],
    recognition: AbstractRecognitionModel | None = None,
    *,
    tolerance: float = 1e-3,
) -> Quadrature:
    r"""log p(x) = log int p(x | z) p(z) dz of each row, by the trapezoidal rule on a grid that is refined for each row.

    z is a function of t in R^k, k = 1 or 2: u = centre + scale sinh(t) with the prior's median and spread, and z from u
    by `unconstrained` (on the half line z = e^u, say), so that the integrand is smooth and falls off to all sides; the
    rule's error is then exponentially small in (width / step)^2. Cells that can hold a part of p(x) are halved, row by
    row, until two steps agree to within the tolerance. What a cell can hold is judged by its values and by how fast
    these change: for a peak that is nearly Gaussian that is an upper bound, however narrow the peak is. For what the
    first grid steps over there are draws, with fixed keys: of q(z | x) of each row, and those of 4096 of the prior at
    which the density, or the likelihood of one of 32 rows, stands out from the grid. Where the integrand at a draw is
    above what its cell was thought to hold, the cell is halved.

    Chance and the encoder thus choose where to look; they are no part of the sum. Each part of the grid goes through
    the decoder once for all rows; for Bernoulli and continuous Bernoulli likelihoods the rest is a product of matrices.

    `error` knows of: how far two steps differ; what cells that were dropped, or lie at the grid's end, could hold;
    draws that were not resolved, and how many of those that stand out have no more than one other near; rounding of z
    and of the logarithms; and prior mass above 2e-5 that was found nowhere, taken to lie where the row's likelihood is
    largest. It is an estimate and no bound. It cannot know of a feature of p(x | z) or p(z), narrower than a cell of
    the first grid, that no draw meets, or that stands out for none of the 32 rows.

    Args:
        generative: p(x, z), in its two parts.
        rows: x as the models see it, (N, D).
        recognition: q(z | x), whose draws are looked at. None: the prior's alone.
        tolerance: of log p(x), in nats. Rounding can leave more, which `error` then says.

    Returns:
        A `Quadrature`. A row that was not resolved, for its posterior has too many details or lies where the prior has
        next to no density, has an `error` above the tolerance.

    Raises:
        UnavailableError: three latent dimensions or more, or no prior() whose support is known.
        ValueError: the tolerance is not positive, or there are no rows.

    Example:
        >>> from aevb.models import BernoulliGenerative
        >>> g = BernoulliGenerative(2, 2, (3,), key=jax.random.key(0))
        >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
        >>> found = quadrature_log_likelihood(g, x)
        >>> print(f"{np.exp(found.log_likelihood).sum():.4f}", bool((found.error < 1e-3).all()))
        1.0000 True
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be a positive number of nats, got {tolerance}")
    if not len(rows):
        raise ValueError("there are 0 rows to evaluate")
    grid = make_grid(generative)
    assert isinstance(generative, AbstractPriorLikelihood)
    # The prior by itself, as a row about which every z says the same: p(x) = int p(z) dz = 1.
    prior, nothing = _PriorAlone(generative), np.full((1, 1), 0.5, np.float32)
    of_prior = _draws_that_stand_out(prior, grid, nothing)
    mass, error, rounding = _integrate(prior, grid, nothing, _seeds(prior, grid, nothing, of_prior, None), 1e-5)
    lost = float(max(abs(np.expm1(mass[0])), error[0] - rounding[0]) - rounding[0])
    parts = []
    for start in range(0, len(rows), _BLOCK):
        x = np.asarray(rows[start : start + _BLOCK])
        few = x[np.unique(np.linspace(0, len(x) - 1, _ROWS[0]).astype(int))]
        shared = of_prior | _draws_that_stand_out(generative, grid, few)
        seeds = _seeds(generative, grid, x, shared, recognition)
        log_p, error, _ = _integrate(generative, grid, x, seeds, tolerance)
        with np.errstate(invalid="ignore"):
            could_be = np.max(seeds.value[:, _OWN:], axis=1, initial=-np.inf) + np.sum(np.log(grid.step))
            error = error + _unmet(grid, shared) * np.exp(np.fmin(could_be - log_p, 0.0))
        if lost > _LOST_PRIOR:
            error = error + np.logaddexp(0.0, math.log(lost) + _best_likelihood(generative, grid, x) - log_p)
        parts.append((log_p, error))
    return Quadrature(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class _PriorAlone(AbstractPriorLikelihood):
    """A model's prior, and a likelihood of 1 of x = 1/2 whatever z is."""

    model: AbstractPriorLikelihood

    def prior(self) -> Distribution:
        return prior_of(self.model)

    def likelihood(self, z: Float[Array, "*z"]) -> Distribution:
        return Uniform(jnp.zeros(1), jnp.ones(1)).to_event(1)


# --- where to look ----------------------------------------------------------------------------------------------------


class _Seeds(NamedTuple):
    """Points at which a row's integrand is known: (t - low) / step, from 0 to the grid's size; and f there."""

    place: Float[np.ndarray, "N S k"]
    value: Float[np.ndarray, "N S"]


_NO_SEED = np.float32(-np.inf)


def _in_cells(grid: Grid, t: np.ndarray) -> np.ndarray:
    return np.clip((t - grid.low) / grid.step, 0.0, grid.size - 1e-6)


def _at(generative: Any, grid: Grid, x: np.ndarray, t: np.ndarray) -> Float[np.ndarray, "N S"]:
    """f of rows x at any points, (S, k), by tiles that are made of them."""
    k, n, parts = t.shape[1], len(x), []
    for start in range(0, len(t), TILE[k] ** k):
        chosen = t[start : start + TILE[k] ** k]
        points = np.resize(chosen, (TILE[k] ** k, k))
        values = [f for _, f, _ in _through(generative, grid, jnp.asarray(x), np.arange(n), points, 0, points[0], None)]
        parts.append(np.concatenate([np.asarray(f) for f in values])[:n, : len(chosen)])
    return np.concatenate(parts, axis=1)


def _draws_that_stand_out(generative: Any, grid: Grid, x: np.ndarray) -> np.ndarray:
    """Whether a draw of the prior has, for one of a few rows, more than its cell of the first grid could hold."""
    k = len(grid.low)
    cell = np.floor(_in_cells(grid, grid.drawn)).astype(int)
    tile_of, values = cell // TILE[k], _at(generative, grid, x, grid.drawn)
    found = np.zeros(len(cell), bool)
    for tile in np.unique(tile_of, axis=0):
        here = np.flatnonzero(np.all(tile_of == tile, axis=1))
        flat = np.ravel_multi_index(tuple((cell[here] - tile * TILE[k]).T), (TILE[k],) * k)
        points = grid.tile_points(0, tile)
        ((_, _, could_be),) = _through(generative, grid, jnp.asarray(x), np.arange(len(x)), points, 0, tile, None)
        held = np.asarray(could_be)[: len(x), flat]
        found[here] = np.any(values[:, here] > held + _STANDS_OUT, axis=0)
    return found


def _unmet(grid: Grid, shared: np.ndarray) -> float:
    """The share of narrow features that the draws have missed, after Good and Turing: that of draws that are alone in
    their place, and, on the safe side, in pairs.

    I. J. Good, The population frequencies of species and the estimation of population parameters, Biometrika 40, 1953.
    """
    at = _in_cells(grid, grid.drawn[shared])[:1024]
    near = np.all(np.abs(at[:, None] - at) <= 1.0, axis=-1)
    return float(np.mean(near.sum(axis=1) <= 2)) if len(at) else 0.0


def _seeds(
    generative: Any, grid: Grid, x: np.ndarray, shared: np.ndarray, recognition: AbstractRecognitionModel | None
) -> _Seeds:
    """Of each row, draws of its q(z | x), and those draws of the prior that stand out, from as many cells as may be."""
    n, k = len(x), len(grid.low)
    at, value = np.zeros((n, _OWN, k)), np.full((n, _OWN), _NO_SEED)
    if recognition is not None:
        models = (generative, recognition, jnp.asarray(grid.centre, float), jnp.asarray(grid.scale, float))
        t, own = map_rows(_own_draws, models, x, jax.random.key(0), batch_size=256)
        at = _in_cells(grid, np.asarray(t, np.float64))
        value = np.asarray(own, np.float32)
    drawn = _in_cells(grid, grid.drawn[shared])
    if not len(drawn):
        return _Seeds(at, value)
    _, of_cell = np.unique(np.floor(drawn), axis=0, return_inverse=True)
    of_cell = of_cell.ravel()
    turn = np.array([np.sum(of_cell[:i] == c) for i, c in enumerate(of_cell)])
    chosen = np.resize(np.argsort(turn, kind="stable")[:_SHARED], _SHARED)  # filled up by repetition
    values = _at(generative, grid, x, grid.drawn[shared][chosen])
    at = np.concatenate([at, np.broadcast_to(drawn[chosen], (n, _SHARED, k))], axis=1)
    return _Seeds(at, np.concatenate([value, values], axis=1))


def _own_draws(
    generative: AbstractPriorLikelihood,
    recognition: AbstractRecognitionModel,
    centre: Array,
    scale: Array,
    key: Array,
    x: Array,
) -> tuple[Float[Array, "S k"], Float[Array, " S"]]:
    """t and f of draws of q(z | x), with the same noise for every row."""
    q, p = posterior_and_prior(generative, recognition, x)

    def one(key: Array) -> tuple[Array, Array]:
        t = jnp.arcsinh((unconstrained(p).inverse(q.sample(key)).ravel() - centre) / scale)
        z, log_p = place(generative, centre + scale * jnp.sinh(t), jnp.log(scale) + jnp.log(jnp.cosh(t)))
        return t, log_likelihood_of(generative, x, z) + log_p

    t, f = jax.vmap(one)(jax.random.split(jax.random.key(1), _OWN))
    known = jnp.isfinite(f) & jnp.all(jnp.isfinite(t), axis=1)
    return jnp.where(known[:, None], t, 0.0), jnp.where(known, f, -jnp.inf)


def _best_likelihood(generative: Any, grid: Grid, x: np.ndarray) -> Float[np.ndarray, " N"]:
    """The most that log p(x | z) could be, by the first grid."""
    best = np.full(len(x), -np.inf)
    for tile in _first_tiles(grid):
        points, rows = grid.tile_points(0, tile), np.arange(len(x))
        log_prior = _at(_PriorAlone(generative), grid, np.full((1, 1), 0.5, np.float32), points)
        found = _through(generative, grid, jnp.asarray(x), rows, points, 0, tile, None)
        could_be = np.concatenate([np.asarray(c) for _, _, c in found])[: len(x)]
        with np.errstate(invalid="ignore"):
            best = np.fmax(best, np.nanmax(np.where(log_prior > -np.inf, could_be - log_prior, -np.inf), axis=1))
    return best


# --- a tile: some points of the grid, and rows ------------------------------------------------------------------------


class _Points(NamedTuple):
    """The P points of a tile, as the models need them."""

    u: Float[Array, "P k"]
    log_slope: Float[Array, "P k"]  # log |du/dt|
    slip: Float[Array, "P k"]  # rounding of u, in steps


@eqx.filter_jit
def _of_tile(
    generative: AbstractPriorLikelihood,
    x: Real[Array, "N *x"],
    index: Int[Array, " R"],
    points: _Points,
    seed_at: Int[Array, "R S k"],
    seed_value: Float[Array, "R S"],
) -> tuple[Float[Array, "R parts 5"], Float[Array, "R P"], Float[Array, "R P"]]:
    """For rows x[index] and each half (quarter) of a tile: log of the sum of e^f, of what it could be, and of that over
    seeds; the means, weighted by e^f, of what rounding of z does to f and of the size of the terms of f.

    Then f itself, and what it could be, at each point.

    f = log p(x, z) |det dz/dt|. What f could be between here and the next point: f and its largest change to a
    neighbour, along each axis. For f = -r^2 / 2 s^2 that is an upper bound of its peak within 2.4 steps of it. A seed
    is a point of a cell at which f is known. If it is above what f could be there, it counts as a cell of its own.
    """
    z, log_p = jax.vmap(lambda u, slope: place(generative, u, slope))(points.u, points.log_slope)
    log_likelihood, size = _log_likelihoods(generative, x[index].astype(float), z)
    f = jnp.where(log_p == -jnp.inf, -jnp.inf, log_likelihood + log_p)
    k = points.u.shape[1]
    n = round(f.shape[1] ** (1 / k))
    f = f.reshape(-1, *(n,) * k)
    could_be, slip = f, jnp.zeros_like(f)
    for axis in range(1, k + 1):
        change = jnp.abs(jnp.diff(f, axis=axis))
        change = jnp.where(jnp.isfinite(change), change, 0.0)  # at an edge of the support
        edge = jnp.zeros_like(jnp.take(f, jnp.array([0]), axis=axis))
        here = jnp.maximum(*[jnp.concatenate(parts, axis=axis) for parts in ((change, edge), (edge, change))])
        could_be = could_be + here
        slip = slip + here * points.slip[:, axis - 1].reshape(1, *(n,) * k)

    def of_parts(f: Array) -> Float[Array, "R 2 n *"]:
        return f.reshape(-1, *(2, n // 2) * k)

    inner = tuple(range(2, 2 * k + 1, 2))
    top = jnp.max(of_parts(f), axis=inner, keepdims=True)
    weight = jnp.exp(of_parts(f) - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.sum(weight, axis=inner)

    def mean(values: Array) -> Float[Array, "R parts"]:
        return (jnp.sum(weight * of_parts(values), axis=inner) / jnp.where(total > 0, total, 1.0)).reshape(-1, 2**k)

    mass = (jnp.where(jnp.isfinite(top), top, 0.0).reshape(total.shape) + jnp.log(total)).reshape(-1, 2**k)
    most = jax.scipy.special.logsumexp(of_parts(could_be), axis=inner).reshape(-1, 2**k)
    f, could_be = f.reshape(len(index), -1), could_be.reshape(len(index), -1)
    # Seeds: in a cell of this tile or next to one, for a feature may lie on both sides of an edge.
    cell = jnp.ravel_multi_index(tuple(jnp.moveaxis(seed_at, -1, 0)), (n,) * k, mode="clip")
    stands_out = seed_value > jnp.take_along_axis(could_be, cell, axis=1) + _STANDS_OUT
    seed_value = jnp.where(stands_out, seed_value, -jnp.inf)
    low = jnp.array(np.indices((2,) * k).reshape(k, -1).T) * (n // 2)  # the first point of each part
    near = (seed_at[:, None] >= low[:, None] - 1) & (seed_at[:, None] <= low[:, None] + n // 2)
    seeds = jax.scipy.special.logsumexp(jnp.where(jnp.all(near, axis=-1), seed_value[:, None], -jnp.inf), axis=-1)
    of_size = mean(jnp.broadcast_to(size, f.shape).reshape(slip.shape))
    return jnp.stack([mass, most, seeds, mean(slip), of_size], axis=-1), f, could_be


def _log_likelihoods(
    generative: AbstractPriorLikelihood, x: Float[Array, "R *x"], z: Float[Array, "P *z"]
) -> tuple[Float[Array, "R P"], Float[Array, " P"]]:
    """log p(x | z) of every row and point: x . eta - a, a product of matrices, where the family is of this form.

    And how large the terms are that cancel in it, which may be more than what is left: sum max(eta, 0), up to a factor.
    """
    example = _innermost(likelihood_of(generative, z[0]))
    if type(example) in (Bernoulli, ContinuousBernoulli):

        def linear(z: Array) -> tuple[Array, Array]:
            d = likelihood_of(generative, z)
            eta = _innermost(d).logits
            return jnp.broadcast_to(eta, x.shape[1:]).ravel(), -log_likelihood_of(generative, jnp.zeros_like(x[0]), z)

        eta, a = jax.vmap(linear)(z)
        rows = x.reshape(len(x), -1)
        values = jnp.matmul(rows, eta.T, precision="highest") - a
        if type(example) is ContinuousBernoulli:  # a density on [0, 1] alone
            values = jnp.where(jnp.all((rows >= 0) & (rows <= 1), axis=1)[:, None], values, -jnp.inf)
        return values, jnp.sum(jnp.maximum(eta, 0.0), axis=1)

    def of_point(z: Array) -> Float[Array, " R"]:
        return jax.vmap(lambda row: log_likelihood_of(generative, row, z))(x)

    return jax.lax.map(of_point, z, batch_size=16).T, jnp.zeros(len(z))


def _innermost(d: Any) -> Distribution:
    while isinstance(d, Independent):
        d = d.base_dist
    return d


def _through(
    generative: Any,
    grid: Grid,
    x: Array,
    row: np.ndarray,
    t: np.ndarray,
    level: int,
    tile: np.ndarray,
    seeds: _Seeds | None,
) -> list[tuple[Array, Array, Array]]:
    """`_of_tile` of points t for all of these rows, in groups of a size of `_ROWS`; the last one is filled up."""
    k, parts = t.shape[1], []
    u, log_slope = grid.u(t)
    # What rounding moves u by, and by how much a step moves it.
    slip = (
        float(np.finfo(jnp.result_type(float)).eps)
        * (np.abs(u) + grid.scale)
        / np.exp(log_slope)
        * (2.0**level / grid.step)
    )
    points = _Points(*(jnp.asarray(a, float) for a in (u, log_slope, slip)))
    start = 0
    while start < len(row):
        size = next((s for s in _ROWS if s >= len(row) - start), _ROWS[-1])
        index = np.resize(row[start : start + size], size)  # filled up by repetition
        at, value = np.zeros((size, _OWN, k), np.int32), np.full((size, _OWN), _NO_SEED)
        if seeds is not None:
            at = np.clip(np.floor(seeds.place[index] * 2.0**level) - tile * TILE[k], -2, TILE[k] + 1).astype(np.int32)
            value = seeds.value[index]
        parts.append(_of_tile(generative, x, jnp.asarray(index), points, jnp.asarray(at), jnp.asarray(value, float)))
        start += size
    return parts


def _sums(
    generative: Any, grid: Grid, x: Array, level: int, row: np.ndarray, tile: np.ndarray, seeds: _Seeds
) -> Float[np.ndarray, "pairs parts 5"]:
    """What `_of_tile` gives for each pair of a row and a tile; the pairs are sorted by tile."""
    sums = []
    for start, stop in _runs(tile):
        t = grid.tile_points(level, tile[start])
        found = _through(generative, grid, x, row[start:stop], t, level, tile[start], seeds)
        sums.append(np.concatenate([np.asarray(part, np.float64) for part, _, _ in found])[: stop - start])
    return np.concatenate(sums)


def _runs(tile: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and last + 1 of each run of equal tiles."""
    ends = np.flatnonzero(np.any(tile[1:] != tile[:-1], axis=1)) + 1
    yield from zip([0, *ends.tolist()], [*ends.tolist(), len(tile)], strict=True)


def _first_tiles(grid: Grid) -> Int[np.ndarray, "tiles k"]:
    k = len(grid.low)
    return np.stack(np.meshgrid(*[np.arange(grid.size // TILE[k])] * k, indexing="ij"), axis=-1).reshape(-1, k)


# --- the integral -----------------------------------------------------------------------------------------------------


def _integrate(
    generative: Any, grid: Grid, rows: np.ndarray, seeds: _Seeds, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log p(x) of each row, its error, and what part of that is rounding."""
    n, k, x = len(rows), len(grid.low), jnp.asarray(rows)
    eps = float(np.finfo(jnp.result_type(float)).eps)
    children = np.stack(np.meshgrid(*[[0, 1]] * k, indexing="ij"), axis=-1).reshape(-1, k)
    side, first = grid.size // TILE[k], _first_tiles(grid)
    row, tile = np.tile(np.arange(n, dtype=np.int32), len(first)), np.repeat(first, n, axis=0)
    result, error, of_rounding = np.full((3, n), np.nan)
    # Logs: of the sum over tiles that are done with, and of what it could be; of p(x) by the last level's points.
    settled, doubtful, previous = np.full(n, -np.inf), np.full(n, -np.inf), np.full(n, np.inf)
    for level in range(_MOST_LEVELS):
        mass, could_be, seed, slip, size = np.moveaxis(_sums(generative, grid, x, level, row, tile, seeds), -1, 0)
        cell = float(np.sum(np.log(grid.step))) - k * level * math.log(2.0)
        mass, most = mass + cell, could_be + cell
        could_be = np.logaddexp(most, seed + cell)
        here = _by_row(mass, row, n)
        total = np.logaddexp(settled, here)
        seen = np.bincount(row, minlength=n) > 0
        with np.errstate(invalid="ignore", divide="ignore"):  # rows that are done with, and those of p(x) = 0
            change, excess = np.abs(total - previous), _by_row(could_be, row, n) - here
            agree = (change <= tolerance) & (_by_row(most, row, n) - here <= k * math.log(4.0))
            # Rounding of z, of the logarithm, and of what cancels in it.
            share = np.where(mass > -np.inf, np.exp(mass - total[row][:, None]), 0.0)
            slip, size = (np.bincount(row, np.sum(share * a, axis=1), minlength=n) for a in (slip, size))
            rounding = _ROUNDING * eps * np.maximum(np.abs(total), size) + slip
            fine = excess <= k * math.log(4.0)
            at_edge = np.any((16 * tile < side) | (16 * (tile + 1) > 15 * side), axis=1)
            beyond = _by_row(np.where(at_edge[:, None], could_be, -np.inf), row, n)
            # Of what lies in the outermost parts of the grid nobody knows how it goes on.
            lost = -np.log1p(-np.exp(np.minimum(np.logaddexp(doubtful, beyond) - total, 0.0)))
            # Where a peak is no wider than a step, two levels can agree by chance, and what it could hold is the error.
            # e^excess is 4.6^k for a Gaussian of one step's width.
            remaining = change + np.where(fine, 0.0, excess)
            result[seen] = total[seen]
            error[seen] = (remaining + lost + rounding)[seen]
            of_rounding[seen] = rounding[seen]
            done = (remaining <= np.maximum(tolerance, rounding)) | ~np.isfinite(total)
        previous = total
        keep = ~done[row][:, None] & (could_be > total[row][:, None] + math.log(_NEGLIGIBLE))
        # Where only seeds are left, the rest stays as it is. Where steps of two sizes meet the sum is not that of the
        # trapezoidal rule, which may cost what these parts hold by now.
        agree &= ~done
        keep &= ~agree[row][:, None] | (seed > -np.inf)
        between = np.where(keep & agree[row][:, None], mass, -np.inf)
        doubtful = np.logaddexp(doubtful, _by_row(between, row, n))
        done |= np.bincount(row, keep.sum(axis=1), minlength=n) > _MOST_TILES
        dropped = ~keep & ~done[row][:, None]
        settled = np.logaddexp(settled, _by_row(np.where(dropped, mass, -np.inf), row, n))
        negligible = dropped & ~agree[row][:, None]
        doubtful = np.logaddexp(doubtful, _by_row(np.where(negligible, could_be, -np.inf), row, n))
        pair, child = np.nonzero(keep & ~done[row][:, None])
        if not len(pair):
            break
        row, tile, side = row[pair], 2 * tile[pair] + children[child], 2 * side
        order = np.lexsort(tile.T)
        row, tile = row[order], tile[order]
    return result, error, of_rounding


def _by_row(values: Float[np.ndarray, "pairs parts"], row: np.ndarray, n: int) -> Float[np.ndarray, " n"]:
    """log sum e^values of each row."""
    largest = np.full(n, -np.inf)
    np.maximum.at(largest, row, values.max(axis=1))
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.bincount(row, np.exp(values - shift[row][:, None]).sum(axis=1), minlength=n))
