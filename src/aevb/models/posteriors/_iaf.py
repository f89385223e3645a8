"""The inverse autoregressive flow of ONE vector."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.models.networks import Activation, MaskedNetwork

from ._flows import AbstractFlow, bounded, check_sizes

# A gate's argument at the start, where s = sigmoid(3) = 0.95; and how far its network can move it. Its network's raw
# output of zero must be near "pass through", or a new flow forgets its input (Kingma et al. 2016, section 4).
_OPEN, _GATE_BOUND = 3.0, 6.0


class InverseAutoregressiveFlow(AbstractFlow):
    r"""Steps z <- s * z + (1 - s) * m, with (s, m)_j computed from z_1 .. z_{j-1} and the context.

    s = sigmoid(3 + bounded(r)), and r and m are a `MaskedNetwork`'s outputs. As dz_j/dz_k = 0 for k > j, the Jacobian
    is triangular and its log-determinant is sum_j log s_j. Every second step runs through the dimensions in reverse
    order, so that each may depend on each other one. Kingma et al. (2016), eqs. 13 and 14 and Algorithm 1.

    `forward` costs one pass through each step's network, `inverse` J of them: sampling with its density is cheap, the
    density at a given z is not. With J = 1 the networks see the context alone, and the flow is an affine map of eps.
    A new flow is near the identity: a scaling by 0.95 a step.

    Args:
        latent_dim: J.
        context_dim: C, length of the context; 0 for none.
        steps: how many; two at least, for dimensions to depend on each other both ways.
        hidden: units of the masked hidden layers of each step's network.
        activation: of the hidden layers.
        key: for the initial weights.

    Example:
        >>> flow = InverseAutoregressiveFlow(3, 0, steps=2, hidden=(16,), key=jax.random.key(0))
        >>> eps = jnp.array([1.0, -2.0, 0.5])
        >>> z, log_det = flow.forward(eps)
        >>> back, same_log_det = flow.inverse(z)
        >>> print(back.round(4), jnp.allclose(log_det, same_log_det))
        [ 1.  -2.   0.5] True
    """

    slow_inverse: ClassVar[bool] = True
    networks: tuple[MaskedNetwork, ...]
    latent_dim: int = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self,
        latent_dim: int,
        context_dim: int,
        *,
        steps: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        key: PRNGKeyArray,
    ):
        check_sizes(latent_dim, context_dim, steps)
        keys = jax.random.split(key, steps)
        self.networks = tuple(MaskedNetwork(latent_dim, context_dim, hidden, activation, key=k) for k in keys)
        self.latent_dim, self.context_dim = latent_dim, context_dim

    def forward(
        self, eps: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(z, log |det dz/deps|), in one pass."""
        context = self._checked(context)
        z, log_det = eps, jnp.zeros((), eps.dtype)
        for t, network in enumerate(self.networks):
            z = _in_order_of_step(t, z)
            log_s, log_1_s, m = _gate(network, z, context)
            z = jnp.exp(log_s) * z + jnp.exp(log_1_s) * m
            log_det = log_det + jnp.sum(log_s)  # det of a triangular matrix: the product of its diagonal
            z = _in_order_of_step(t, z)
        return z, log_det

    def inverse(
        self, z: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(eps, log |det dz/deps|), in J passes; exact, and differentiable."""
        context = self._checked(context)
        eps, log_det = z, jnp.zeros((), z.dtype)
        for t, network in reversed(list(enumerate(self.networks))):
            eps, log_s = _undo_step(network, _in_order_of_step(t, eps), context)
            log_det = log_det + jnp.sum(log_s)
            eps = _in_order_of_step(t, eps)
        return eps, log_det


def _gate(network: MaskedNetwork, z: Array, context: Array) -> tuple[Array, Array, Array]:
    """log s, log (1 - s) and m of one step; s = sigmoid(a), so log s = -softplus(-a) and log (1 - s) = -softplus(a)."""
    raw, m = network(z, context)
    a = _OPEN + bounded(raw, _GATE_BOUND)
    return -jax.nn.softplus(-a), -jax.nn.softplus(a), m


def _undo_step(network: MaskedNetwork, z: Array, context: Array) -> tuple[Array, Array]:
    """(eps, log s) of one step: eps_j = (z_j - (1 - s_j) m_j) / s_j, for j = 1 .. J in turn.

    Coordinates not yet known stay at zero: the masks keep them out of pass j, and zero times a weight is no NaN.
    """

    def one(eps: Array, j: Array) -> tuple[Array, None]:
        log_s, log_1_s, m = _gate(network, eps, context)
        solved = (z - jnp.exp(log_1_s) * m) * jnp.exp(-log_s)
        return jnp.where(jnp.arange(z.shape[0]) == j, solved, eps), None

    eps, _ = jax.lax.scan(one, jnp.zeros_like(z), jnp.arange(z.shape[0]))
    return eps, _gate(network, eps, context)[0]


def _in_order_of_step(t: int, z: Array) -> Array:
    """Every second step sees the dimensions in reverse. Its own inverse."""
    return z[::-1] if t % 2 else z
