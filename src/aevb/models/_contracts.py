"""What a model must offer. The split is the paper's own: eq. 6 needs log p(x, z), eq. 7 needs p(z) and p(x | z)."""

import abc

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.distributions import Distribution


class AbstractGenerativeModel(eqx.Module):
    """The generative model p_theta(x, z) of ONE example. All that estimator A asks for."""

    @abc.abstractmethod
    def log_joint(self, x: Float[Array, "*x"], z: Float[Array, "*z"]) -> Float[Array, ""]:
        """log p_theta(x, z) = log p(x | z) + log p(z), in nats."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> tuple[Real[Array, "*x"], Float[Array, "*z"]]:
        """An ancestral sample: z ~ p(z), then x ~ p(x | z). Returns (x, z)."""


class AbstractPriorLikelihood(AbstractGenerativeModel):
    """A generative model in two parts, p(z) and p(x | z). What estimator B adds to estimator A's needs."""

    @abc.abstractmethod
    def prior(self) -> Distribution:
        """p_theta(z), with the latent's shape as its event shape."""

    @abc.abstractmethod
    def likelihood(self, z: Float[Array, "*z"]) -> Distribution:
        """p_theta(x | z), with the example's shape as its event shape."""

    def log_joint(self, x: Float[Array, "*x"], z: Float[Array, "*z"]) -> Float[Array, ""]:
        """log p(x | z) + log p(z), in nats."""
        return self.likelihood(z).log_prob(x) + self.prior().log_prob(z)

    def sample(self, key: PRNGKeyArray) -> tuple[Real[Array, "*x"], Float[Array, "*z"]]:
        """An ancestral sample (x, z)."""
        z_key, x_key = jax.random.split(key)
        z = self.prior().sample(z_key)
        return self.likelihood(z).sample(x_key), z


class AbstractRecognitionModel(eqx.Module):
    """The recognition model q_phi(z | x), the probabilistic encoder, of ONE example."""

    @abc.abstractmethod
    def posterior(self, x: Float[Array, "*x"]) -> Distribution:
        """q_phi(z | x), with the latent's shape as its event shape."""
