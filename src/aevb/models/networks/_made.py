"""The autoregressive network of a flow: output j sees the context and the inputs before j (MADE)."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._mlp import ACTIVATIONS, Activation, Linear
from ._product import row_times_matrix


class MaskedNetwork(eqx.Module):
    r"""(r, m) with r_j and m_j functions of the context and of z_1 .. z_{j-1} alone.

    Every unit has a degree: the context's numbers 0, z_j has j, hidden units 0 .. J-1 in turn, r_j and m_j have j. A
    weight between a unit of degree a and the next layer's unit of degree b is kept where b >= a, into the outputs
    where b > a; the others are held at zero. So degree 0 sees the context only. Germain et al. (2015), eqs. 8-9.

    A layer of fewer than J units cannot have every degree: its degrees are spread over 0 .. J-1, and weights that lead
    straight from the inputs to the outputs (section 4.2 there) carry what would otherwise not be seen.

    The weights of the outputs are of the order of 0.01, so that both start near zero.

    Args:
        latent_dim: J.
        context_dim: C.
        hidden: units of the hidden layers; none: r and m are affine.
        activation: of the hidden layers.
        key: for the initial weights.

    Example:
        >>> network = MaskedNetwork(3, 0, (8,), key=jax.random.key(0))
        >>> m = lambda z: network(z, jnp.zeros(0))[1]
        >>> print((jax.jacobian(m)(jnp.ones(3)) != 0).astype(int))
        [[0 0 0]
         [1 0 0]
         [1 1 0]]
    """

    layers: tuple[Linear, ...]
    direct: Float[Array, "in out"] | None
    latent_dim: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        *,
        key: PRNGKeyArray,
    ):
        *keys, last = jax.random.split(key, len(hidden) + 1)
        sizes = (context_dim + latent_dim, *hidden)
        self.layers = (
            *(Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], hidden, keys, strict=True)),
            Linear(sizes[-1], 2 * latent_dim, "paper", key=last),
        )
        narrow = min(hidden, default=latent_dim) < latent_dim
        shape = (sizes[0], 2 * latent_dim)
        self.direct = 0.01 * jax.random.normal(jax.random.fold_in(key, 1), shape) if narrow else None
        self.latent_dim, self.activation = latent_dim, activation

    def __call__(
        self, z: Float[Array, " J"], context: Float[Array, " C"]
    ) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
        """(r, m) at one z."""
        f = ACTIVATIONS[self.activation]
        inputs = h = jnp.concatenate([context.astype(z.dtype), z])
        masks = self.masks()
        for layer, mask in zip(self.layers[:-1], masks[:-1], strict=True):
            h = f(row_times_matrix(h, jnp.where(mask, layer.weight, 0.0)) + layer.bias)
        last = self.layers[-1]
        out = row_times_matrix(h, jnp.where(masks[-1], last.weight, 0.0)) + last.bias
        if self.direct is not None:
            before = self._degrees()[0]
            out = out + row_times_matrix(inputs, jnp.where(self._into_outputs(before), self.direct, 0.0))
        r, m = jnp.split(out, 2)
        return r, m

    def masks(self) -> list[np.ndarray]:
        """One (in, out) array per layer, true where the weight is kept. Made from the sizes, so that none is stored."""
        degrees = self._degrees()
        masks = [after >= before[:, None] for before, after in itertools.pairwise(degrees)]
        return [*masks, self._into_outputs(degrees[-1])]

    def _degrees(self) -> list[np.ndarray]:
        """Of the units of each layer, that of the inputs first and that of the outputs left out."""
        j = self.latent_dim
        context_dim = self.layers[0].weight.shape[0] - j
        sizes = [layer.weight.shape[1] for layer in self.layers[:-1]]
        hidden = [np.arange(n) % j if n >= j else np.arange(n) * j // n for n in sizes]
        return [np.concatenate([np.zeros(context_dim, int), np.arange(1, j + 1)]), *hidden]

    def _into_outputs(self, degrees: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(1, self.latent_dim + 1), 2) > degrees[:, None]
