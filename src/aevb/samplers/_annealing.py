"""Chains that are led from one density to another in small steps, and their weights.

log f_b = (1 - b) log f_0 + b log f_1, with 0 = b_0 < ... < b_T = 1. In `aevb.evaluate` f_0 is a prior or an encoder's
q(z | x), f_1 is p(x, z) as a function of z, and the mean weight is an unbiased estimate of p(x).
"""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ._hmc import Position, transition

Schedule = Literal["linear", "sigmoid"]
Start = Literal["prior", "encoder"]

_STEEPNESS = 4.0  # of the sigmoid schedule: Grosse, Ancha & Roy (2016), section 6
# The pilot run: transitions at the first distribution, least number of distributions, where log eps begins and within
# which limits it stays, and how many values of it are kept.
_SETTLING, _LEAST, _FIRST, _LIMITS, _KNOTS = 25, 60, -2.3, (-12.0, 2.0), 20
# How far log eps moves in the pilot run for a whole unit of acceptance (with 1 the run is chaotic: it made 0.1 nats of
# float32's rounding), and how far it ought to have moved, about one over the slope of acceptance against log eps.
_GAIN, _PER_ACCEPTANCE = 0.25, 0.7


@dataclasses.dataclass(frozen=True)
class Annealing:
    """How chains are led from a start to the posterior; what `annealed_importance_sampling` is compiled for.

    Args:
        num_chains: K, for each row.
        num_distributions: T.
        num_leapfrog: leapfrog steps of a transition.
        target_acceptance: what the step sizes are tuned to.
        schedule: of b_t: "sigmoid" has most of its steps near both ends (Grosse, Ancha & Roy 2016).
        start: q0. "prior": p(z), and f_b = p(z) p(x | z)^b; the result does not depend on the encoder. "encoder": the
            mixture that `importance_sampling` draws from, of q(z | x), wider ones and p(z), from where the way is
            shorter. Few chains begin in a region that q leaves out, and it weighs little until one of many does.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> Annealing(num_distributions=50).schedule
        'sigmoid'
    """

    num_chains: int = 16
    num_distributions: int = 1000
    num_leapfrog: int = 10
    target_acceptance: float = 0.65
    schedule: Schedule = "sigmoid"
    start: Start = "prior"

    def __post_init__(self) -> None:
        for name in ("num_chains", "num_distributions", "num_leapfrog"):
            count = operator.index(getattr(self, name))
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
            object.__setattr__(self, name, count)
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(f"target_acceptance must be a probability between 0 and 1, got {self.target_acceptance}")
        for name, possible in (("schedule", Schedule), ("start", Start)):
            choice = getattr(self, name)
            if choice not in get_args(possible):
                raise ValueError(f"{name} must be one of {', '.join(get_args(possible))}, got {choice!r}")


class Bridge(NamedTuple):
    """From f_0 to f_1, as functions of one chain. Each makes the distributions that it needs anew."""

    draw: Callable[[PRNGKeyArray, Int[Array, ""]], Position]  # the i-th u ~ f_0
    evaluate: Callable[[Array], Position]
    inverse: Callable[[Array], Array]  # z -> u


class Chains(NamedTuple):
    """K chains of one row."""

    positions: Position  # each leaf with a leading axis of length K
    keys: Key[Array, " K"]  # the noise of transition i is fold_in(key, i), i >= 1; that of the beginning has i = 0


def begin(bridge: Bridge, key: PRNGKeyArray, s: Annealing) -> tuple[Chains, Chains]:
    """K chains, and K others for the pilot run, where they begin."""
    keys = jax.random.split(key, 2 * s.num_chains)
    positions = jax.vmap(lambda key, i: bridge.draw(jax.random.fold_in(key, 0), i))(keys, jnp.arange(len(keys)))
    both = Chains(positions, keys)
    return jax.tree.map(lambda a: a[: s.num_chains], both), jax.tree.map(lambda a: a[s.num_chains :], both)


