"""The auto-encoder's parts, one class per network-with-a-distribution: those of Appendix C, and two more decoders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import (
    Bernoulli,
    BernoulliCrossEntropy,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Distribution,
    Normal,
    positive_scale,
)

from ._contracts import AbstractPriorLikelihood, AbstractRecognitionModel
from ._networks import MLP, Activation, Initialization, Linear
from ._priors import AbstractPrior, StandardPrior


class GaussianRecognition(AbstractRecognitionModel):
    r"""Gaussian MLP as encoder (Appendix C.2): q(z | x) = N(mu, diag sigma^2).

    h = MLP(x); mu = W_mu h + b_mu; sigma = positive_scale(W_sigma h + b_sigma).

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the network; see `MLP`.
        key: for the initial weights.
    """

    trunk: MLP
    loc: Linear
    raw_scale: Linear

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        key: PRNGKeyArray,
    ):
        trunk_key, loc_key, scale_key = jax.random.split(key, 3)
        self.trunk = MLP(data_dim, hidden, activation, initialization, key=trunk_key)
        self.loc = Linear(self.trunk.out_size, latent_dim, initialization, key=loc_key)
        self.raw_scale = Linear(self.trunk.out_size, latent_dim, initialization, key=scale_key)

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """q(z | x), a Gaussian with diagonal covariance over J dimensions."""
        h = self.trunk(x)
        return Normal(self.loc(h), positive_scale(self.raw_scale(h))).to_event(1)


class StandardNormalPrior(AbstractPriorLikelihood):
    """p(z) = N(0, I), without parameters: for a model of one's own that writes its `likelihood` and nothing else."""

    latent_dim: eqx.AbstractVar[int]

    def prior(self) -> Distribution:
        """N(0, I) over J dimensions."""
        return Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)).to_event(1)


class Decoder(AbstractPriorLikelihood):
    """What the decoders below share: p(z) is the distribution of a module, `latent_prior`, and h = MLP(z)."""

    trunk: eqx.AbstractVar[MLP]
    latent_prior: eqx.AbstractVar[AbstractPrior]
    angles: eqx.AbstractVar[bool]

    def prior(self) -> Distribution:
        """p(z) over J dimensions."""
        return self.latent_prior.distribution()

    def hidden(self, z: Float[Array, " J"]) -> Float[Array, " H"]:
        """h, the last hidden layer: MLP(z), or of angles MLP(cos z, sin z)."""
        return self.trunk(jnp.concatenate([jnp.cos(z), jnp.sin(z)]) if self.angles else z)


class BernoulliGenerative(Decoder):
    r"""Bernoulli MLP as decoder (Appendix C.1): p(x | z) = prod_d Bernoulli(x_d; y_d), y = sigmoid(W h + b).

    h = MLP(z). Works on logits throughout; y itself is never put through a logarithm.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the network; see `MLP`.
        output_bias: initial b, shape (D,); `logit` of the training mean starts the decoder at the best constant
            image. None: as `initialization` says.
        grey: x are grey values in [0, 1] and `log_prob` is minus a cross-entropy, not a log-likelihood
            (`BernoulliCrossEntropy`).
        prior: of z; None: N(0, I).
        angles: z are angles, and the network sees (cos z, sin z): a decoder of z itself would jump where the circle is
            cut, and no gradient through a sample of z knows of that jump.
        key: for the initial weights.
    """

    trunk: MLP
    logits: Linear
    latent_prior: AbstractPrior
    latent_dim: int = eqx.field(static=True)
    grey: bool = eqx.field(static=True)
    angles: bool = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        output_bias: Float[Array, " D"] | None = None,
        grey: bool = False,
        prior: AbstractPrior | None = None,
        angles: bool = False,
        key: PRNGKeyArray,
    ):
        trunk_key, logits_key = jax.random.split(key)
        self.trunk = MLP(2 * latent_dim if angles else latent_dim, hidden, activation, initialization, key=trunk_key)
        self.logits = _with_bias(Linear(self.trunk.out_size, data_dim, initialization, key=logits_key), output_bias)
        self.latent_prior = StandardPrior(latent_dim) if prior is None else prior
        self.latent_dim = latent_dim
        self.grey = grey
        self.angles = angles

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """p(x | z) over D binary pixels (or the cross-entropy of D grey ones)."""
        logits = self.logits(self.hidden(z))
        family = BernoulliCrossEntropy if self.grey else Bernoulli
        return family(logits).to_event(1)


