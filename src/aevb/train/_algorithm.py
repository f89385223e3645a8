"""What a training algorithm is: a NamedTuple of pure functions over a state that holds arrays and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows


class Batch(NamedTuple):
    """Rows as stored, and their index in the data set, from which each row's noise is derived."""

    rows: Rows  # M of them
    indices: Int[Array, " M"]


class TrainState(NamedTuple):
    """Everything that is carried from step to step. Arrays only, so it can be saved and donated."""

    params: PyTree[Array]
    opt_state: PyTree[Array]
    estimator_state: PyTree[Array]  # what the estimator carries from step to step; mostly nothing
    step: Int[Array, ""]  # steps taken, skipped ones included: it names the step's noise
    key: PRNGKeyArray  # the run's key; never split, only folded with a step and a row


class Metrics(NamedTuple):
    """What a step tells of itself, in nats per example of its batch; never carried.

    A step whose `bound` or `grad_norm` is not finite was skipped whole: neither the parameters nor the optimiser's
    state moved.
    """

    bound: Float[Array, "*steps"]  # the estimator's own: an ELBO, or a tighter one
    objective: Float[
        Array, "*steps"
    ]  # what was climbed; differs from `bound` where the KL is weighted or has free bits
    log_likelihood: Float[Array, "*steps"] | None
    kl: Float[Array, "*steps"] | None
    grad_norm: Float[Array, "*steps"]


class Algorithm(NamedTuple):
    """A training algorithm.

    `init(key) -> TrainState`;
    `step(state, batch) -> (TrainState, Metrics)`, pure and traceable;
    `model(state) -> (generative, recognition)`, the models with the state's parameters in them;
    `gradients(state, batch) -> PyTree`, what `step` would hand to the optimiser: asked for when a step went wrong.
    """

    init: Callable[[PRNGKeyArray], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    model: Callable[[TrainState], tuple[AbstractGenerativeModel, AbstractRecognitionModel]]
    gradients: Callable[[TrainState, Batch], Any]
