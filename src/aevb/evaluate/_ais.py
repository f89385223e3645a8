"""log p(x) by annealed importance sampling, and both sides of it on simulated data."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution
from aevb.errors import UnavailableError
from aevb.estimators import log_mean_exp
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    num_rows_of,
    posterior_and_prior,
    posterior_of,
    prior_of,
    take,
)
from aevb.samplers import Annealing, Chains, begin, pilot_run, relative_weights, run, support_within, unconstrained

from ._bridge import make_bridge
from ._rows import map_rows
from ._simulated import given_rows
from ._summary import Mean, mean


class AnnealedImportance(NamedTuple):
    """Annealed importance sampling of N rows, by K chains for each; every field of shape (N,).

    The standard error is the delta method's from the spread of the K weights, and NaN for one chain. Where
    `effective_sample_size` is near 1 a single chain carries the estimate, and its standard error cannot be trusted.
    log_likelihood is too low in expectation (its mean weight is unbiased, and a logarithm is concave), by how much no
    standard error tells; chains that all miss a region of the posterior agree with each other.
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
    rows: Rows,
    key: PRNGKeyArray,
    settings: Annealing | None = None,
    *,
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
        settings: K, T, q0 and the rest; None: the defaults of `Annealing`.
        batch_size: rows at once. num_chains * batch_size examples go through the decoder at a time.
        first_row: where `rows` begins in the data set that it is a part of.

    Returns:
        An `AnnealedImportance` of arrays of shape (N,). The result of a row does not depend on the rows beside it,
        beyond rounding (which a chain in float32 can amplify, up to the noise of another run).

    Raises:
        UnavailableError: start="prior" of a model that does not say what its prior is; a latent variable without a
            path through R^k; start="encoder" with a posterior that does not have the prior's support.
        ValueError: there are no rows.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> rows = np.zeros((2, 4), np.float32)
        >>> found = annealed_importance_sampling(g, q, rows, jax.random.key(2), Annealing(num_distributions=50))
        >>> found.log_likelihood.shape, bool((found.effective_sample_size > 12).all())
        ((2,), True)
    """
    settings = settings or Annealing()
    _check_batch(batch_size)
    if num_rows_of(rows):
        _check_latents(generative, recognition, [as_floats(take(rows, i)) for i in (0, -1)], settings.start)
    found = map_rows(
        _row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row
    )
    return AnnealedImportance(*found)


def bidirectional_gap(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    num_rows: int,
    key: PRNGKeyArray,
    settings: Annealing | None = None,
    *,
    like: Rows | None = None,
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
        settings, batch_size: as there.
        like: rows of data; pair i is given what row i modulo their number is. A conditional model needs them.
        first_row: number of the first pair.

    Returns:
        A `BidirectionalGap` of arrays of shape (N,).

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> found = bidirectional_gap(g, q, 10, jax.random.key(2), Annealing(num_distributions=50))
        >>> found.lower.shape, bool(abs(found.gap.value) < 0.1)
        ((10,), True)
    """
    settings = settings or Annealing()
    _check_batch(batch_size)
    num_rows = operator.index(num_rows)
    if num_rows < 1:
        raise ValueError(f"num_rows must be at least 1, got {num_rows}")
    rows = given_rows(generative, like, first_row + np.arange(num_rows))  # each pair is simulated where it is used
    x, _ = generative.sample(key, *take(rows[1], 0))
    _check_latents(generative, recognition, [as_floats(x)], settings.start)
    found = map_rows(
        _gap_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row
    )
    return BidirectionalGap(*found)


def _check_batch(batch_size: int) -> None:
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _check_latents(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, some: list[X], start: str
) -> None:
    """Raise if chains cannot move where the latents are. An encoder whose support moves is seen between two rows."""
    if start == "prior":
        if not isinstance(generative, AbstractPriorLikelihood):
            raise UnavailableError(
                f'start="prior" needs a model with a prior() and a likelihood(), but {type(generative).__name__} has '
                'log_joint() alone; use start="encoder"'
            )
        unconstrained(prior_of(generative, some[0]))
        return
    for x in some:
        q = posterior_of(recognition, x)
        unconstrained(q)
        if isinstance(generative, AbstractPriorLikelihood):
            q, p = posterior_and_prior(generative, recognition, x)
            if not (support_within(q, p) and support_within(p, q)):
                raise UnavailableError(
                    'start="encoder" needs a posterior with the support of the prior, but the posterior is '
                    f'{_described(q)} and the prior {_described(p)}; use start="prior"'
                )


def _described(q: Distribution) -> str:
    return f"{type(getattr(q, 'base_dist', q)).__name__} on {q.support}"


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(s: Annealing) -> Callable[..., Any]:
    def anneal_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
    ) -> tuple[Array, Array, Array, Array]:
        bridge = make_bridge(generative, recognition, as_floats(row), key, s.start)
        forward, pilot = begin(bridge, key, s)
        log_w, acceptance = run(bridge, forward, pilot_run(bridge, pilot, s), s, backward=False)
        log_mean, w = log_mean_exp(log_w), relative_weights(log_w)
        relative_error = jnp.std(w, ddof=1) / jnp.mean(w) / jnp.sqrt(jnp.asarray(s.num_chains, w.dtype))
        return log_mean, relative_error, jnp.sum(w) ** 2 / jnp.sum(w**2), acceptance

    return anneal_row


@functools.cache
def _gap_function(s: Annealing) -> Callable[..., Any]:
    def gap_of_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Any
    ) -> tuple[Array, Array, Array, Array]:
        model_key, key, backward_key = jax.random.split(key, 3)
        x, z = generative.sample(model_key, *row[1])
        bridge = make_bridge(generative, recognition, as_floats(x), key, s.start)
        forward, pilot = begin(bridge, key, s)
        log_steps = pilot_run(bridge, pilot, s)  # knows x, but not z
        log_w, forward_acceptance = run(bridge, forward, log_steps, s, backward=False)
        at_z = bridge.evaluate(bridge.inverse(z))
        positions = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (s.num_chains, *leaf.shape)), at_z)
        from_z = Chains(positions, jax.random.split(backward_key, s.num_chains))
        log_v, backward_acceptance = run(bridge, from_z, log_steps, s, backward=True)
        return log_mean_exp(log_w), -log_mean_exp(-log_v), forward_acceptance, backward_acceptance

    return gap_of_row
