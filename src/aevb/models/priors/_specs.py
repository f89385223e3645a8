"""Which prior: specs of those in this package."""

import abc
import functools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb._spec import Spec
from aevb.distributions import FAMILIES
from aevb.models.networks import Activation
from aevb.models.posteriors import check_flow

from ._priors import AbstractPrior, FlowPrior, MixturePrior, StandardPrior, VampPrior


class Surroundings(NamedTuple):
    """What a prior is built into.

    Args:
        latent_dim, data_dim: J and D.
        unit_interval: whether x as the model sees it lies in [0, 1].
        pseudo_inputs: for one with `num_rows`, (K, D): rows of the training data; None: noise.
    """

    latent_dim: int
    data_dim: int
    unit_interval: bool = False
    pseudo_inputs: Float[Array | np.ndarray, "K D"] | None = None


class PriorSpec(Spec, abc.ABC):
    """p(z)."""

    # The family that lies where z does, a name in `FAMILIES`; None: wherever the posterior does.
    support_of: ClassVar[str | None] = "normal"
    # Whether the density is the same at both ends of (-pi, pi), where the circle is cut.
    is_closed: ClassVar[bool] = False

    @property
    def num_rows(self) -> int:
        """How many rows of the data it begins from."""
        return 0

    @abc.abstractmethod
    def build(self, around: Surroundings, *, key: PRNGKeyArray) -> AbstractPrior:
        """The prior at its initial parameters, of which the key makes what is random."""


# Families whose standard member has one density at pi and -pi.
_CLOSED = ("von-mises", "normal", "cauchy", "laplace", "logistic", "student-t")


@functools.cache
def standard(family: str) -> type[PriorSpec]:
    """The spec class of a family's standard member: no parameters.

    Args:
        family: a name in `aevb.distributions.FAMILIES`; "normal": N(0, I).

    Example:
        >>> standard("normal")().build(Surroundings(2, 5), key=jax.random.key(0)).distribution().event_shape
        (2,)
    """
    if family not in FAMILIES:
        raise ValueError(f"{family!r} names no family; choose {', '.join(FAMILIES)}")

    @dataclass(frozen=True)
    class Standard(PriorSpec):
        kind: ClassVar[str] = family
        support_of: ClassVar[str | None] = family
        is_closed: ClassVar[bool] = family in _CLOSED

        def build(self, around: Surroundings, *, key: PRNGKeyArray) -> AbstractPrior:
            return StandardPrior(around.latent_dim, family)

    Standard.__doc__ = f"The standard member of the {family} family, in each dimension (or one simplex)."
    Standard.__name__ = Standard.__qualname__ = f"Standard[{family}]"
    return Standard


@dataclass(frozen=True)
class GaussianMixture(PriorSpec):
    """A mixture of K Gaussians (`MixturePrior`).

    Args:
        components: K.
    """

    kind: ClassVar[str] = "mixture"
    components: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_components(self)

    def build(self, around: Surroundings, *, key: PRNGKeyArray) -> AbstractPrior:
        """K components, from noise."""
        return MixturePrior(around.latent_dim, self.components, key=key)


@dataclass(frozen=True)
class Vamp(PriorSpec):
    """A mixture of q(z | u_k) of K pseudo-inputs u_k (`VampPrior`).

    Args:
        components: K pseudo-inputs.
    """

    kind: ClassVar[str] = "vamp"
    support_of: ClassVar[str | None] = None
    is_closed: ClassVar[bool] = True
    components: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_components(self)

    @property
    def num_rows(self) -> int:
        """One for each pseudo-input."""
        return self.components

    def build(self, around: Surroundings, *, key: PRNGKeyArray) -> AbstractPrior:
        """K pseudo-inputs: the given rows, or noise."""
        pseudo_inputs, expected = around.pseudo_inputs, (self.components, around.data_dim)
        if pseudo_inputs is None:
            pseudo_inputs = jax.random.normal(key, expected)
            pseudo_inputs = jax.nn.sigmoid(pseudo_inputs) if around.unit_interval else pseudo_inputs
        if pseudo_inputs.shape != expected:
            raise ValueError(
                f"pseudo_inputs must have shape {expected}, K rows of D columns, got {pseudo_inputs.shape}"
            )
        return VampPrior(around.latent_dim, jnp.asarray(pseudo_inputs, float), unit_interval=around.unit_interval)


@dataclass(frozen=True)
class CouplingNormal(PriorSpec):
    """What a flow of affine couplings makes of N(0, I) (`FlowPrior`).

    Args:
        steps: layers of the flow, 1 to 1,000.
        hidden: units of the hidden layers of each layer's network.
        activation: of these layers.
    """

    kind: ClassVar[str] = "flow"
    steps: int = 4
    hidden: tuple[int, ...] = (128,)
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self)

    def build(self, around: Surroundings, *, key: PRNGKeyArray) -> AbstractPrior:
        """A flow near the identity."""
        return FlowPrior(around.latent_dim, steps=self.steps, hidden=self.hidden, activation=self.activation, key=key)


def _check_components(spec: GaussianMixture | Vamp) -> None:
    spec.require(1 <= spec.components <= 1_000_000, "components", "must lie between 1 and 1,000,000")
