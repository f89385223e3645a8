"""The encoder: a network, affine maps of what it gives, and q(z | x) of these."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution

from ._contracts import AbstractRecognitionModel
from .networks import Initialization, Linear, Mlp, Network, NetworkSpec, out_size_of
from .posteriors import AbstractFlow, FlowDistribution, GaussianPosterior, PosteriorSpec


class Encoder(AbstractRecognitionModel):
    r"""q(z | x): h = network(x), raw outputs r_k = W_k h + b_k, and the posterior's distribution of (r_1, r_2, ...).

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        network: a `NetworkSpec`, or any callable Equinox module from (D,) to a vector h.
        spec: which posterior.
        initialization: of the weights; see `Linear`.
        key: for the initial weights.

    Example:
        >>> import jax.numpy as jnp
        >>> Encoder(4, 2, Mlp((3,)), key=jax.random.key(0)).posterior(jnp.ones(4)).event_shape
        (2,)
    """

    network: Network
    maps: dict[str, Linear]
    flow: AbstractFlow | None
    spec: PosteriorSpec = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        network: NetworkSpec | Network = Mlp(),  # noqa: B008  # frozen
        spec: PosteriorSpec = GaussianPosterior(),  # noqa: B008
        initialization: Initialization = "glorot",
        *,
        key: PRNGKeyArray,
    ):
        sizes = spec.sizes(latent_dim)
        network_key, *keys = jax.random.split(key, 1 + len(sizes) + spec.has_flow)
        if isinstance(network, NetworkSpec):
            network = network.encoder(data_dim, initialization, key=network_key)
        self.network, self.spec = network, spec
        h = out_size_of(network, data_dim)
        self.maps = affine_maps(sizes, h, initialization, keys)
        self.flow = spec.make_flow(latent_dim, h, key=keys[-1])

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """q(z | x), over J dimensions."""
        h = self.network(x)
        q = self.spec.distribution({name: map(h) for name, map in self.maps.items()})
        return q if self.flow is None else FlowDistribution(q, self.flow, h)


def affine_maps(
    sizes: dict[str, int], in_size: int, initialization: Initialization, keys: list[PRNGKeyArray]
) -> dict[str, Linear]:
    """One `Linear` for each raw output that has a size."""
    return {
        name: Linear(in_size, size, initialization, key=key)
        for (name, size), key in zip(sizes.items(), keys, strict=False)
        if size
    }
