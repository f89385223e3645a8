"""Samples of one fixed density by Hamiltonian Monte Carlo that tunes itself."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._hmc import Position, transition

# The share of the adapted step size within which each transition has its own (see `transition`). Measured, 400 samples
# of a Gaussian in 1 to 4 dimensions, 4 leapfrog steps: rms error of the harmonic log p(x) 0.006 to 0.020 nats, without
# it 0.055 to 0.063.
_JITTER = 0.6

# Dual averaging of log eps: shrinkage, early steps damped, forgetting. Hoffman & Gelman (2014), section 3.2.1.
_GAMMA, _T0, _KAPPA = 0.05, 10.0, 0.75
_FIRST = 0.5  # eps to begin with, over k^(1/4)


class Chain(NamedTuple):
    """Samples of one chain."""

    draws: Float[Array, "S k"]
    log_density: Float[Array, " S"]  # of each, up to the same constant as the function that was sampled
    acceptance: Float[Array, ""]  # mean probability of acceptance


class _StepSize(NamedTuple):
    """Dual averaging: log eps is where it is tried next, and `averaged` where it settles."""

    log_eps: Float[Array, ""]
    averaged: Float[Array, ""]
    excess: Float[Array, ""]  # sum of (target - acceptance)
    centre: Float[Array, ""]  # to which log eps is drawn
    tries: Float[Array, ""]


class _Spread(NamedTuple):
    """Welford's running mean and sum of squares of what was visited since the last window began."""

    mean: Float[Array, " k"]
    squares: Float[Array, " k"]
    visits: Float[Array, ""]


_WarmUp = tuple[Position, _StepSize, _Spread, Array]


def sample_by_hmc(
    log_density: Callable[[Float[Array, " k"]], Float[Array, ""]],
    start: Float[Array, " k"],
    key: PRNGKeyArray,
    *,
    num_warmup: int,
    num_samples: int,
    num_leapfrog: int,
    target_acceptance: float,
) -> Chain:
    """A chain of samples of a density on R^k.

    In the warm-up, of which no sample is kept, the step size is adapted by dual averaging (Hoffman & Gelman 2014), and
    a scale for each coordinate to the spread of what was visited in windows that double, as Stan has them; both are
    held then. One chain; `jax.vmap` makes it many, each adapted for itself.

    Args:
        log_density: up to a constant. Where it is not a finite number the chain does not go.
        start: where it is finite.
        key: of momenta and acceptances.
        num_warmup: transitions before the first sample.
        num_samples: S, transitions after.
        num_leapfrog: leapfrog steps of a transition.
        target_acceptance: what the step size is adapted to.

    Example:
        >>> options = {"num_warmup": 300, "num_samples": 500, "num_leapfrog": 4, "target_acceptance": 0.9}
        >>> chain = sample_by_hmc(lambda u: -0.5 * u @ u, jnp.zeros(2), jax.random.key(0), **options)
        >>> chain.draws.shape, bool(abs(chain.draws.std() - 1.0) < 0.2), bool(chain.acceptance > 0.6)
        ((500, 2), True, True)
    """
    dtype, zero = start.dtype, jnp.zeros((), start.dtype)

    def evaluate(u: Array) -> Position:  # one density: f_b is the same for every b
        value, gradient = jax.value_and_grad(log_density)(u)
        return Position(u, value, zero, gradient, jnp.zeros_like(u))

    def move(position: Position, step_size: Array, i: Int[Array, ""]) -> tuple[Position, Array]:
        at = jax.random.fold_in(key, i)
        return transition(evaluate, position, zero, step_size, at, num_leapfrog=num_leapfrog, jitter=_JITTER)

    first = jnp.asarray(math.log(_FIRST) - 0.25 * math.log(start.size), dtype)
    slow, ends = _windows(num_warmup)

    def adapt(state: _WarmUp, step: tuple[Any, Any, Any]) -> tuple[_WarmUp, None]:
        position, steps, spread, scale = state
        i, is_slow, is_end = step
        position, probability = move(position, jnp.exp(steps.log_eps) * scale, i)
        steps = _tried(steps, target_acceptance - probability)
        spread = jax.tree.map(lambda new, old: jnp.where(is_slow, new, old), _visited(spread, position.u), spread)
        # At the end of a window: the scale that was seen, and a step size to be found anew for it.
        scale = jnp.where(is_end, _scale(spread), scale)
        steps = jax.tree.map(lambda new, old: jnp.where(is_end, new, old), _begun(first), steps)
        spread = jax.tree.map(lambda old: jnp.where(is_end, 0.0, old), spread)
        return (position, steps, spread, scale), None

    nothing = _Spread(jnp.zeros_like(start), jnp.zeros_like(start), zero)
    begin = (evaluate(start), _begun(first), nothing, jnp.ones_like(start))
    (position, steps, _, scale), _ = jax.lax.scan(adapt, begin, (jnp.arange(num_warmup), slow, ends))
    step_size = jnp.exp(steps.averaged) * scale

    def draw(position: Position, i: Int[Array, ""]) -> tuple[Position, tuple[Array, Array, Array]]:
        position, probability = move(position, step_size, i)
        return position, (position.u, position.base, probability)

    _, (draws, values, probability) = jax.lax.scan(draw, position, num_warmup + jnp.arange(num_samples))
    return Chain(draws, values, jnp.mean(probability))


def _windows(num_warmup: int) -> tuple[np.ndarray, np.ndarray]:
    """Which transitions of the warm-up are looked at for the scales, and which end a window of them.

    Not the first 15 % (at most 75), on the way to where the density is, nor the last 10 % (at most 50), in which the
    step size settles. Between them each window is twice as long as the one before, and at least 25 long.
    """
    begin, stop = min(75, round(0.15 * num_warmup)), num_warmup - min(50, round(0.1 * num_warmup))
    slow, ends = np.zeros(num_warmup, bool), np.zeros(num_warmup, bool)
    slow[begin:stop] = True
    length = 25
    while begin < stop:
        end = begin + length if begin + 3 * length <= stop else stop  # no room for the next one: to the end
        ends[end - 1] = True
        begin, length = end, 2 * length
    return slow, ends


def _begun(log_eps: Float[Array, ""]) -> _StepSize:
    zero = jnp.zeros_like(log_eps)
    return _StepSize(log_eps, zero, zero, log_eps + math.log(10.0), zero)


def _tried(steps: _StepSize, excess: Float[Array, ""]) -> _StepSize:
    """log eps after one more transition, whose probability of acceptance was so far below the target."""
    count = steps.tries + 1.0
    total = steps.excess + excess
    log_eps = steps.centre - jnp.sqrt(count) / (_GAMMA * (count + _T0)) * total
    weight = count**-_KAPPA
    return _StepSize(log_eps, weight * log_eps + (1.0 - weight) * steps.averaged, total, steps.centre, count)


def _visited(spread: _Spread, u: Float[Array, " k"]) -> _Spread:
    count = spread.visits + 1.0
    mean = spread.mean + (u - spread.mean) / count
    return _Spread(mean, spread.squares + (u - spread.mean) * (u - mean), count)


def _scale(spread: _Spread) -> Float[Array, " k"]:
    """Standard deviations, drawn a little to what few visits cannot rule out, as Stan does."""
    n = spread.visits
    variance = spread.squares / jnp.maximum(n - 1.0, 1.0)
    return jnp.sqrt((n * variance + 5.0 * 1e-3) / (n + 5.0))
