"""Cross-entropy of grey values: what the Keras example minimises, under its own name."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints


class BernoulliCrossEntropy(dist.Distribution):
    r"""Minus the cross-entropy between a grey value x in [0, 1] and a Bernoulli with the given logit l.

    `log_prob(x)` is x l - log(1 + e^l) = x log y + (1 - x) log(1 - y), with y = sigmoid(l). At x in {0, 1} it is the
    Bernoulli's log-probability. Between them it is **not the logarithm of a normalised density**: nothing that is
    computed with it bounds log p(x), and numbers from it cannot be compared with those of binary data. It exists
    because most public VAE codes, the Keras notebook among them, train on grey pixels in this way.

    Args:
        logits: log-odds l, any real numbers.

    Example:
        >>> d = BernoulliCrossEntropy(jnp.array([0.0, 2.0]))
        >>> print(d.log_prob(jnp.array([0.5, 1.0])).round(4))
        [-0.6931 -0.1269]
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (NumPyro's protocol)
    support = constraints.unit_interval

    def __init__(self, logits: Float[Array, "*shape"], *, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(batch_shape=jnp.shape(logits), validate_args=validate_args)

    def log_prob(self, value: Float[Array, "*shape"], intermediates: object = None) -> Float[Array, "*shape"]:
        """Minus the cross-entropy, in nats; same shape as the logits."""
        return value * self.logits - jax.nn.softplus(self.logits)

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Binary draws from the Bernoulli with these logits."""
        assert key is not None  # NumPyro's signature allows None, no sampler of its does
        draws = jax.random.bernoulli(key, jax.nn.sigmoid(self.logits), sample_shape + self.batch_shape)
        return draws.astype(jnp.result_type(self.logits))

    @property
    def mean(self) -> Float[Array, "*shape"]:
        """sigmoid(l)."""
        return jax.nn.sigmoid(self.logits)

    @property
    def variance(self) -> Float[Array, "*shape"]:
        """y (1 - y), that of the binary draws."""
        return self.mean * (1.0 - self.mean)
