"""The networks inside encoders and decoders."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._product import row_times_matrix

Activation = Literal["tanh", "relu", "softplus", "elu", "gelu", "silu", "sigmoid"]
Initialization = Literal["glorot", "paper"]

INITIALIZATIONS: tuple[str, ...] = get_args(Initialization)

ACTIVATIONS: MappingProxyType[Activation, Callable[[Array], Array]] = MappingProxyType(
    {
        "tanh": jnp.tanh,  # the paper's
        "relu": jax.nn.relu,
        "softplus": jax.nn.softplus,
        "elu": jax.nn.elu,
        "gelu": jax.nn.gelu,
        "silu": jax.nn.silu,
        "sigmoid": jax.nn.sigmoid,
    }
)


class Linear(eqx.Module):
    """An affine map, x W + b.

    `glorot`: W uniform on +-sqrt(6 / (in + out)), b = 0 (Glorot & Bengio 2010; Keras' default).
    `paper`: W and b from N(0, 0.01^2) (Kingma & Welling, section 5).

    Our own rather than Equinox's, whose W x becomes, under the two `vmap`s over rows and over samples, a product with
    the batch in its last axis: XLA then transposes every activation on its way.

    Args:
        in_size: length of x.
        out_size: length of the result.
        initialization: one of `INITIALIZATIONS`.
        key: for the initial weights.
    """

    weight: Float[Array, "in out"]
    bias: Float[Array, " out"]

    def __init__(self, in_size: int, out_size: int, initialization: Initialization = "glorot", *, key: PRNGKeyArray):
        w_key, b_key = jax.random.split(key)
        if initialization == "glorot":
            limit = (6.0 / (in_size + out_size)) ** 0.5
            self.weight = jax.random.uniform(w_key, (in_size, out_size), minval=-limit, maxval=limit)
            self.bias = jnp.zeros(out_size)
        elif initialization == "paper":
            self.weight = 0.01 * jax.random.normal(w_key, (in_size, out_size))
            self.bias = 0.01 * jax.random.normal(b_key, (out_size,))
        else:
            raise ValueError(f"unknown initialization {initialization!r}; choose one of {', '.join(INITIALIZATIONS)}")

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        """x W + b, for one example."""
        return row_times_matrix(x, self.weight) + self.bias


class MLP(eqx.Module):
    """Hidden layers of a perceptron: h <- f(W h + b), one after another.

    The paper's Appendix C has one hidden layer with f = tanh; any number is allowed here, none included (then the
    network is the identity and a model on top of it is linear).

    Args:
        in_size: length of the input.
        hidden: units of each hidden layer.
        activation: name of f, one of `ACTIVATIONS`.
        initialization: of the weights; see `Linear`.
        key: for the initial weights.
    """

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        key: PRNGKeyArray,
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        sizes = (in_size, *hidden)
        keys = jax.random.split(key, max(len(hidden), 1))
        self.layers = tuple(
            Linear(a, b, initialization, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=False)
        )
        self.activation = activation
        self.out_size = sizes[-1]

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        """The last hidden layer, for one example."""
        f = ACTIVATIONS[self.activation]
        for layer in self.layers:
            x = f(layer(x))
        return x
