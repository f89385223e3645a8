"""What the algorithms share: the noise of a step, and a step along a stochastic gradient, skipped if not finite."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from aevb.estimators import AbstractEstimator, Estimate
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, X, as_floats

from ._algorithm import Batch, Metrics, TrainState

Pair = tuple[AbstractGenerativeModel, AbstractRecognitionModel]
Prepare = Callable[[Array, Any], X]


class Outcome(NamedTuple):
    """What a loss tells besides its value: the objective in nats per example, and the rows' estimates."""

    objective: Float[Array, ""]
    estimates: Estimate


Loss = Callable[[PyTree[Array], TrainState, Batch], tuple[Float[Array, ""], Outcome]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Gradients = Callable[[TrainState, Batch], PyTree[Array]]


def as_stored(key: Array, row: X) -> X:
    """The default preparation of a row: the values as they are stored, as floats. Needs no noise."""
    del key
    return as_floats(row)


def prepared_rows(state: TrainState, batch: Batch, prepare: Prepare) -> tuple[X, Key[Array, " M"]]:
    """The rows as the models see them, and a key for each row's latent noise.

    Row i of step t uses noise from `fold_in(fold_in(key, t), i)`, with i its index in the data set.
    """
    step_key = jax.random.fold_in(state.key, state.step)
    row_keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(step_key, i)))(batch.indices)
    return jax.vmap(prepare)(row_keys[:, 0], batch.rows), row_keys[:, 1]


def gradient_steps(
    loss: Loss, optimizer: optax.GradientTransformation, estimator: AbstractEstimator
) -> tuple[Step, Gradients]:
    """A step down the loss, skipped whole where the bound or the gradient is not finite; and its gradients alone."""

    def value_and_gradients(state: TrainState, batch: Batch) -> tuple[Outcome, PyTree[Array]]:
        (_, outcome), grads = jax.value_and_grad(loss, has_aux=True)(state.params, state, batch)
        return outcome, grads

    def gradients(state: TrainState, batch: Batch) -> PyTree[Array]:
        return value_and_gradients(state, batch)[1]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        (objective, estimates), grads = value_and_gradients(state, batch)
        grad_norm = optax.tree.norm(grads)
        mean = jax.tree.map(jnp.mean, estimates)
        ok = jnp.isfinite(mean.bound) & jnp.isfinite(grad_norm)
        metrics = Metrics(objective, grad_norm, ok, mean.bound, mean.log_likelihood, mean.kl, mean.kl_per_layer)
        moving = (state.params, state.opt_state, state.carry)

        def update(moving: PyTree[Array]) -> PyTree[Array]:
            params, opt_state, carry = moving
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state, estimator.next_state(carry, estimates)

        def skip(moving: PyTree[Array]) -> PyTree[Array]:
            return moving

        # A branch, not a `where`: on a CPU the latter reads and writes every moment once more.
        params, opt_state, carry = jax.lax.cond(ok, update, skip, moving)
        return TrainState(params, opt_state, carry, state.step + 1, state.key), metrics

    return step, gradients
