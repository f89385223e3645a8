"""Optimisers and learning-rate schedules in plain values; all of them are Optax's."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import optax

from aevb._spec import Registry, Spec


class OptimizerSpec(Spec, abc.ABC):
    """An optimiser. `epsilon` keeps the division by a root of a second moment finite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.options.items():
            if name == "epsilon":
                self.require(0 <= value < float("inf"), name, "must not be negative, and must be finite")
            else:
                self.require(0 <= value < 1, name, "must be at least 0 and less than 1")

    @abc.abstractmethod
    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """The gradient transformation, which is given the gradient of a loss.

        Args:
            learning_rate: a number, or a function of the step.
        """


@dataclass(frozen=True)
class Adam(OptimizerSpec):
    """Kingma & Ba (2015).

    Args:
        beta1, beta2: decay of the first and the second moment.
        epsilon: beside the root.

    Example:
        >>> Adam(beta1=0.5).build(1e-3)  # doctest: +ELLIPSIS
        GradientTransformationExtraArgs(...)
    """

    kind: ClassVar[str] = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """Optax's."""
        return optax.adam(learning_rate, b1=self.beta1, b2=self.beta2, eps=self.epsilon)


@dataclass(frozen=True)
class Adagrad(OptimizerSpec):
    """Duchi, Hazan & Singer (2011): the paper's.

    Args:
        epsilon: under the root.
    """

    kind: ClassVar[str] = "adagrad"
    epsilon: float = 1e-8

    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """Optax's, which begins from no squares."""
        return optax.adagrad(learning_rate, initial_accumulator_value=0.0, eps=self.epsilon)


@dataclass(frozen=True)
class Rmsprop(OptimizerSpec):
    """Tieleman & Hinton (2012).

    Args:
        decay: of the second moment.
        momentum: 0: none.
        epsilon: under the root; the default is Keras'.
    """

    kind: ClassVar[str] = "rmsprop"
    decay: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7

    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """Optax's."""
        return optax.rmsprop(learning_rate, decay=self.decay, eps=self.epsilon, momentum=self.momentum or None)


@dataclass(frozen=True)
class Sgd(OptimizerSpec):
    """Stochastic gradient descent.

    Args:
        momentum: 0: none.
    """

    kind: ClassVar[str] = "sgd"
    momentum: float = 0.0

    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """Optax's."""
        return optax.sgd(learning_rate, momentum=self.momentum or None)


OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimizer", Adam, Adagrad, Rmsprop, Sgd, base=OptimizerSpec)


class ScheduleSpec(Spec, abc.ABC):
    """How the learning rate goes down over a run."""

    @abc.abstractmethod
    def build(self, learning_rate: float, num_steps: int) -> optax.Schedule:
        """A function of the step.

        Args:
            learning_rate: at step 0.
            num_steps: length of the run.
        """


@dataclass(frozen=True)
class Constant(ScheduleSpec):
    """It does not."""

    kind: ClassVar[str] = "constant"

    def build(self, learning_rate: float, num_steps: int) -> optax.Schedule:
        """The same at each step."""
        del num_steps
        return optax.constant_schedule(learning_rate)


@dataclass(frozen=True)
class Linear(ScheduleSpec):
    """In a line down to 0.

    Example:
        >>> float(Linear().build(0.1, 100)(50))
        0.05000000074505806
    """

    kind: ClassVar[str] = "linear"

    def build(self, learning_rate: float, num_steps: int) -> optax.Schedule:
        """0 at the last step and after it."""
        return optax.linear_schedule(learning_rate, 0.0, num_steps)


@dataclass(frozen=True)
class Cosine(ScheduleSpec):
    """Half a cosine down to 0: Loshchilov & Hutter (2017)."""

    kind: ClassVar[str] = "cosine"

    def build(self, learning_rate: float, num_steps: int) -> optax.Schedule:
        """0 at the last step and after it."""
        return optax.cosine_decay_schedule(learning_rate, num_steps)


@dataclass(frozen=True)
class Exponential(ScheduleSpec):
    """By the same factor at each step, down to 1 % of its start."""

    kind: ClassVar[str] = "exponential"

    def build(self, learning_rate: float, num_steps: int) -> optax.Schedule:
        """0.01 of it at the last step."""
        return optax.exponential_decay(learning_rate, num_steps, 0.01)


SCHEDULES: Registry[ScheduleSpec] = Registry(
    "learning-rate schedule", Constant, Linear, Cosine, Exponential, base=ScheduleSpec
)
