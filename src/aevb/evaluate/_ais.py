"""log p(x) by annealed importance sampling, and both sides of it on simulated data."""

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, Real

# From their own modules: they are no part of the public face of `aevb.distributions`.
from aevb.distributions import Distribution
from aevb.distributions._unconstrained import support_within, unconstrained
from aevb.models import AbstractGenerativeModel, AbstractPriorLikelihood, AbstractRecognitionModel

from ._hmc import Position, transition
from ._rows import map_rows
from ._summary import Mean, mean

Schedule = Literal["linear", "sigmoid"]
Start = Literal["prior", "encoder"]

_STEEPNESS = 4.0  # of the sigmoid schedule: Grosse, Ancha & Roy (2016), section 6
# The pilot run: transitions at the first distribution, least number of distributions, where log eps begins and within
# which limits it stays, and how many values of it are kept.
_SETTLING, _LEAST, _FIRST, _LIMITS, _KNOTS = 25, 60, -2.3, (-12.0, 2.0), 20
# How far log eps moves in the pilot run for a whole unit of acceptance (with 1 the run is chaotic: it made 0.1 nats of
# float32's rounding), and how far it ought to have moved, about one over the slope of acceptance against log eps.
_GAIN, _PER_ACCEPTANCE = 0.25, 0.7


class AnnealedImportance(NamedTuple):
    """Annealed importance sampling of N rows, by K chains for each; every field of shape (N,).

    The standard error is the delta method's from the spread of the K weights, and NaN for one chain. Where
    `effective_sample_size` is near 1 a single chain carries the estimate, and its standard error cannot be trusted.
    """

    log_likelihood: Float[np.ndarray, " N"]  # log 1/K sum_k w_k, in nats; w_k is unbiased for p(x)
    standard_error: Float[np.ndarray, " N"]  # of log_likelihood, in nats
    effective_sample_size: Float[np.ndarray, " N"]  # (sum_k w_k)^2 / sum_k w_k^2, 1 to K
    acceptance: Float[np.ndarray, " N"]  # mean probability of acceptance of a transition; NaN if there were none


class BidirectionalGap(NamedTuple):
    """Annealing in both directions on N simulated pairs (x, z); every field of shape (N,).

    E[lower] <= E[log p(x)] <= E[upper], so that the mean gap bounds the bias of either.
    """

    lower: Float[np.ndarray, " N"]  # by chains from the start, in nats: a stochastic lower bound of log p(x)
    upper: Float[np.ndarray, " N"]  # by chains from z, a draw from p(z | x): a stochastic upper bound
    forward_acceptance: Float[np.ndarray, " N"]
    backward_acceptance: Float[np.ndarray, " N"]

    @property
    def gap(self) -> Mean:
        """Mean of upper - lower over the rows, in nats per example."""
        return mean(np.asarray(self.upper, np.float64) - self.lower)


