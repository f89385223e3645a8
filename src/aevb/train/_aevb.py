"""Algorithm 1 of the paper: minibatch Auto-Encoding Variational Bayes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from aevb.errors import UnavailableError
from aevb.estimators import AbstractEstimator, minibatch_bound
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, MixturePrior, VampPrior, tie, untie

from ._algorithm import Algorithm, Batch, TrainState
from ._ascent import Outcome, Pair, Prepare, as_stored, gradient_steps, prepared_rows
from ._objective import FreeBits, free_bits_kl

_NO_WEIGHTS = (MixturePrior, VampPrior)  # their arrays are points in the spaces of x and z


def aevb(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    estimator: AbstractEstimator,
    optimizer: optax.GradientTransformation,
    *,
    num_examples: int,
    prepare: Prepare = as_stored,
    parameter_prior: bool = False,
    kl_weight: Callable[[Int[Array, ""]], Float[Array, ""]] | None = None,
    free_bits: FreeBits | None = None,
) -> Algorithm:
    r"""Minibatch AEVB (Kingma & Welling 2014, Algorithm 1).

    Each step draws noise eps for a minibatch of M rows, forms the stochastic bound of the whole data set

        L~ = N/M sum_i L~(theta, phi; x_i)     (eq. 8)     [+ log p(theta, phi), the MAP prior, as an option]

    and moves theta and phi together along the gradient of L~ / N, that is, of the bound per example. (The paper
    ascends L~ itself; an adaptive optimiser does not see the factor N, plain SGD's learning rate does.)

    A step whose bound or gradient is not finite is skipped whole; see `Metrics`.

    Args:
        generative: p_theta(x, z), at its initial parameters.
        recognition: q_phi(z | x), at its initial parameters.
        estimator: of the bound; any of `aevb.estimators`.
        optimizer: any Optax gradient transformation; it is given the gradient of a loss, to be descended.
        num_examples: N, rows of the data set. It weighs the prior over parameters against the data.
        prepare: pure function of (key, one row as stored) that gives the x that the models see. Called at each
            presentation with fresh noise, so it may binarise or dequantise.
        parameter_prior: adds log N(W; 0, I) of all weight matrices (leaves of two or more axes, of theta and phi), as
            the paper's MAP criterion. Biases are excluded, and so are pseudo-inputs of a VampPrior and the components
            of a mixture: points in the spaces of x and z, and no weights.
        kl_weight: schedule step -> weight of the KL in the objective: KL warm-up (Sonderby et al. 2016), or the beta of
            a beta-VAE (Higgins et al. 2017). The metrics' `bound` is the unweighted one all the same.
        free_bits: nats that each latent dimension (or group) is given for nothing; see `FreeBits`.

    Returns:
        An `Algorithm`.

    Raises:
        UnavailableError: `kl_weight` or `free_bits` with an estimator of another bound than the ELBO, or one whose
            terms carry no gradient; or (when the step is traced) with a model that does not tell its KL apart.

    Example:
        See `examples/own_model.py`.
    """
    if (kl_weight is not None or free_bits is not None) and not estimator.differentiable_terms:
        raise UnavailableError(
            f"{type(estimator).__name__} does not estimate a reconstruction term and a KL whose gradients could be "
            "weighed against each other; use SgvbA, SgvbB or StickingTheLanding with kl_weight and free_bits"
        )
    params, static = eqx.partition((untie(generative), recognition), eqx.is_inexact_array)

    def pair_of(params: PyTree[Array]) -> Pair:
        generative, recognition = eqx.combine(params, static)
        return tie(generative, recognition), recognition

    def model(state: TrainState) -> Pair:
        return pair_of(state.params)

    def init(key: PRNGKeyArray) -> TrainState:
        # Copies: the compiled epoch donates its state, and the caller's own arrays must survive that.
        own = jax.tree.map(jnp.array, params)
        step = jnp.zeros((), jnp.int32)
        return TrainState(own, optimizer.init(own), estimator.init_state(), step, jnp.array(key))

    def loss(params: PyTree[Array], state: TrainState, batch: Batch) -> tuple[Float[Array, ""], Outcome]:
        generative, recognition = pair_of(params)
        x, keys = prepared_rows(state, batch, prepare)
        knowing = estimator.with_state(state.carry)
        bound, estimates = minibatch_bound(knowing, keys, generative, recognition, x, num_examples)
        objective = bound
        if kl_weight is not None or free_bits is not None:
            if estimates.kl is None:
                raise UnavailableError(
                    f"kl_weight needs a generative model in two parts, prior() and likelihood(z); "
                    f"{type(generative).__name__} has only log_joint, so its KL cannot be weighted"
                )
            kl = jnp.mean(estimates.kl)
            counted = kl if free_bits is None else free_bits_kl(generative, recognition, x, free_bits)
            weight = 1.0 if kl_weight is None else kl_weight(state.step)
            # N/M sum_i log p(x_i | z_i) - N weight * KL = bound + N (KL - weight * KL)
            objective = bound + num_examples * (kl - weight * counted)
        climbed = objective / num_examples
        if parameter_prior:
            objective = objective + log_parameter_prior(params)
        # The library's one minus sign: here a bound, to be raised, becomes a loss.
        return -objective / num_examples, Outcome(climbed, estimates)

    step, gradients = gradient_steps(loss, optimizer, estimator)
    return Algorithm(init, step, model, gradients)


def log_parameter_prior(params: PyTree[Array]) -> Float[Array, ""]:
    """log N(W; 0, I) of all weight matrices, without its constant: -1/2 sum W^2. In nats, for the whole data set."""
    nodes = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, _NO_WEIGHTS))
    matrices = [leaf for leaf in nodes if not isinstance(leaf, _NO_WEIGHTS) and leaf.ndim >= 2]
    return -0.5 * sum((jnp.sum(jnp.square(w)) for w in matrices), start=jnp.zeros(()))
