"""What a model must offer. The split is the paper's own: eq. 6 needs log p(x, z), eq. 7 needs p(z) and p(x | z).

The library asks a model through the functions at the end, `prior_of` to `log_joint_of`, and never by its own methods:
they hold what comes back against what must come, by static shapes, when a program is traced. Nothing of that is left
when it runs.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.distributions import Distribution, has_point_mass
from aevb.errors import UnavailableError


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
        return log_likelihood_of(self, x, z) + log_prior_of(self, z)

    def sample(self, key: PRNGKeyArray) -> tuple[Real[Array, "*x"], Float[Array, "*z"]]:
        """An ancestral sample (x, z)."""
        z_key, x_key = jax.random.split(key)
        z = prior_of(self).sample(z_key)
        return likelihood_of(self, z).sample(x_key), z


class AbstractRecognitionModel(eqx.Module):
    """The recognition model q_phi(z | x), the probabilistic encoder, of ONE example."""

    @abc.abstractmethod
    def posterior(self, x: Float[Array, "*x"]) -> Distribution:
        """q_phi(z | x), with the latent's shape as its event shape."""


# --- what a model is asked, and what it must answer -------------------------------------------------------------------


def prior_of(generative: AbstractPriorLikelihood) -> Distribution:
    """p(z) of a model in two parts.

    Raises:
        ValueError: it is several distributions, not one over the whole of z.
    """
    return _one_distribution(generative.prior(), _method(generative, "prior"), "z")


def likelihood_of(generative: AbstractPriorLikelihood, z: Real[Array, "*z"]) -> Distribution:
    """p(x | z) of a model in two parts.

    Raises:
        ValueError: it is several distributions, not one over the whole of x.
    """
    return _one_distribution(generative.likelihood(z), _method(generative, "likelihood"), "x")


def posterior_of(recognition: AbstractRecognitionModel, x: Real[Array, "*x"]) -> Distribution:
    """q(z | x).

    Raises:
        ValueError: it is several distributions, not one over the whole of z.
        UnavailableError: it is a point, or made of points, and has no density.
    """
    q = _one_distribution(recognition.posterior(x), _method(recognition, "posterior"), "z")
    if has_point_mass(q):
        raise UnavailableError(
            f"{_method(recognition, 'posterior')} must have a density q(z | x), but holds a Delta. The KL divergence "
            "from a point to any prior with a density is infinite, so no lower bound on log p(x) can be made of it; "
            "use a Normal with a small scale, say"
        )
    return q


def posterior_and_prior(
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, x: Real[Array, "*x"]
) -> tuple[Distribution, Distribution]:
    """q(z | x) and p(z), to be compared with each other.

    Raises:
        ValueError: one of them is several distributions, or they are over z of different shapes.
    """
    q, p = posterior_of(recognition, x), prior_of(generative)
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"{_method(recognition, 'posterior')} is over z of shape {q.event_shape}, but "
            f"{_method(generative, 'prior')} over z of shape {p.event_shape}; give the two the same shape"
        )
    return q, p


def log_prior_of(generative: AbstractPriorLikelihood, z: Real[Array, "*z"]) -> Float[Array, ""]:
    """log p(z), in nats: one number.

    Raises:
        ValueError: the prior is not over z of this shape, or its log-density is not one number.
    """
    return _log_density(prior_of(generative), z, _method(generative, "prior"), "z")


def log_likelihood_of(
    generative: AbstractPriorLikelihood, x: Real[Array, "*x"], z: Real[Array, "*z"]
) -> Float[Array, ""]:
    """log p(x | z), in nats: one number.

    Raises:
        ValueError: the likelihood is not over x of this shape, or its log-density is not one number.
    """
    return _log_density(likelihood_of(generative, z), x, _method(generative, "likelihood"), "x")


def log_joint_of(generative: AbstractGenerativeModel, x: Real[Array, "*x"], z: Real[Array, "*z"]) -> Float[Array, ""]:
    """log p(x, z), in nats: one number.

    Raises:
        ValueError: it is not one number; or, of a model in two parts, as `log_prior_of` and `log_likelihood_of`.

    Example:
        >>> from aevb.models import BernoulliGenerative
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> log_joint_of(g, jnp.ones(4), jnp.zeros(2)).shape
        ()
        >>> log_joint_of(g, jnp.ones(3), jnp.zeros(2))
        Traceback (most recent call last):
        ...
        ValueError: likelihood() of BernoulliGenerative is over x of shape (4,), but x has shape (3,); ...
    """
    return one_number(generative.log_joint(x, z), f"{_method(generative, 'log_joint')}")


def one_number(value: Array, what: str, shape: tuple[int, ...] = ()) -> Float[Array, "*shape"]:
    """A log-density as it is, if it is one number per example (or per sample, of which there are `shape`).

    Raises:
        ValueError: it is not.
    """
    if jnp.shape(value) != shape:
        each = "one number for one example" if shape == () else f"one number for each of {shape[0]} samples"
        raise ValueError(
            f"{what} must give {each}, but gave an array of shape {jnp.shape(value)}; add .to_event(1) to its "
            "distributions, or sum over the dimensions"
        )
    return jnp.asarray(value)


def _log_density(p: Distribution, value: Array, what: str, name: str) -> Float[Array, ""]:
    if p.event_shape != jnp.shape(value):
        raise ValueError(
            f"{what} is over {name} of shape {p.event_shape}, but {name} has shape {jnp.shape(value)}; give the two "
            "the same shape, for nothing is broadcast"
        )
    return one_number(p.log_prob(value), f"the log-density of {what}")


def _one_distribution(p: Any, what: str, name: str) -> Distribution:
    if not isinstance(p, Distribution):
        raise TypeError(f"{what} must return a distribution, but returned {type(p).__name__}")
    if p.batch_shape != ():
        raise ValueError(
            f"{what} must return one distribution over the whole of {name}, but returned {type(p).__name__} with batch "
            f"shape {p.batch_shape} and event shape {p.event_shape}; add .to_event({len(p.batch_shape)})"
        )
    found: Distribution = p
    return found


def _method(model: eqx.Module, name: str) -> str:
    return f"{name}() of {type(model).__name__}"