def annealed_importance_sampling(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
    key: PRNGKeyArray,
    *,
    num_chains: int = 16,
    num_distributions: int = 1000,
    num_leapfrog: int = 10,
    target_acceptance: float = 0.65,
    schedule: Schedule = "sigmoid",
    start: Start = "prior",
    batch_size: int = 50,
    first_row: int = 0,
) -> AnnealedImportance:
    r"""log p(x) of each row by chains that are led from q0(z) to p(z | x) in small steps.

    With log f_b(z) = (1 - b) log q0(z) + b log p(x, z) and 0 = b_0 < ... < b_T = 1, z_0 ~ q0, and z_t from z_{t-1} by
    a Hamiltonian Monte Carlo transition that leaves f_{b_t} invariant, log w = sum_t (b_t - b_{t-1}) d/db log f_b at
    z_{t-1}, and E[w] = p(x) (Neal 2001; Wu, Burda, Salakhutdinov & Grosse 2017, who take T = 10,000). One distribution,
    T = 1, is plain importance sampling from q0.

    The step size, a function of b for each row, is tuned to the acceptance in a pilot run of T / 10 distributions with
    noise of its own, and then held: the transitions of the main run leave their targets invariant, and the mean weight
    is exactly unbiased for p(x), whatever the pilot found. (The paper's code adapts the step size within the run, to
    the very chains that are weighed, and its weights are not exactly unbiased.) Latents of constrained support move
    in R^k, by `unconstrained`.

    Time is that of (1.1 T + 25) * num_chains * num_leapfrog passes forward and back to z through the decoder, for each
    row; memory does not grow with T.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x); looked at only with start="encoder".
        rows: x as the models see it, (N, D).
        key: row i uses fold_in(key, first_row + i).
        num_chains: K, for each row.
        num_distributions: T.
        num_leapfrog: leapfrog steps of a transition.
        target_acceptance: what the step sizes are tuned to.
        schedule: of b_t: "sigmoid" has most of its steps near both ends (Grosse, Ancha & Roy 2016).
        start: q0. "prior": p(z), and f_b = p(z) p(x | z)^b; the result does not depend on the encoder. "encoder":
            q(z | x), from where the way is shorter.
        batch_size: rows at once. num_chains * batch_size examples go through the decoder at a time.
        first_row: where `rows` begins in the data set that it is a part of.

    Returns:
        An `AnnealedImportance` of arrays of shape (N,). The result of a row does not depend on the rows beside it,
        beyond rounding (which a chain can amplify).

    Raises:
        TypeError: start="prior" of a model that does not say what its prior is; a latent variable without a path
            through R^k; start="encoder" with a posterior that does not have the prior's support.
        ValueError: an argument out of range.

    Example:
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> rows = np.zeros((2, 4), np.float32)
        >>> found = annealed_importance_sampling(g, q, rows, jax.random.key(2), num_distributions=50)
        >>> found.log_likelihood.shape, bool((found.effective_sample_size > 12).all())
        ((2,), True)
    """
    settings = _checked(num_chains, num_distributions, num_leapfrog, target_acceptance, schedule, start, batch_size)
    if len(rows):
        _check_latents(generative, recognition, [jnp.asarray(rows[i]).astype(float) for i in (0, -1)], start)
    found = map_rows(
        _row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row
    )
    return AnnealedImportance(*found)


def bidirectional_gap(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    num_rows: int,
    key: PRNGKeyArray,
    *,
    num_chains: int = 16,
    num_distributions: int = 1000,
    num_leapfrog: int = 10,
    target_acceptance: float = 0.65,
    schedule: Schedule = "sigmoid",
    start: Start = "prior",
    batch_size: int = 50,
    first_row: int = 0,
) -> BidirectionalGap:
    r"""Bidirectional Monte Carlo: log p(x) of data simulated from the model, from below and from above.

    (z, x) ~ p is simulated, so z is an exact draw from p(z | x). `annealed_importance_sampling` of x gives `lower`.
    Chains that begin at z and are led the other way, from b = 1 to 0, have E[1 / w] = 1 / p(x), and
    -log 1/K sum_k 1 / w_k is `upper` (Grosse, Ghahramani & Adams 2015; Wu et al. 2017, section 4). What the gap says of
    simulated data it says of real data as far as the model is right.

    Args:
        generative, recognition: as there.
        num_rows: N, how many pairs to simulate.
        key: pair i uses fold_in(key, first_row + i).
        num_chains, num_distributions, num_leapfrog, target_acceptance, schedule, start, batch_size: as there.
        first_row: number of the first pair.

    Returns:
        A `BidirectionalGap` of arrays of shape (N,).

    Example:
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> found = bidirectional_gap(g, q, 10, jax.random.key(2), num_distributions=50)
        >>> found.lower.shape, bool(abs(found.gap.value) < 0.1)
        ((10,), True)
    """
    settings = _checked(num_chains, num_distributions, num_leapfrog, target_acceptance, schedule, start, batch_size)
    num_rows = operator.index(num_rows)
    if num_rows < 1:
        raise ValueError(f"num_rows must be at least 1, got {num_rows}")
    x, _ = generative.sample(key)
    _check_latents(generative, recognition, [x.astype(float)], start)
    nothing = np.zeros(num_rows, np.uint8)  # each pair is simulated where it is used
    found = map_rows(
        _gap_function(settings), (generative, recognition), nothing, key, batch_size=batch_size, first_row=first_row
    )
    return BidirectionalGap(*found)


class _Settings(NamedTuple):
    num_chains: int
    num_distributions: int
    num_leapfrog: int
    target_acceptance: float
    schedule: str
    start: str


