"""The models that can be named in a configuration and written to a file: a closed list, described by plain values."""

from dataclasses import dataclass
from typing import Literal

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ._networks import ACTIVATIONS, Activation, Initialization
from ._vae import BernoulliGenerative, GaussianGenerative, GaussianRecognition


@dataclass(frozen=True)
class Architecture:
    """A variational auto-encoder in plain values: enough to build it, nothing that could run code.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse order.
        activation: of the hidden layers.
        likelihood: family of p(x | z).
        grey: bernoulli only: x are grey values, and `log_prob` is minus a cross-entropy.
        sigmoid_mean: gaussian only.
        min_scale: gaussian only.

    Raises:
        ValueError: a value is out of range, or not one of the closed list.
    """

    data_dim: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: Activation
    likelihood: Literal["bernoulli", "gaussian"]
    grey: bool = False
    sigmoid_mean: bool = False
    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        sizes = (self.data_dim, self.latent_dim, *self.hidden)
        if not all(isinstance(s, int) and 1 <= s <= 10_000_000 for s in sizes) or len(self.hidden) > 1000:
            raise ValueError(f"sizes of layers must be whole numbers of at least 1, got {sizes}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if self.likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"unknown likelihood {self.likelihood!r}; choose bernoulli or gaussian")
        if not 0 < self.min_scale < float("inf"):
            raise ValueError(f"min_scale must be positive and finite, got {self.min_scale}")


def build(
    architecture: Architecture,
    *,
    initialization: Initialization = "glorot",
    output_bias: Float[Array, " D"] | None = None,
    key: PRNGKeyArray,
) -> tuple[BernoulliGenerative | GaussianGenerative, GaussianRecognition]:
    """The generative and the recognition model of an architecture, at their initial parameters.

    Args:
        architecture: what to build.
        initialization: of the weights.
        output_bias: of the decoder's mean or logits, shape (D,); None: as `initialization` says.
        key: for the initial weights.
    """
    a = architecture
    p_key, q_key = jax.random.split(key)
    recognition = GaussianRecognition(a.data_dim, a.latent_dim, a.hidden, a.activation, initialization, key=q_key)
    shape = (a.data_dim, a.latent_dim, a.hidden[::-1], a.activation, initialization)
    if a.likelihood == "bernoulli":
        return BernoulliGenerative(*shape, output_bias=output_bias, grey=a.grey, key=p_key), recognition
    generative = GaussianGenerative(
        *shape, sigmoid_mean=a.sigmoid_mean, min_scale=a.min_scale, output_bias=output_bias, key=p_key
    )
    return generative, recognition
