"""Which network: a spec, or any callable module of one's own."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from aevb._spec import Registry, Spec
from aevb.errors import ConfigError

from ._mlp import MLP, Activation, Initialization

# h = network(x) of ONE example, a vector: an Equinox module, so that its arrays are parameters.
Network: TypeAlias = Callable[[Array], Array]


class NetworkSpec(Spec, abc.ABC):
    """A network, at both ends: the decoder's mirrors the encoder's."""

    @property
    def sizes(self) -> str:
        """Of its layers, in few words."""
        return self.kind

    @abc.abstractmethod
    def encoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> Network:
        """The encoder's, of x of `in_size` numbers."""

    @abc.abstractmethod
    def decoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> Network:
        """The decoder's, of z of `in_size` numbers."""


@dataclass(frozen=True)
class Mlp(NetworkSpec):
    """A perceptron with hidden layers.

    Args:
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse order. None: linear.
        activation: of these layers, one of `ACTIVATIONS`.

    Example:
        >>> Mlp((64, 32)).decoder(2, key=jax.random.key(0))(jnp.zeros(2)).shape
        (64,)
    """

    kind: ClassVar[str] = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(
            len(self.hidden) <= 1000 and all(1 <= units <= 10_000_000 for units in self.hidden),
            "hidden",
            "needs 1 to 10,000,000 units a layer, and at most 1,000 layers",
        )

    @property
    def sizes(self) -> str:
        """Units of the hidden layers, as 64-32."""
        return "-".join(map(str, self.hidden))

    def encoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> MLP:
        """The encoder's."""
        return MLP(in_size, self.hidden, self.activation, initialization, key=key)

    def decoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> MLP:
        """The decoder's, its layers in reverse order."""
        return MLP(in_size, self.hidden[::-1], self.activation, initialization, key=key)


@dataclass(frozen=True, eq=False)
class Modules(NetworkSpec):
    """Two callable modules of one's own, at their initial parameters. A file holds their arrays, and not what they do.

    Args:
        of_x: the encoder's, from x of D numbers to a vector h.
        of_z: the decoder's, from z of J numbers to a vector h.

    Raises:
        ConfigError: they are no two callables.
    """

    kind: ClassVar[str] = "own"
    of_x: Network
    of_z: Network

    def __post_init__(self) -> None:
        for module in (self.of_x, self.of_z):
            if not callable(module) or isinstance(module, type):
                raise ConfigError(f"network must be two modules that can be called, of x and of z, got {module!r:.80}")

    @classmethod
    def option_types(cls) -> dict[str, Any]:
        """A file has the name alone."""
        return {"name": str}

    @property
    def options(self) -> dict[str, Any]:
        """The names of their classes."""
        return {"name": f"{type(self.of_x).__name__}, {type(self.of_z).__name__}"}

    @property
    def sizes(self) -> str:
        """The name of the encoder's class."""
        return type(self.of_x).__name__

    def encoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> Network:
        """The encoder's, as it was given."""
        del in_size, initialization, key
        return self.of_x

    def decoder(self, in_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray) -> Network:
        """The decoder's, as it was given."""
        del in_size, initialization, key
        return self.of_z


NETWORKS: Registry[NetworkSpec] = Registry("network", Mlp, base=NetworkSpec)


def out_size_of(network: Network, in_size: int) -> int:
    """Length of h = network(x), by shapes alone.

    Raises:
        ValueError: h is not one vector.
    """
    try:
        h = eqx.filter_eval_shape(network, jnp.zeros(in_size))
    except Exception as error:  # of the module's own code, which its user must see
        error.add_note(f"{type(network).__name__}, given as a network, was called with a vector of {in_size} numbers")
        raise
    if not isinstance(h, jax.ShapeDtypeStruct) or len(h.shape) != 1:
        raise ValueError(f"a network must give one vector, of {in_size} numbers it gave {h}")
    return h.shape[0]