def _checked(
    num_chains: int,
    num_distributions: int,
    num_leapfrog: int,
    target_acceptance: float,
    schedule: str,
    start: str,
    batch_size: int,
) -> _Settings:
    counts = {
        "num_chains": operator.index(num_chains),
        "num_distributions": operator.index(num_distributions),
        "num_leapfrog": operator.index(num_leapfrog),
        "batch_size": operator.index(batch_size),
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not 0.0 < target_acceptance < 1.0:
        raise ValueError(f"target_acceptance must be a probability between 0 and 1, got {target_acceptance}")
    for name, choice, possible in (("schedule", schedule, Schedule), ("start", start, Start)):
        if choice not in get_args(possible):
            raise ValueError(f"{name} must be one of {', '.join(get_args(possible))}, got {choice!r}")
    del counts["batch_size"]
    return _Settings(**counts, target_acceptance=float(target_acceptance), schedule=schedule, start=start)


def _check_latents(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, some: list[Array], start: str
) -> None:
    """Raise if chains cannot move where the latents are. An encoder whose support moves is seen between two rows."""
    if start == "prior":
        if not isinstance(generative, AbstractPriorLikelihood):
            raise TypeError(
                f'start="prior" needs a model with a prior() and a likelihood(), but {type(generative).__name__} has '
                'log_joint() alone; use start="encoder"'
            )
        unconstrained(generative.prior())
        return
    for x in some:
        q = recognition.posterior(x)
        unconstrained(q)
        if isinstance(generative, AbstractPriorLikelihood):
            p = generative.prior()
            if not (support_within(q, p) and support_within(p, q)):
                raise TypeError(
                    'start="encoder" needs a posterior with the support of the prior, but the posterior is '
                    f'{_described(q)} and the prior {_described(p)}; use start="prior"'
                )


def _described(q: Distribution) -> str:
    return f"{type(getattr(q, 'base_dist', q)).__name__} on {q.support}"


# --- one row ----------------------------------------------------------------------------------------------------------


class _Path(NamedTuple):
    """From q0 to p(z, x) of one row, as functions of one chain. Each makes the distributions that it needs anew."""

    draw: Callable[[PRNGKeyArray], Position]  # u ~ q0
    evaluate: Callable[[Array], Position]
    inverse: Callable[[Array], Array]  # z -> u


def _path(generative: Any, recognition: AbstractRecognitionModel, x: Float[Array, "*x"], start: str) -> _Path:
    def q0() -> Distribution:
        return generative.prior() if start == "prior" else recognition.posterior(x)

    def log_q0(u: Array) -> Float[Array, ""]:
        q = q0()
        to = unconstrained(q)
        return q.log_prob(to.forward(u)) + to.log_det(u)

    def log_end(u: Array) -> Float[Array, ""]:
        """log p(x | z), which is log f_1 - log f_0; or log f_1 = log p(x, z)."""
        to = unconstrained(q0())
        z = to.forward(u)
        if start == "prior":
            return generative.likelihood(z).log_prob(x)
        return generative.log_joint(x, z) + to.log_det(u)

    def evaluate(u: Array) -> Position:
        base, base_gradient = jax.value_and_grad(log_q0)(u)
        end, end_gradient = jax.value_and_grad(log_end)(u)
        if start == "prior":
            return Position(u, base, end, base_gradient, end_gradient)
        return Position(u, base, end - base, base_gradient, end_gradient - base_gradient)

    def inverse(z: Array) -> Array:
        return unconstrained(q0()).inverse(z)

    return _Path(lambda key: evaluate(inverse(q0().sample(key))), evaluate, inverse)


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(s: _Settings) -> Callable[..., Any]:
    def anneal_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Array
    ) -> tuple[Array, Array, Array, Array]:
        path = _path(generative, recognition, row.astype(float), s.start)
        forward, pilot = _draw(path, key, s)
        log_w, acceptance = _run(path, forward, _pilot(path, pilot, s), s, backward=False)
        log_mean, w = _log_mean_exp(log_w)
        relative_error = jnp.std(w, ddof=1) / jnp.mean(w) / jnp.sqrt(jnp.asarray(s.num_chains, w.dtype))
        return log_mean, relative_error, jnp.sum(w) ** 2 / jnp.sum(w**2), acceptance

    return anneal_row


