"""The grid over which log p(x) is integrated: where the prior is, and what z and its density are at a point."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# From its own module: this is no part of the public face of `aevb.distributions`.
from aevb.distributions._unconstrained import unconstrained
from aevb.errors import UnavailableError
from aevb.models import AbstractGenerativeModel, AbstractPriorLikelihood, prior_of

# Points of a tile along each axis, and of the first grid: at least so many, and at most, by the number of axes.
TILE = {1: 32, 2: 16}
_FIRST, _FINEST = {1: 256, 2: 64}, {1: 65_536, 2: 512}
# The grid reaches to where the prior is so many nats below its largest density, or to |t| = _FAR if it never is.
_DEPTH, _FAR = 200.0, 16.0
_DRAWS = 4096


class Grid(NamedTuple):
    """t = low + step * i, i = 0 .. size - 1 on each of k axes; half of `step` at the next level, and so on."""

    centre: Float[np.ndarray, " k"]
    scale: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    step: Float[np.ndarray, " k"]
    size: int
    drawn: Float[np.ndarray, "M k"]  # t of draws of the prior

    def u(self, t: Float[np.ndarray, "P k"]) -> tuple[Float[np.ndarray, "P k"], Float[np.ndarray, "P k"]]:
        """u of points, and log |du/dt| of each coordinate."""
        return self.centre + self.scale * np.sinh(t), np.log(self.scale) + np.log(np.cosh(t))

    def tile_points(self, level: int, tile: np.ndarray) -> Float[np.ndarray, "P k"]:
        """t of a tile's points."""
        k = len(self.low)
        step = self.step / 2.0**level
        axes = [self.low[i] + step[i] * (tile[i] * TILE[k] + np.arange(TILE[k])) for i in range(k)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)


def axes_of(generative: AbstractGenerativeModel) -> int:
    """k, the number of real numbers that z is a function of."""
    if not isinstance(generative, AbstractPriorLikelihood):
        raise UnavailableError(
            f"quadrature needs a model with a prior() and a likelihood(), but {type(generative).__name__} has "
            "log_joint() alone; use importance sampling"
        )

    def draw(model: AbstractPriorLikelihood) -> Array:
        p = prior_of(model)
        return unconstrained(p).inverse(p.sample(jax.random.key(0)))

    k = int(eqx.filter_eval_shape(draw, generative).size)
    if k not in TILE:
        raise UnavailableError(
            f"quadrature is for one or two latent dimensions and this model has {k}: a grid over more has too many "
            "points; use importance sampling or annealed importance sampling"
        )
    return k


@eqx.filter_jit
def _draws(generative: AbstractPriorLikelihood, keys: Array) -> Float[Array, "n k"]:
    def draw(key: Array) -> Array:
        p = prior_of(generative)
        return unconstrained(p).inverse(p.sample(key)).ravel()

    return jax.vmap(draw)(keys)


def place(
    generative: AbstractPriorLikelihood, u: Float[Array, " k"], log_slope: Float[Array, " k"]
) -> tuple[Array, Float[Array, ""]]:
    """z of a point, and log p(z) + log |det dz/dt|; log_slope is log |du/dt|."""
    p = prior_of(generative)
    to = unconstrained(p)
    shape = jax.eval_shape(lambda key: to.inverse(p.sample(key)), jax.random.key(0)).shape
    u = u.reshape(shape)
    z = to.forward(u)
    log_p = p.log_prob(z) + to.log_det(u) + jnp.sum(log_slope)
    # Where floating point has no density it is that of no point; whether any was lost, the sum over the grid tells.
    return z, jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)


@eqx.filter_jit
def _log_prior(generative: AbstractPriorLikelihood, u: Array, log_slope: Array) -> Float[Array, " n"]:
    return jax.lax.map(lambda point: place(generative, *point)[1], (u, log_slope), batch_size=4096)


def make_grid(generative: AbstractGenerativeModel) -> Grid:
    k = axes_of(generative)
    assert isinstance(generative, AbstractPriorLikelihood)
    u = np.asarray(_draws(generative, jax.random.split(jax.random.key(0), _DRAWS)), np.float64)
    below, centre, above = np.quantile(u, (0.16, 0.5, 0.84), axis=0)
    scale = np.maximum(0.5 * (above - below), np.finfo(np.float32).tiny)

    def log_prior(low: np.ndarray, step: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        axes = [low[i] + step[i] * np.arange(size) for i in range(k)]
        t = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, k)
        u, log_slope = Grid(centre, scale, low, step, size, t).u(t)
        values = _log_prior(generative, jnp.asarray(u, float), jnp.asarray(log_slope, float))
        return t, np.asarray(values, np.float64)

    # From end to end of where the prior's density or its draws are.
    wide = np.full(k, 2 * _FAR / 256)
    t, values = log_prior(np.full(k, -_FAR), wide, 257)
    inside = t[values > values.max() - _DEPTH]
    drawn = np.clip(np.arcsinh((u - centre) / scale), -_FAR, _FAR)
    low = np.minimum(inside.min(axis=0), drawn.min(axis=0)) - wide
    high = np.maximum(inside.max(axis=0), drawn.max(axis=0)) + wide
    size, before = _FIRST[k], np.inf
    while True:
        step = (high - low) / size
        _, values = log_prior(low, step, size)
        total = float(_log_sum_exp(values) + np.sum(np.log(step)))
        # What is missing and does not come with half of the step is too narrow for any first grid.
        if abs(total) < 1e-4 or abs(total - before) < 0.01 * abs(total) or size >= _FINEST[k]:
            return Grid(centre, scale, low, step, size, drawn)
        size, before = 2 * size, total


def _log_sum_exp(values: np.ndarray) -> float:
    largest = float(values.max())
    return largest + math.log(float(np.exp(values - largest).sum()))
