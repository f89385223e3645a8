"""The decoder: a prior, a network, affine maps of what it gives, and p(x | z) of these."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution, Normal

from ._contracts import AbstractPriorLikelihood
from ._encoder import affine_maps
from .likelihoods import BernoulliLikelihood, LikelihoodSpec
from .networks import Initialization, Linear, Mlp, Network, NetworkSpec, out_size_of
from .priors import AbstractPrior, StandardPrior


class StandardNormalPrior(AbstractPriorLikelihood):
    """p(z) = N(0, I), without parameters: for a model of one's own that writes its `likelihood` and nothing else."""

    latent_dim: eqx.AbstractVar[int]

    def prior(self) -> Distribution:
        """N(0, I) over J dimensions."""
        return Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)).to_event(1)


class Decoder(AbstractPriorLikelihood):
    r"""p(x, z): p(z) of a prior's module; h = network(z), raw outputs r_k = W_k h + b_k, and p(x | z) of these.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        network: a `NetworkSpec`, whose decoder it is, or any callable Equinox module from (J,) to a vector h.
        spec: which likelihood.
        initialization: of the weights; see `Linear`.
        biases: initial biases of some raw outputs, as `LikelihoodSpec.start` gives them; the others as
            `initialization` says.
        prior: of z; None: N(0, I).
        angles: z are angles, and the network sees (cos z, sin z): a decoder of z itself would jump where the circle is
            cut, and no gradient through a sample of z knows of that jump.
        key: for the initial weights.

    Example:
        >>> Decoder(4, 2, Mlp((3,)), key=jax.random.key(0)).likelihood(jnp.zeros(2)).mean
        Array([0.5, 0.5, 0.5, 0.5], dtype=float32)
    """

    network: Network
    maps: dict[str, Linear]
    latent_prior: AbstractPrior
    latent_dim: int = eqx.field(static=True)
    angles: bool = eqx.field(static=True)
    spec: LikelihoodSpec = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        network: NetworkSpec | Network = Mlp(),  # noqa: B008  # frozen
        spec: LikelihoodSpec = BernoulliLikelihood(),  # noqa: B008
        initialization: Initialization = "glorot",
        *,
        biases: Mapping[str, Float[Array, " _"]] | None = None,
        prior: AbstractPrior | None = None,
        angles: bool = False,
        key: PRNGKeyArray,
    ):
        sizes = spec.sizes(data_dim)
        network_key, *keys = jax.random.split(key, 1 + len(sizes))
        in_size = 2 * latent_dim if angles else latent_dim
        if isinstance(network, NetworkSpec):
            network = network.decoder(in_size, initialization, key=network_key)
        self.network, self.spec = network, spec
        maps = affine_maps(sizes, out_size_of(network, in_size), initialization, keys)
        for name, bias in (biases or {}).items():
            maps[name] = eqx.tree_at(lambda layer: layer.bias, maps[name], bias)
        self.maps = maps
        self.latent_prior = StandardPrior(latent_dim) if prior is None else prior
        self.latent_dim, self.angles = latent_dim, angles

    def prior(self) -> Distribution:
        """p(z) over J dimensions."""
        return self.latent_prior.distribution()

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """p(x | z) over D numbers."""
        h = self.network(jnp.concatenate([jnp.cos(z), jnp.sin(z)]) if self.angles else z)
        return self.spec.distribution({name: map(h) for name, map in self.maps.items()})
