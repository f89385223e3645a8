"""The models that can be named in a configuration and written to a file: a closed list, described by plain values."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import FAMILIES, family_lies_within

from ._contracts import AbstractRecognitionModel
from ._networks import ACTIVATIONS, Activation, Initialization
from ._posteriors import FamilyRecognition, FlowRecognition, FullCovarianceRecognition
from ._priors import AbstractPrior, FlowPrior, MixturePrior, StandardPrior, VampPrior
from ._vae import (
    BernoulliGenerative,
    ContinuousBernoulliGenerative,
    DiscretizedLogisticGenerative,
    GaussianGenerative,
    GaussianRecognition,
)

Likelihood = Literal["bernoulli", "gaussian", "continuous-bernoulli", "discretized-logistic"]
_FLOWS = ("iaf", "coupling")
_MIXTURES = ("mixture", "vamp")
_HEAVY = ("cauchy", "student-t")  # E[z^2] is infinite, or can be
# Densities that are the same at both ends of (-pi, pi), where the circle is cut.
_CLOSED = ("von-mises", "vamp", "normal", "cauchy", "laplace", "logistic", "student-t")

POSTERIORS: tuple[str, ...] = (
    "gaussian",
    "full-covariance",
    "elliptical",
    *_FLOWS,
    *(name for name in FAMILIES if name != "normal"),
)
# Not the families whose standard member has an edge that no posterior of the list keeps to (pareto, reciprocal).
PRIORS: tuple[str, ...] = (
    "normal",
    *_MIXTURES,
    "flow",
    *(name for name in FAMILIES if name != "normal" and any(family_lies_within(q, name) for q in FAMILIES)),
)


@dataclass(frozen=True)
class Architecture:
    """A variational auto-encoder in plain values: enough to build it, nothing that could run code.

    Args:
        data_dim: D, length of x.
        latent_dim: J, length of z.
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse order.
        activation: of the hidden layers.
        likelihood: family of p(x | z).
        grey: bernoulli only: x are grey values, and `log_prob` is minus a cross-entropy.
        sigmoid_mean: gaussian and discretized-logistic only.
        min_scale: gaussian and discretized-logistic only.
        posterior: q(z | x), one of `POSTERIORS`.
        prior: p(z), one of `PRIORS`.
        prior_components: K of the priors "mixture" and "vamp".
        flow_steps: of the posteriors "iaf" and "coupling" and of the prior "flow".
        flow_hidden: units of each hidden layer of a flow's networks.

    Raises:
        ValueError: a value is out of range, or not one of the closed list, or belongs to another prior or
            posterior, or z could lie where the prior has no density.

    Example:
        >>> Architecture(784, 2, (500,), "tanh", "bernoulli", posterior="iaf", flow_steps=2, flow_hidden=(64,)).prior
        'normal'
    """

    data_dim: int
    latent_dim: int
    hidden: tuple[int, ...]
    activation: Activation
    likelihood: Likelihood
    grey: bool = False
    sigmoid_mean: bool = False
    min_scale: float = 1e-3
    posterior: str = "gaussian"
    prior: str = "normal"
    prior_components: int = 0
    flow_steps: int = 0
    flow_hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = (self.data_dim, self.latent_dim, *self.hidden, *self.flow_hidden)
        if not all(isinstance(s, int) and 1 <= s <= 10_000_000 for s in sizes) or len(sizes) > 1000:
            raise ValueError(f"sizes of layers must be whole numbers of at least 1, got {sizes}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if self.likelihood not in get_args(Likelihood):
            raise ValueError(f"unknown likelihood {self.likelihood!r}; choose one of {', '.join(get_args(Likelihood))}")
        if not 0 < self.min_scale < float("inf"):
            raise ValueError(f"min_scale must be positive and finite, got {self.min_scale}")
        if self.posterior not in POSTERIORS:
            raise ValueError(f"unknown posterior {self.posterior!r}; choose one of {', '.join(POSTERIORS)}")
        if self.prior not in PRIORS:
            raise ValueError(f"unknown prior {self.prior!r}; choose one of {', '.join(PRIORS)}")
        self._check_latent_distributions()

    @property
    def has_angles(self) -> bool:
        """Whether z are angles, of which the decoder sees (cos z, sin z)."""
        return self.posterior in FAMILIES and FAMILIES[self.posterior].support == "circle"

    def _check_latent_distributions(self) -> None:
        flow = self.posterior in _FLOWS or self.prior == "flow"
        _check_count("prior_components", self.prior_components, self.prior in _MIXTURES, "the priors mixture and vamp")
        if isinstance(self.flow_steps, int) and self.flow_steps > 1000:
            raise ValueError(f"flow_steps must be at most 1,000, got {self.flow_steps}")
        _check_count("flow_steps", self.flow_steps, flow, "the posteriors iaf and coupling and the prior flow")
        if self.flow_hidden and not flow:
            raise ValueError(
                f"flow_hidden is for the posteriors iaf and coupling and the prior flow, got {self.flow_hidden}; "
                "leave it empty"
            )
        if self.latent_dim < 2 and "dirichlet" in (self.posterior, self.prior):
            raise ValueError("a dirichlet latent sums to 1, so it needs latent_dim >= 2: of one number nothing is left")
        if self.prior == "vamp" and any(FAMILIES[_like(self.posterior)].movable):
            raise ValueError(
                f"the posterior {self.posterior!r} moves the edges of its support, so that the prior 'vamp', a mixture "
                "of such posteriors, has no density at most z; choose a prior on the whole real line"
            )
        if self.prior != "vamp" and not family_lies_within(_like(self.posterior), _like(self.prior)):
            raise ValueError(
                f"the posterior {self.posterior!r} puts z where the prior {self.prior!r} has no density, and the KL "
                "between them is infinite; choose a prior whose support holds the posterior's, or prior 'vamp'"
            )
        if self.has_angles and self.prior not in _CLOSED:
            raise ValueError(
                f"the posterior {self.posterior!r} is one of angles, and the prior {self.prior!r} jumps between pi and "
                "-pi, where the circle is cut; no gradient through a sample of z knows of the jump. Choose one of the "
                f"priors {', '.join(_CLOSED)}"
            )


def _check_count(name: str, value: int, used: bool, user: str) -> None:
    if used and not (isinstance(value, int) and 1 <= value <= 1_000_000):
        raise ValueError(f"{name} must be a whole number of at least 1 for this model, got {value}")
    if not used and value != 0:
        raise ValueError(f"{name} is for {user}, got {value}; leave it at 0")


def _like(name: str) -> str:
    """The family with the support of a posterior or a prior; those that are no family's name live on all of R^J."""
    return name if name in FAMILIES else "normal"


