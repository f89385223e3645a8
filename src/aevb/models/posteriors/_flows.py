"""Normalising flows of ONE vector: what one is, the distribution that it makes of noise, and the affine coupling."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution, Reparameterized
from aevb.models.networks import MLP, Activation, Linear

# |log-scale| of one coupling stays below this: a factor of at most 20 at any input, and at least 1/20.
_LOG_SCALE_BOUND = 3.0


class AbstractFlow(eqx.Module):
    """An invertible, differentiable map of J numbers, which a context vector can steer."""

    latent_dim: eqx.AbstractVar[int]
    context_dim: eqx.AbstractVar[int]
    slow_inverse: ClassVar[bool] = False  # J passes of a network, not one

    @abc.abstractmethod
    def forward(
        self, eps: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(z, log |det dz/deps|)."""

    @abc.abstractmethod
    def inverse(
        self, z: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(eps, log |det dz/deps|): the log-determinant is that of `forward` at eps, not of the inverse."""

    def _checked(self, context: Array | None) -> Array:
        given = 0 if context is None else context.shape[0]
        if given != self.context_dim:
            raise ValueError(f"this flow was built for a context of {self.context_dim} numbers, got {given}")
        return jnp.zeros(0) if context is None else context


class CouplingFlow(AbstractFlow):
    r"""Layers that hold half of the coordinates and map the others affinely: z_b = eps_b * exp(a(eps_a)) + t(eps_a).

    The halves are the even and the odd coordinates and change places from layer to layer. The Jacobian is triangular,
    its log-determinant sum a, and both directions cost one pass. |a| < 3 at any input, so that no scale overflows.
    Dinh, Sohl-Dickstein & Bengio (2017), eqs. 6 to 9.

    With J = 1 there is nothing to hold: every layer is an affine map of the coordinate, from the context (or from its
    biases). A new flow is near the identity.

    Args:
        latent_dim: J.
        context_dim: C, length of the context; 0 for none.
        steps: layers; two at least, for every coordinate to be moved.
        hidden: units of the hidden layers of each layer's network.
        activation: of the hidden layers.
        key: for the initial weights.
    """

    trunks: tuple[MLP, ...]
    heads: tuple[Linear, ...]
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
        trunk_key, head_key = jax.random.split(key)
        in_size = context_dim + latent_dim
        self.trunks = tuple(MLP(in_size, hidden, activation, key=k) for k in jax.random.split(trunk_key, steps))
        # Weights of the order of 0.01: the first log-scales and shifts are near zero, and the map near the identity.
        self.heads = tuple(
            Linear(trunk.out_size, 2 * latent_dim, "paper", key=k)
            for trunk, k in zip(self.trunks, jax.random.split(head_key, steps), strict=True)
        )
        self.latent_dim, self.context_dim = latent_dim, context_dim

    def forward(
        self, eps: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(z, log |det dz/deps|), in one pass."""
        context = self._checked(context)
        z, log_det = eps, jnp.zeros((), eps.dtype)
        for t in range(len(self.heads)):
            log_scale, shift = self._affine(t, z, context)
            z = z * jnp.exp(log_scale) + shift
            log_det = log_det + jnp.sum(log_scale)
        return z, log_det

    def inverse(
        self, z: Float[Array, " J"], context: Float[Array, " C"] | None = None
    ) -> tuple[Float[Array, " J"], Float[Array, ""]]:
        """(eps, log |det dz/deps|), in one pass."""
        context = self._checked(context)
        eps, log_det = z, jnp.zeros((), z.dtype)
        for t in reversed(range(len(self.heads))):
            log_scale, shift = self._affine(t, eps, context)  # the held half is the same on both sides
            eps = (eps - shift) * jnp.exp(-log_scale)
            log_det = log_det + jnp.sum(log_scale)
        return eps, log_det

    def _affine(self, t: int, z: Array, context: Array) -> tuple[Array, Array]:
        """Log-scale and shift of layer t: zero at the coordinates that it holds, functions of these at the others."""
        held = (jnp.arange(self.latent_dim) % 2 == t % 2) & (self.latent_dim > 1)
        out = self.heads[t](self.trunks[t](jnp.concatenate([context.astype(z.dtype), jnp.where(held, z, 0.0)])))
        raw, shift = jnp.split(out, 2)
        return jnp.where(held, 0.0, bounded(raw, _LOG_SCALE_BOUND)), jnp.where(held, 0.0, shift)


class FlowDistribution(Reparameterized):
    """z = flow(eps), eps ~ noise: `Reparameterized`, but each direction's log-determinant comes from the same pass.

    Args:
        noise: p(eps), of event shape (J,), without batch axes.
        flow: of J numbers.
        context: of the flow.
    """

    def __init__(self, noise: Distribution, flow: AbstractFlow, context: Float[Array, " C"] | None = None):
        self.slow_density = flow.slow_inverse  # J passes for log q at a given z
        self._forward: Callable[[Array], tuple[Array, Array]] = lambda eps: flow.forward(eps, context)
        self._inverse: Callable[[Array], tuple[Array, Array]] = lambda z: flow.inverse(z, context)
        super().__init__(
            noise,
            lambda eps: self._forward(eps)[0],
            inverse=lambda z: self._inverse(z)[0],
            log_det=lambda eps: self._forward(eps)[1],
        )

    def rsample_and_log_prob(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*samples"]]:
        """z and log q(z) = log p(eps) - log |det dz/deps|, by the forward pass."""
        eps = self.noise.rsample(key, sample_shape)
        z, log_det = _over_samples(self._forward, eps)
        return z, self.noise.log_prob(eps) - log_det

    def log_prob(self, value: Float[Array, "*shape"], intermediates: object = None) -> Float[Array, "*samples"]:
        """log q(z) = log p(eps) - log |det dz/deps|, by the inverse pass."""
        eps, log_det = _over_samples(self._inverse, value)
        return self.noise.log_prob(eps) - log_det


def _over_samples(function: Callable[[Array], tuple[Array, Array]], values: Array) -> tuple[Array, Array]:
    """A function of one vector, over all axes but the last."""
    for _ in range(values.ndim - 1):
        function = jax.vmap(function)
    return function(values)


def check_sizes(latent_dim: int, context_dim: int, steps: int) -> None:
    if latent_dim < 1 or context_dim < 0 or steps < 1:
        raise ValueError(
            f"a flow needs latent_dim >= 1, context_dim >= 0 and steps >= 1, got {latent_dim}, {context_dim}, {steps}"
        )


def check_flow(spec: Any) -> None:
    """The options of a spec of a flow: `steps` and `hidden`."""
    spec.require(1 <= spec.steps <= 1000, "steps", "must lie between 1 and 1,000")
    spec.require(
        all(1 <= units <= 10_000_000 for units in spec.hidden), "hidden", "needs 1 to 10,000,000 units a layer"
    )


def bounded(raw: Float[Array, "*shape"], bound: float) -> Float[Array, "*shape"]:
    """A smooth, odd, increasing function of slope 1 at zero that stays within +-bound: raw / (1 + |raw| / bound).

    A hyperbolic tangent would do the same, with a gradient that rounds to zero at raw = 10 bounds; this one falls off
    like 1 / raw^2 and is never zero.
    """
    return raw / (1.0 + jnp.abs(raw) / bound)
