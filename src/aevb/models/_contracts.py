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
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Real

from aevb.distributions import Distribution, Sequential, has_point_mass
from aevb.errors import UnavailableError

from ._examples import X


class AbstractGenerativeModel(eqx.Module):
    """The generative model p_theta(x, z) of ONE example. All that estimator A asks for."""

    @abc.abstractmethod
    def log_joint(self, x: X, z: Float[Array, "*z"]) -> Float[Array, ""]:
        """log p_theta(x, z) = log p(x | z) + log p(z), in nats."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, *given: Any) -> tuple[X, Float[Array, "*z"]]:
        """An ancestral sample: z ~ p(z), then x ~ p(x | z). Returns (x, z)."""


class AbstractPriorLikelihood(AbstractGenerativeModel):
    """A generative model in two parts, p(z) and p(x | z). What estimator B adds to estimator A's needs.

    A conditional model, p(x | z, c) p(z | c), is one that says what of an example is given: `split` takes an example
    apart (and `join` puts it together again, (observed, *given) unless it says otherwise), and `prior(c)` and
    `likelihood(z, c)` are handed what is given. The recognition model sees the whole example.
    """

    @abc.abstractmethod
    def prior(self, *given: Any) -> Distribution:
        """p_theta(z | given), with the latent's shape as its event shape."""

    @abc.abstractmethod
    def likelihood(self, z: Float[Array, "*z"], *given: Any) -> Distribution:
        """p_theta(x | z, given), with the shape of what is observed as its event shape."""

    def split(self, x: X) -> tuple[PyTree[Array], tuple[Any, ...]]:
        """(observed, given): nothing is given but where a model says so by a `split` of its own."""
        return x, ()

    def join(self, observed: PyTree[Array], *given: Any) -> X:
        """The example that `split` takes apart: (observed, *given), or what is observed where nothing is given.

        A model whose examples are of another form, or in another order, writes its own: simulated ones are made by it.
        """
        return (observed, *given) if given else observed

    @property
    def is_conditional(self) -> bool:
        """Whether something of an example is given."""
        return type(self).split is not AbstractPriorLikelihood.split

    def log_likelihood(self, x: X, z: Float[Array, "*z"]) -> Float[Array, ""]:
        """log p(x | z, given), in nats."""
        observed, given = self.split(x)
        return _log_density(likelihood_given(self, z, *given), observed, _method(self, "likelihood"), "x")

    def log_joint(self, x: X, z: Float[Array, "*z"]) -> Float[Array, ""]:
        """log p(x | z) + log p(z), in nats."""
        return log_likelihood_of(self, x, z) + log_prior_of(self, x, z)

    def sample(self, key: PRNGKeyArray, *given: Any) -> tuple[X, Float[Array, "*z"]]:
        """An ancestral sample (x, z), given what is given."""
        z_key, x_key = jax.random.split(key)
        z = prior_given(self, *given).sample(z_key)
        return self.join(likelihood_given(self, z, *given).sample(x_key), *given), z


class AbstractRecognitionModel(eqx.Module):
    """The recognition model q_phi(z | x), the probabilistic encoder, of ONE example."""

    @abc.abstractmethod
    def posterior(self, x: X) -> Distribution:
        """q_phi(z | x), with the latent's shape as its event shape."""


# --- what a model is asked, and what it must answer -------------------------------------------------------------------


def given_of(generative: AbstractGenerativeModel, x: X) -> tuple[Any, ...]:
    """What of an example is given; nothing but in a conditional model."""
    return generative.split(x)[1] if isinstance(generative, AbstractPriorLikelihood) else ()