def choose_latents(posterior: str, prior: str) -> tuple[str, str]:
    """Names in the place of "auto": a Gaussian posterior and the prior N(0, I), or else what has the other's support.

    A posterior of a family that does not live on the whole real line is given its own family's standard member: under
    N(0, I) a half-line costs log 2 nats a dimension for ever, and most of the prior's draws would be decoded from where
    no x ever was. So is one whose tails make its KL from N(0, I) infinite (Cauchy, Student's t). Where no member keeps
    to the standard one's edges: pareto and reciprocal are given the log-normal, which has a density wherever they lie
    and whose KL is finite for all of them; uniform and triangular, which can lie anywhere, N(0, I).

    Args:
        posterior: one of `POSTERIORS`, or "auto".
        prior: one of `PRIORS`, or "auto".

    Example:
        >>> choose_latents("auto", "auto"), choose_latents("auto", "gamma"), choose_latents("gamma", "auto")
        (('gaussian', 'normal'), ('gamma', 'gamma'), ('gamma', 'gamma'))
    """
    if prior == "auto":
        prior = _prior_for(posterior)
    if posterior == "auto":
        family = next(name for name in ("normal", prior, "beta") if family_lies_within(name, _like(prior)))
        posterior = "gaussian" if family == "normal" else family
    return posterior, prior


