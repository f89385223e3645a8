"""Algorithm 1 of the paper: minibatch Auto-Encoding Variational Bayes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from aevb.estimators import AbstractEstimator, Estimate, minibatch_bound
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

from ._algorithm import Algorithm, Batch, Metrics, TrainState


def as_float(key: PRNGKeyArray, row: Array) -> Float[Array, " D"]:
    """The default preparation of a row: the values as they are stored, as floats. Needs no noise."""
    del key
    return row.astype(jnp.result_type(float))


def aevb(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    estimator: AbstractEstimator,
    optimizer: optax.GradientTransformation,
    *,
    num_examples: int,
    prepare: Callable[[PRNGKeyArray, Array], Float[Array, " D"]] = as_float,
    parameter_prior: bool = False,
    kl_weight: Callable[[Int[Array, ""]], Float[Array, ""]] | None = None,
) -> Algorithm:
    r"""Minibatch AEVB (Kingma & Welling 2014, Algorithm 1).

    Each step draws noise eps for a minibatch of M rows, forms the stochastic bound of the whole data set

        L~ = N/M sum_i L~(theta, phi; x_i)     (eq. 8)     [+ log p(theta, phi), the MAP prior, as an option]

    and moves theta and phi together along the gradient of L~ / N, that is, of the bound per example. (The paper
    ascends L~ itself; an adaptive optimiser does not see the factor N, plain SGD's learning rate does.)

    Row i of step t uses noise from `fold_in(fold_in(key, t), i)`, with i its index in the data set.

    A step whose bound or gradient is not finite is skipped whole; see `Metrics`.

    Args:
        generative: p_theta(x, z), at its initial parameters.
        recognition: q_phi(z | x), at its initial parameters.
        estimator: SGVB estimator, `SgvbA` or `SgvbB`.
        optimizer: any Optax gradient transformation; it is given the gradient of a loss, to be descended.
        num_examples: N, rows of the data set. It weighs the prior over parameters against the data.
        prepare: pure function of (key, one row as stored) that gives the x that the models see. Called at each
            presentation with fresh noise, so it may binarise or dequantise.
        parameter_prior: adds log N(W; 0, I) of all weight matrices (leaves of two or more axes, of theta and phi;
            biases excluded), as the paper's MAP criterion.
        kl_weight: schedule step -> weight of the KL in the objective (KL warm-up). The metrics' `bound` is the
            unweighted one all the same.

    Returns:
        An `Algorithm`.

    Raises:
        TypeError: (when the step is traced) `kl_weight` with a model that does not tell its KL apart.

    Example:
        See `examples/own_model.py`.
    """
    params, static = eqx.partition((generative, recognition), eqx.is_inexact_array)

    def model(state: TrainState) -> tuple[AbstractGenerativeModel, AbstractRecognitionModel]:
        pair: tuple[AbstractGenerativeModel, AbstractRecognitionModel] = eqx.combine(state.params, static)
        return pair

    def init(key: PRNGKeyArray) -> TrainState:
        # Copies: the compiled epoch donates its state, and the caller's own arrays must survive that.
        own = jax.tree.map(jnp.array, params)
        return TrainState(own, optimizer.init(own), jnp.zeros((), jnp.int32), jnp.array(key))

    def loss(params: PyTree[Array], state: TrainState, batch: Batch) -> tuple[Float[Array, ""], Estimate]:
        generative, recognition = eqx.combine(params, static)
        step_key = jax.random.fold_in(state.key, state.step)
        row_keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(step_key, i)))(batch.indices)
        x = jax.vmap(prepare)(row_keys[:, 0], batch.rows)
        bound, estimates = minibatch_bound(estimator, row_keys[:, 1], generative, recognition, x, num_examples)
        objective = bound
        if kl_weight is not None:
            if estimates.kl is None:
                raise TypeError(
                    f"kl_weight needs a generative model in two parts, prior() and likelihood(z); "
                    f"{type(generative).__name__} has only log_joint, so its KL cannot be weighted"
                )
            # N/M sum_i (log p(x | z) - weight * KL) = bound + N (1 - weight) mean(KL)
            objective = bound + num_examples * (1.0 - kl_weight(state.step)) * jnp.mean(estimates.kl)
        if parameter_prior:
            objective = objective + log_parameter_prior(params)
        # The library's one minus sign: here a bound, to be raised, becomes a loss.
        return -objective / num_examples, estimates

    def value_and_gradients(state: TrainState, batch: Batch) -> tuple[tuple[Float[Array, ""], Estimate], PyTree[Array]]:
        value: tuple[tuple[Float[Array, ""], Estimate], PyTree[Array]]
        value = jax.value_and_grad(loss, has_aux=True)(state.params, state, batch)
        return value

    def gradients(state: TrainState, batch: Batch) -> PyTree[Array]:
        return value_and_gradients(state, batch)[1]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        (_, estimates), grads = value_and_gradients(state, batch)
        grad_norm = optax.tree.norm(grads)
        mean = jax.tree.map(jnp.mean, estimates)
        metrics = Metrics(mean.bound, mean.log_likelihood, mean.kl, grad_norm)

        def update(params: PyTree[Array], opt_state: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        def skip(params: PyTree[Array], opt_state: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
            return params, opt_state

        # A branch, not a `where`: on a CPU the latter reads and writes every moment once more.
        finite = jnp.isfinite(metrics.bound) & jnp.isfinite(grad_norm)
        new_params, opt_state = jax.lax.cond(finite, update, skip, state.params, state.opt_state)
        return TrainState(new_params, opt_state, state.step + 1, state.key), metrics

    return Algorithm(init, step, model, gradients)


def log_parameter_prior(params: PyTree[Array]) -> Float[Array, ""]:
    """log N(W; 0, I) of all weight matrices, without its constant: -1/2 sum W^2. In nats, for the whole data set."""
    matrices = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]
    return -0.5 * sum((jnp.sum(jnp.square(w)) for w in matrices), start=jnp.zeros(()))