def check_join(generative: AbstractGenerativeModel, x: X) -> None:
    """Hold an example against what `join` makes of the parts that `split` takes it into: it must be the same.

    Args:
        generative: p(x, z).
        x: an example with values; one without, as in a trace, is let pass.

    Raises:
        ValueError: it is another one, so that simulated examples would be none of the model's.
    """
    if not isinstance(generative, AbstractPriorLikelihood):
        return
    observed, given = generative.split(x)
    again = generative.join(observed, *given)
    pairs = list(zip(jax.tree.leaves(again), jax.tree.leaves(x), strict=False))
    if any(isinstance(leaf, jax.core.Tracer) for pair in pairs for leaf in pair):
        return
    same_form = str(jax.tree.structure(again)) == str(jax.tree.structure(x))
    if not same_form or not all(np.shape(a) == np.shape(b) and np.allclose(a, b, equal_nan=True) for a, b in pairs):
        raise ValueError(
            f"{_method(generative, 'join')} does not undo its split(): of an example, taken apart and joined, came "
            "another one; write a join(observed, *given) that gives back the example that split takes apart"
        )


def prior_given(generative: AbstractPriorLikelihood, *given: Any) -> Distribution:
    """p(z | given) of a model in two parts.

    Raises:
        ValueError: it is several distributions, not one over the whole of z.
    """
    return _one_distribution(generative.prior(*given), _method(generative, "prior"), "z")


def likelihood_given(generative: AbstractPriorLikelihood, z: Real[Array, "*z"], *given: Any) -> Distribution:
    """p(x | z, given) of a model in two parts.

    Raises:
        ValueError: it is several distributions, not one over the whole of x.
    """
    return _one_distribution(generative.likelihood(z, *given), _method(generative, "likelihood"), "x")


def prior_of(generative: AbstractPriorLikelihood, x: X) -> Distribution:
    """p(z), or p(z | given) for what is given in x: `prior_given`."""
    return prior_given(generative, *given_of(generative, x))


def posterior_of(recognition: AbstractRecognitionModel, x: X) -> Distribution:
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
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, x: X
) -> tuple[Distribution, Distribution]:
    """q(z | x) and p(z), to be compared with each other.

    Raises:
        ValueError: one of them is several distributions, or they are over z of different shapes, or different layers.
    """
    q, p = posterior_of(recognition, x), prior_of(generative, x)
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"{_method(recognition, 'posterior')} is over z of shape {q.event_shape}, but "
            f"{_method(generative, 'prior')} over z of shape {p.event_shape}; give the two the same shape"
        )
    if isinstance(q, Sequential) and isinstance(p, Sequential) and q.layout != p.layout:
        raise ValueError(
            f"{_method(recognition, 'posterior')} lays z out as {q.layout}, but {_method(generative, 'prior')} as "
            f"{p.layout}; give the two the same sizes, in one order (that of their factors may differ)"
        )
    return q, p


def log_prior_of(generative: AbstractPriorLikelihood, x: X, z: Real[Array, "*z"]) -> Float[Array, ""]:
    """log p(z), or log p(z | given) for what is given in x, in nats: one number.

    Raises:
        ValueError: the prior is not over z of this shape, or its log-density is not one number.
    """
    return _log_density(prior_of(generative, x), z, _method(generative, "prior"), "z")


def log_likelihood_of(generative: AbstractPriorLikelihood, x: X, z: Real[Array, "*z"]) -> Float[Array, ""]:
    """log p(x | z), in nats: one number.

    Raises:
        ValueError: the likelihood is not over x of this shape, or its log-density is not one number.
    """
    return one_number(generative.log_likelihood(x, z), _method(generative, "log_likelihood"))


def log_joint_of(generative: AbstractGenerativeModel, x: X, z: Real[Array, "*z"]) -> Float[Array, ""]:
    """log p(x, z), in nats: one number.

    Raises:
        ValueError: it is not one number; or, of a model in two parts, as `log_prior_of` and `log_likelihood_of`.

    Example:
        >>> from aevb.models import Decoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> log_joint_of(g, jnp.ones(4), jnp.zeros(2)).shape
        ()
        >>> log_joint_of(g, jnp.ones(3), jnp.zeros(2))
        Traceback (most recent call last):
        ...
        ValueError: likelihood() of Decoder is over x of shape (4,), but x has shape (3,); ...
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


def _log_density(p: Distribution, value: Any, what: str, name: str) -> Float[Array, ""]:
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(
            f"{what} is a distribution over one array, but {name} is {type(value).__name__}; write a split(x) that "
            "takes out what is observed, or a log_likelihood(x, z) of the model's own"
        )
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