@functools.cache
def _gap_function(s: _Settings) -> Callable[..., Any]:
    def gap_of_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, _: Array
    ) -> tuple[Array, Array, Array, Array]:
        model_key, key, backward_key = jax.random.split(key, 3)
        x, z = generative.sample(model_key)
        path = _path(generative, recognition, x.astype(float), s.start)
        forward, pilot = _draw(path, key, s)
        log_steps = _pilot(path, pilot, s)  # knows x, but not z
        log_w, forward_acceptance = _run(path, forward, log_steps, s, backward=False)
        at_z = path.evaluate(path.inverse(z))
        positions = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (s.num_chains, *leaf.shape)), at_z)
        from_z = _Chains(positions, jax.random.split(backward_key, s.num_chains))
        log_v, backward_acceptance = _run(path, from_z, log_steps, s, backward=True)
        return _log_mean_exp(log_w)[0], -_log_mean_exp(-log_v)[0], forward_acceptance, backward_acceptance

    return gap_of_row


class _Chains(NamedTuple):
    positions: Position  # each leaf with a leading axis of length K
    keys: Key[Array, " K"]  # the noise of transition i is fold_in(key, i), i >= 1; that of the beginning has i = 0


def _draw(path: _Path, key: PRNGKeyArray, s: _Settings) -> tuple[_Chains, _Chains]:
    """K chains, and K others for the pilot run, where they begin."""
    keys = jax.random.split(key, 2 * s.num_chains)
    positions = jax.vmap(lambda key: path.draw(jax.random.fold_in(key, 0)))(keys)
    both = _Chains(positions, keys)
    return jax.tree.map(lambda a: a[: s.num_chains], both), jax.tree.map(lambda a: a[s.num_chains :], both)


def _run(
    path: _Path,
    chains: _Chains,
    log_steps: Float[Array, " knots"],
    s: _Settings,
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
        positions, probability = _move(path, positions, b, step_size, chains.keys, i, s)
        return (positions, total, accepted + jnp.mean(probability)), None

    zeros = jnp.zeros(s.num_chains, dtype)
    begin = (chains.positions, (zeros, zeros), jnp.zeros((), dtype))
    (positions, total, accepted), _ = jax.lax.scan(one, begin, jnp.arange(1, last))
    log_w, _ = weigh(total, jnp.asarray(last), positions)
    return log_w, accepted / (last - 1)


def _pilot(path: _Path, chains: _Chains, s: _Settings) -> Float[Array, " knots"]:
    """log eps at `_KNOTS` places between b = 0 and 1: followed through a short run to where chains are accepted.

    To an eighth: what rounding made of the run on the way is rounded off again, in most cases.
    """
    length = max(_LEAST, s.num_distributions // 10)
    dtype = chains.positions.base.dtype

    def one(state: tuple[Position, Array, Array], i: Int[Array, ""]) -> tuple[Any, None]:
        positions, log_step, sums = state
        f = (jnp.maximum(i - 1 - _SETTLING, 0).astype(dtype) + 0.5) / length
        positions, probability = _move(path, positions, _level(f, s.schedule), jnp.exp(log_step), chains.keys, i, s)
        excess = jnp.mean(probability) - s.target_acceptance
        right = jnp.clip(log_step + _PER_ACCEPTANCE * excess, *_LIMITS)  # without the lag of log_step itself
        log_step = jnp.clip(log_step + _GAIN * excess, *_LIMITS)
        counted = jnp.where(i <= _SETTLING, 0.0, jnp.stack([right, jnp.ones((), dtype)]))
        return (positions, log_step, sums.at[:, (f * _KNOTS).astype(int)].add(counted)), None

    begin = (chains.positions, jnp.asarray(_FIRST, dtype), jnp.zeros((2, _KNOTS), dtype))
    (_, _, (total, count)), _ = jax.lax.scan(one, begin, jnp.arange(1, 1 + _SETTLING + length))
    return jnp.round(8.0 * total / count) / 8.0


def _move(
    path: _Path, positions: Position, b: Array, step_size: Array, keys: Key[Array, " K"], i: Array, s: _Settings
) -> tuple[Position, Float[Array, " K"]]:
    """Transition i of every chain."""

    def one(position: Position, key: PRNGKeyArray) -> tuple[Position, Array]:
        key = jax.random.fold_in(key, i)
        return transition(path.evaluate, position, b, step_size, key, num_leapfrog=s.num_leapfrog)

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


def _log_mean_exp(log_w: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
    """log 1/K sum_k w_k, and w_k as multiples of the largest."""
    largest = jnp.max(log_w)
    shift = jnp.where(jnp.isfinite(largest), largest, 0.0)  # all weights zero: avoid inf - inf
    w = jnp.exp(log_w - shift)
    return shift + jnp.log(jnp.mean(w)), w
