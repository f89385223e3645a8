"""What a training algorithm is: a NamedTuple of pure functions over a state that holds arrays and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows


class Batch(NamedTuple):
    """Rows as stored, and their index in the data set, from which each row's noise is derived."""

    rows: Rows  # M of them
    indices: Int[Array, " M"]


class TrainState(NamedTuple):
    """Everything that is carried from step to step. Arrays only, so it can be saved and donated."""

    params: PyTree[Array]
    opt_state: PyTree[Array]
    carry: PyTree[Array]  # the algorithm's own: running means, chains; mostly nothing
    step: Int[Array, ""]  # steps taken, skipped ones included: it names the step's noise
    key: PRNGKeyArray  # the run's key; never split, only folded with a step and a row


class Metrics(NamedTuple):
    """What a step tells of itself, in nats per example of its batch; never carried."""

    objective: Float[Array, "*steps"]  # what was climbed; no bound where the KL is weighted or has free bits, say
    grad_norm: Float[Array, "*steps"]
    # Whether the step counted. One that did not was skipped whole: neither parameters nor optimiser nor carry moved.
    ok: Bool[Array, "*steps"]
    bound: Float[Array, "*steps"] | None = None  # a lower bound on log p(x), where the algorithm has one
    log_likelihood: Float[Array, "*steps"] | None = None  # of the bound's two terms, E_q[log p(x | z)]
    kl: Float[Array, "*steps"] | None = None  # and D_KL(q(z | x) || p(z))
    kl_per_layer: dict[str, Float[Array, "*steps"]] | None = None  # what each layer of a latent in layers adds to it


class Algorithm(NamedTuple):
    """A training algorithm.

    `init(key) -> TrainState`;
    `step(state, batch) -> (TrainState, Metrics)`, pure and traceable;
    `model(state) -> (generative, recognition)`, the models with the state's parameters in them; no recognition model
    where the algorithm has none;
    `gradients(state, batch) -> PyTree`, what `step` would hand to the optimiser: asked for when a step went wrong.
    """

    init: Callable[[PRNGKeyArray], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    model: Callable[[TrainState], tuple[AbstractGenerativeModel, AbstractRecognitionModel | None]]
    gradients: Callable[[TrainState, Batch], Any]
