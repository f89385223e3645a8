"""The Bernoulli by its logit, and the cross-entropy of grey values, which the Keras example minimises."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real
from numpyro.distributions import constraints


@jax.custom_jvp
def softplus(l: ArrayLike) -> Float[Array, "..."]:  # noqa: E741
    """log(1 + e^l), with the sigmoid for its derivative.

    `jax.nn.softplus` takes care of cases that cannot occur here, which costs half of the time of a training step's
    elementwise work.
    """
    return jnp.maximum(l, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(l)))


@softplus.defjvp
def _softplus_jvp(primals: tuple[ArrayLike], tangents: tuple[ArrayLike]) -> tuple[Array, Array]:
    return softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


def _cross_entropy(x: Real[Array, "*shape"], logits: Float[Array, "*#shape"]) -> Float[Array, "*shape"]:
    """x log y + (1 - x) log(1 - y), y = sigmoid(logits)."""
    return x * logits - softplus(logits)


class Bernoulli(dist.BernoulliLogits):
    r"""Bernoulli with logit l: log p(x) = x l - log(1 + e^l).

    NumPyro's, but for the log-probability, whose gradient there is wrong at l = 0 exactly (1 in the place of 1/2): the
    logit that a network with zero weights starts from. And off {0, 1} the log-probability is -inf, where there it is
    finite, and positive for a pixel of 255.

    Args:
        logits: log-odds l, any real numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> print(jax.grad(lambda l: Bernoulli(l).log_prob(jnp.array(1.0)))(0.0))
        0.5
    """

    def log_prob(self, value: Real[Array, "*shape"], intermediates: object = None) -> Float[Array, "*shape"]:
        """In nats; same shape as the logits; -inf at what is neither 0 nor 1."""
        outside = jnp.where(jnp.equal(value, 0) | jnp.equal(value, 1), 0.0, -jnp.inf)
        return _cross_entropy(value, self.logits) + outside

    @property
    def variance(self) -> Float[Array, "*shape"]:
        """y (1 - y), which does not round to zero at a large logit as NumPyro's does."""
        return jax.nn.sigmoid(self.logits) * jax.nn.sigmoid(-self.logits)


class BernoulliCrossEntropy(Bernoulli):
    r"""Minus the cross-entropy between a grey value x in [0, 1] and a Bernoulli with the given logit l.

    `log_prob(x)` is x log y + (1 - x) log(1 - y), with y = sigmoid(l). At x in {0, 1} it is the Bernoulli's
    log-probability. Between them it is **not the logarithm of a normalised density**: nothing that is computed with it
    bounds log p(x), and numbers from it cannot be compared with those of binary data. It exists because most public VAE
    codes, the Keras notebook among them, train on grey pixels in this way. Its samples are binary.

    Args:
        logits: log-odds l, any real numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> d = BernoulliCrossEntropy(jnp.array([0.0, 2.0]))
        >>> print(d.log_prob(jnp.array([0.5, 1.0])).round(4))
        [-0.6931 -0.1269]
    """

    support = constraints.unit_interval

    def log_prob(self, value: Real[Array, "*shape"], intermediates: object = None) -> Float[Array, "*shape"]:
        """Minus the cross-entropy, in nats; same shape as the logits."""
        return _cross_entropy(value, self.logits)