def run(
    bridge: Bridge,
    chains: Chains,
    log_steps: Float[Array, " knots"],
    s: Annealing,
    *,
    backward: bool,
) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """log w of each chain, b running from 0 to 1 or back again; and the mean probability of acceptance.

    Backward the transitions come in reverse order, and each is its own reversal.
    """
    dtype = log_steps.dtype
    last = s.num_distributions  # T

    def fraction(i: Int[Array, ""]) -> Float[Array, ""]:
        return ((last - i) if backward else i).astype(dtype) / last

    def weigh(total: tuple[Array, Array], i: Int[Array, ""], positions: Position) -> tuple[Array, Array]:
        step = _level(fraction(i), s.schedule) - _level(fraction(i - 1), s.schedule)
        return _add(total, jnp.abs(step) * positions.slope)  # log w += (b_t - b_{t-1}) d/db log f_b

    def one(state: tuple[Position, tuple[Array, Array], Array], i: Int[Array, ""]) -> tuple[Any, None]:
        positions, total, accepted = state
        total = weigh(total, i, positions)
        b, step_size = _level(fraction(i), s.schedule), jnp.exp(_interpolate(log_steps, fraction(i)))
        positions, probability = _move(bridge, positions, b, step_size, chains.keys, i, s)
        return (positions, total, accepted + jnp.mean(probability)), None

    zeros = jnp.zeros(s.num_chains, dtype)
    start = (chains.positions, (zeros, zeros), jnp.zeros((), dtype))
    (positions, total, accepted), _ = jax.lax.scan(one, start, jnp.arange(1, last))
    log_w, _ = weigh(total, jnp.asarray(last), positions)
    return log_w, accepted / (last - 1)


def pilot_run(bridge: Bridge, chains: Chains, s: Annealing) -> Float[Array, " knots"]:
    """log eps at `_KNOTS` places between b = 0 and 1: followed through a short run to where chains are accepted.

    To an eighth: what rounding made of the run on the way is rounded off again, in most cases.
    """
    length = max(_LEAST, s.num_distributions // 10)
    dtype = chains.positions.base.dtype

    def one(state: tuple[Position, Array, Array], i: Int[Array, ""]) -> tuple[Any, None]:
        positions, log_step, sums = state
        f = (jnp.maximum(i - 1 - _SETTLING, 0).astype(dtype) + 0.5) / length
        positions, probability = _move(bridge, positions, _level(f, s.schedule), jnp.exp(log_step), chains.keys, i, s)
        excess = jnp.mean(probability) - s.target_acceptance
        right = jnp.clip(log_step + _PER_ACCEPTANCE * excess, *_LIMITS)  # without the lag of log_step itself
        log_step = jnp.clip(log_step + _GAIN * excess, *_LIMITS)
        counted = jnp.where(i <= _SETTLING, 0.0, jnp.stack([right, jnp.ones((), dtype)]))
        return (positions, log_step, sums.at[:, (f * _KNOTS).astype(int)].add(counted)), None

    start = (chains.positions, jnp.asarray(_FIRST, dtype), jnp.zeros((2, _KNOTS), dtype))
    (_, _, (total, count)), _ = jax.lax.scan(one, start, jnp.arange(1, 1 + _SETTLING + length))
    return jnp.round(8.0 * total / count) / 8.0


def _move(
    bridge: Bridge, positions: Position, b: Array, step_size: Array, keys: Key[Array, " K"], i: Array, s: Annealing
) -> tuple[Position, Float[Array, " K"]]:
    """Transition i of every chain."""

    def one(position: Position, key: PRNGKeyArray) -> tuple[Position, Array]:
        key = jax.random.fold_in(key, i)
        return transition(bridge.evaluate, position, b, step_size, key, num_leapfrog=s.num_leapfrog)

    return jax.vmap(one)(positions, keys)


def _level(fraction: Float[Array, ""], schedule: str) -> Float[Array, ""]:
    """b, from the fraction t / T of the way."""
    if schedule == "linear":
        return fraction
    low, here, high = (
        jax.nn.sigmoid(_STEEPNESS * (2.0 * f - 1.0)) for f in (0.0 * fraction, fraction, 0.0 * fraction + 1.0)
    )
    return jnp.where(fraction < 1.0, (here - low) / (high - low), 1.0)


def _interpolate(log_steps: Float[Array, " knots"], fraction: Float[Array, ""]) -> Float[Array, ""]:
    middles = (jnp.arange(_KNOTS, dtype=log_steps.dtype) + 0.5) / _KNOTS
    return jnp.interp(fraction, middles, log_steps)


def _add(total: tuple[Array, Array], term: Array) -> tuple[Array, Array]:
    """Kahan's sum: ten thousand terms in float32 would lose a thousandth of a nat. Carries what was lost so far."""
    value, lost = total
    term = term - lost
    new = value + term
    return new, jnp.where(jnp.isfinite(new), (new - value) - term, 0.0)


def relative_weights(log_w: Float[Array, " K"]) -> Float[Array, " K"]:
    """w_k as multiples of the largest."""
    largest = jnp.max(log_w)
    return jnp.exp(log_w - jnp.where(jnp.isfinite(largest), largest, 0.0))  # all weights zero: avoid inf - inf