def _prior_for(posterior: str) -> str:
    if posterior not in FAMILIES:
        return "normal"
    family = FAMILIES[posterior]
    if any(family.movable):
        return "log-normal" if family.support == "positive" else "normal"
    return "normal" if family.support == "real" and posterior not in _HEAVY else posterior


def build(
    architecture: Architecture,
    *,
    initialization: Initialization = "glorot",
    output_bias: Float[Array, " D"] | None = None,
    pseudo_inputs: Float[Array | np.ndarray, "K D"] | None = None,
    key: PRNGKeyArray,
) -> tuple[BernoulliGenerative | GaussianGenerative, AbstractRecognitionModel]:
    """The generative and the recognition model of an architecture, at their initial parameters.

    With the prior "vamp" the generative model still needs `tie(generative, recognition)` before it is asked for p(z).

    Args:
        architecture: what to build.
        initialization: of the weights.
        output_bias: of the decoder's mean or logits, shape (D,); None: as `initialization` says.
        pseudo_inputs: of the prior "vamp", shape (K, D): rows of the training data are a good start; None: noise.
        key: for the initial weights.
    """
    a = architecture
    p_key, q_key = jax.random.split(key)
    # Folded, not split off, so that the two keys above do not depend on what prior there is.
    prior = _build_prior(a, pseudo_inputs, jax.random.fold_in(key, 2))
    recognition = _build_recognition(a, initialization, q_key)
    shape = (a.data_dim, a.latent_dim, a.hidden[::-1], a.activation, initialization)
    common: dict[str, Any] = {"output_bias": output_bias, "prior": prior, "angles": a.has_angles, "key": p_key}
    if a.likelihood in ("bernoulli", "continuous-bernoulli"):
        by_logits = BernoulliGenerative if a.likelihood == "bernoulli" else ContinuousBernoulliGenerative
        return by_logits(*shape, grey=a.grey, **common), recognition
    by_scale = GaussianGenerative if a.likelihood == "gaussian" else DiscretizedLogisticGenerative
    return by_scale(*shape, sigmoid_mean=a.sigmoid_mean, min_scale=a.min_scale, **common), recognition


def _build_recognition(a: Architecture, initialization: Initialization, key: PRNGKeyArray) -> AbstractRecognitionModel:
    shape = (a.data_dim, a.latent_dim, a.hidden, a.activation, initialization)
    if a.posterior == "gaussian":
        return GaussianRecognition(*shape, key=key)
    if a.posterior in ("full-covariance", "elliptical"):
        return FullCovarianceRecognition(*shape, elliptical=a.posterior == "elliptical", key=key)
    if a.posterior in _FLOWS:
        return FlowRecognition(*shape, flow=a.posterior, steps=a.flow_steps, flow_hidden=a.flow_hidden, key=key)
    return FamilyRecognition(*shape, family=a.posterior, key=key)


def _build_prior(
    a: Architecture, pseudo_inputs: Float[Array | np.ndarray, "K D"] | None, key: PRNGKeyArray
) -> AbstractPrior:
    if a.prior == "mixture":
        return MixturePrior(a.latent_dim, a.prior_components, key=key)
    if a.prior == "flow":
        return FlowPrior(a.latent_dim, steps=a.flow_steps, hidden=a.flow_hidden, activation=a.activation, key=key)
    if a.prior != "vamp":
        return StandardPrior(a.latent_dim, a.prior)
    unit_interval = a.likelihood != "gaussian" or a.sigmoid_mean
    expected = (a.prior_components, a.data_dim)
    if pseudo_inputs is None:
        pseudo_inputs = jax.random.normal(key, expected)
        pseudo_inputs = jax.nn.sigmoid(pseudo_inputs) if unit_interval else pseudo_inputs
    if pseudo_inputs.shape != expected:
        raise ValueError(f"pseudo_inputs must have shape {expected}, K rows of D columns, got {pseudo_inputs.shape}")
    return VampPrior(a.latent_dim, jnp.asarray(pseudo_inputs, float), unit_interval=unit_interval)