class GaussianGenerative(Decoder):
    r"""Gaussian MLP as decoder (Appendix C.2): p(x | z) = N(mu, diag sigma^2), both of them functions of z.

    h = MLP(z); mu = W_mu h + b_mu, or its sigmoid; sigma = min_scale + positive_scale(W_sigma h + b_sigma).

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden, activation, initialization: of the network; see `MLP`.
        sigmoid_mean: put the mean through a sigmoid, for data in (0, 1), as the paper does for Frey Face.
        min_scale: floor of sigma, in units of x as the model sees it (after scaling). Without one the likelihood is
            unbounded.
        output_bias: initial b_mu, shape (D,).
        prior: of z; None: N(0, I).
        angles: z are angles, and the network sees (cos z, sin z): a decoder of z itself would jump where the circle is
            cut, and no gradient through a sample of z knows of that jump.
        key: for the initial weights.
    """

    trunk: MLP
    loc: Linear
    raw_scale: Linear
    latent_prior: AbstractPrior
    latent_dim: int = eqx.field(static=True)
    sigmoid_mean: bool = eqx.field(static=True)
    min_scale: float = eqx.field(static=True)
    angles: bool = eqx.field(static=True)

    def __init__(
        self,
        data_dim: int,
        latent_dim: int,
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "tanh",
        initialization: Initialization = "glorot",
        *,
        sigmoid_mean: bool = False,
        min_scale: float = 1e-3,
        output_bias: Float[Array, " D"] | None = None,
        prior: AbstractPrior | None = None,
        angles: bool = False,
        key: PRNGKeyArray,
    ):
        trunk_key, loc_key, scale_key = jax.random.split(key, 3)
        self.trunk = MLP(2 * latent_dim if angles else latent_dim, hidden, activation, initialization, key=trunk_key)
        self.loc = _with_bias(Linear(self.trunk.out_size, data_dim, initialization, key=loc_key), output_bias)
        self.raw_scale = Linear(self.trunk.out_size, data_dim, initialization, key=scale_key)
        self.latent_prior = StandardPrior(latent_dim) if prior is None else prior
        self.latent_dim = latent_dim
        self.sigmoid_mean = sigmoid_mean
        self.min_scale = min_scale
        self.angles = angles

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """p(x | z), a Gaussian with diagonal covariance over D dimensions."""
        h = self.hidden(z)
        loc = self.loc(h)
        if self.sigmoid_mean:
            loc = jax.nn.sigmoid(loc)
        return Normal(loc, positive_scale(self.raw_scale(h), self.min_scale)).to_event(1)


class ContinuousBernoulliGenerative(BernoulliGenerative):
    r"""Continuous Bernoulli MLP as decoder: grey values in [0, 1] with a likelihood that is normalised.

    p(x | z) = prod_d ContinuousBernoulli(x_d; l_d), l = W h + b, h = MLP(z). Loaiza-Ganem & Cunningham (2019).
    Takes the arguments of `BernoulliGenerative`.
    """

    def __init__(self, *args: Any, **options: Any):  # Equinox would make a dataclass's own of a class without one
        super().__init__(*args, **options)

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """p(x | z) over D values in [0, 1]."""
        return ContinuousBernoulli(self.logits(self.hidden(z))).to_event(1)


class DiscretizedLogisticGenerative(GaussianGenerative):
    r"""Discretised logistic MLP as decoder: probabilities of the 256 levels k / 255 of an 8-bit image.

    loc = W_mu h + b_mu (or its sigmoid), scale = min_scale + positive_scale(W_sigma h + b_sigma), h = MLP(z). Salimans
    et al. (2017), with one component. Takes the arguments of `GaussianGenerative`.
    """

    def __init__(self, *args: Any, **options: Any):  # Equinox would make a dataclass's own of a class without one
        super().__init__(*args, **options)

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """p(x | z) over D levels."""
        h = self.hidden(z)
        loc = self.loc(h)
        if self.sigmoid_mean:
            loc = jax.nn.sigmoid(loc)
        return DiscretizedLogistic(loc, positive_scale(self.raw_scale(h), self.min_scale), num_bins=256).to_event(1)


def _with_bias(layer: Linear, bias: Float[Array, " D"] | None) -> Linear:
    return layer if bias is None else eqx.tree_at(lambda layer: layer.bias, layer, bias)
