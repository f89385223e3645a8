"""Optimisers and learning-rate schedules by name, all of them Optax's."""

from typing import Literal, get_args

import optax

Optimizer = Literal["adam", "adagrad", "rmsprop", "sgd"]
Schedule = Literal["constant", "linear", "cosine", "exponential"]

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
SCHEDULES: tuple[str, ...] = get_args(Schedule)

# What is added to the root of the second moment when nothing else is asked for: each method's customary value.
DEFAULT_EPSILON = {"adam": 1e-8, "adagrad": 1e-8, "rmsprop": 1e-7, "sgd": 0.0}


def make_schedule(name: Schedule, learning_rate: float, num_steps: int) -> optax.Schedule:
    """Learning rate as a function of the optimiser's step.

    Args:
        name: `constant`; `linear`, down to 0; `cosine`, down to 0 (Loshchilov & Hutter 2017); `exponential`, down to
            1 % of its start.
        learning_rate: at step 0.
        num_steps: length of the run.

    Returns:
        A function step -> learning rate.

    Example:
        >>> float(make_schedule("linear", 0.1, 100)(50))
        0.05000000074505806
    """
    if name == "constant":
        return optax.constant_schedule(learning_rate)
    if name == "linear":
        return optax.linear_schedule(learning_rate, 0.0, num_steps)
    if name == "cosine":
        return optax.cosine_decay_schedule(learning_rate, num_steps)
    if name == "exponential":
        return optax.exponential_decay(learning_rate, num_steps, 0.01)
    raise ValueError(f"unknown learning-rate schedule {name!r}; choose one of {', '.join(SCHEDULES)}")


def make_optimizer(
    name: Optimizer,
    schedule: optax.ScalarOrSchedule,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    decay: float = 0.9,
    momentum: float = 0.0,
    epsilon: float | None = None,
) -> optax.GradientTransformation:
    """An Optax optimiser.

    Args:
        name: `adam` (Kingma & Ba 2015), `adagrad` (Duchi et al. 2011; the paper's), `rmsprop` (Tieleman & Hinton
            2012), `sgd`.
        schedule: learning rate, a number or a function of the step.
        beta1, beta2: decay of Adam's moments.
        decay: of RMSprop's second moment.
        momentum: of SGD and RMSprop.
        epsilon: keeps the division by a root of a second moment finite; None: 1e-8 for Adam and Adagrad, 1e-7 for
            RMSprop (Keras'). Adagrad's and RMSprop's stands under the root, Adam's beside it.

    Returns:
        A gradient transformation that is given the gradient of a loss.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    eps = DEFAULT_EPSILON[name] if epsilon is None else epsilon
    if name == "adam":
        return optax.adam(schedule, b1=beta1, b2=beta2, eps=eps)
    if name == "adagrad":
        return optax.adagrad(schedule, initial_accumulator_value=0.0, eps=eps)
    if name == "rmsprop":
        return optax.rmsprop(schedule, decay=decay, eps=eps, momentum=momentum or None)
    return optax.sgd(schedule, momentum=momentum or None)
