"""Priors p(z) of ONE latent vector: a family's standard member, and three that are learned."""

import abc
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import FAMILIES, Distribution, Normal, positive_scale
from aevb.models._contracts import AbstractRecognitionModel
from aevb.models.networks import Activation
from aevb.models.posteriors import CouplingFlow, FlowDistribution

from ._mixture import Mixture

_Generative = TypeVar("_Generative")

# Grey values are brought this far from 0 and 1 before their logit is taken, or it would be infinite.
_EDGE = 0.01


class AbstractPrior(eqx.Module):
    """p(z): a module that a decoder holds, and that makes its distribution anew at each call."""

    @abc.abstractmethod
    def distribution(self) -> Distribution:
        """p(z), of event shape (J,)."""


class StandardPrior(AbstractPrior):
    """The standard member of a family, J independent dimensions (or one simplex); it has no parameters.

    Args:
        latent_dim: J.
        family: a name in `aevb.distributions.FAMILIES`; N(0, I) unless said otherwise.

    Example:
        >>> print(f"{StandardPrior(2).distribution().log_prob(jnp.zeros(2)):.4f}")
        -1.8379
    """

    latent_dim: int = eqx.field(static=True)
    family: str = eqx.field(static=True, default="normal")

    def __check_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"{self.family!r} names no family; choose {', '.join(FAMILIES)}")

    def distribution(self) -> Distribution:
        """The standard member."""
        return FAMILIES[self.family].standard(self.latent_dim)


class MixturePrior(AbstractPrior):
    r"""A learned mixture, p(z) = sum_k pi_k N(z; mu_k, diag sigma_k^2), pi = softmax(logits).

    Begins with equal weights, scales of 1 and means drawn from N(0, I).

    Args:
        latent_dim: J.
        components: K.
        key: for the initial means.
    """

    logits: Float[Array, " K"]
    locs: Float[Array, "K J"]
    raw_scales: Float[Array, "K J"]

    def __init__(self, latent_dim: int, components: int, *, key: PRNGKeyArray):
        _check_components(components)
        self.logits = jnp.zeros(components)
        self.locs = jax.random.normal(key, (components, latent_dim))
        self.raw_scales = jnp.zeros((components, latent_dim))

    def distribution(self) -> Distribution:
        """The mixture."""
        log_weights = jax.nn.log_softmax(self.logits)
        return Mixture(log_weights, _diagonal_gaussian, (self.locs, positive_scale(self.raw_scales)))


class VampPrior(AbstractPrior):
    r"""p(z) = 1/K sum_k q(z | u_k): the encoder's posteriors at K learned pseudo-inputs.

    Tomczak & Welling (2018), eq. 9. The prior needs the recognition model, and must train with the very parameters
    that it has at each step: `tie` puts it in, `untie` takes it out again, and in a model at rest it is out, so that
    no parameter is stored twice. Its density at z asks for K densities of q: with a posterior whose density is slow
    (an inverse autoregressive flow: J passes each) it is K times as slow.

    Args:
        latent_dim: J.
        pseudo_inputs: initial u_k, shape (K, D), in units of x as the model sees it.
        unit_interval: keep u_k in (0, 1), as grey values and probabilities are: u = sigmoid(raw). The given rows are
            then first brought into [0.01, 0.99].
    """

    raw_inputs: Float[Array, "K D"]
    recognition: AbstractRecognitionModel | None
    latent_dim: int = eqx.field(static=True)
    unit_interval: bool = eqx.field(static=True)

    def __init__(self, latent_dim: int, pseudo_inputs: Float[Array, "K D"], *, unit_interval: bool = False):
        _check_components(len(pseudo_inputs))
        inside = jnp.clip(pseudo_inputs, _EDGE, 1.0 - _EDGE)
        self.raw_inputs = jax.scipy.special.logit(inside) if unit_interval else pseudo_inputs
        self.recognition = None
        self.latent_dim, self.unit_interval = latent_dim, unit_interval

    @property
    def pseudo_inputs(self) -> Float[Array, "K D"]:
        """u_k, in units of x."""
        return jax.nn.sigmoid(self.raw_inputs) if self.unit_interval else self.raw_inputs

    def distribution(self) -> Distribution:
        """The mixture of posteriors.

        Raises:
            TypeError: no recognition model was put in.
        """
        if self.recognition is None:
            raise TypeError(
                "a VampPrior is made of the encoder's posteriors and has no encoder yet; use "
                "aevb.models.tie(generative, recognition) and ask the generative model that it returns"
            )
        k = self.raw_inputs.shape[0]
        log_weights = jnp.full(k, -jnp.log(k), self.raw_inputs.dtype)
        return Mixture(log_weights, self.recognition.posterior, self.pseudo_inputs)


class FlowPrior(AbstractPrior):
    """p(z) of z = flow(eps), eps ~ N(0, I), with a `CouplingFlow`; its density comes from the inverse, in one pass.

    Args:
        latent_dim: J.
        steps: layers of the flow.
        hidden: units of the hidden layers of each layer's network.
        activation: of these.
        key: for the initial weights.
    """

    flow: CouplingFlow

    def __init__(
        self,
        latent_dim: int,
        *,
        steps: int,
        hidden: tuple[int, ...],
        activation: Activation = "tanh",
        key: PRNGKeyArray,
    ):
        self.flow = CouplingFlow(latent_dim, 0, steps=steps, hidden=hidden, activation=activation, key=key)

    def distribution(self) -> Distribution:
        """The flow's distribution."""
        zeros = jnp.zeros(self.flow.latent_dim)
        return FlowDistribution(Normal(zeros, jnp.ones_like(zeros)).to_event(1), self.flow)


def tie(generative: _Generative, recognition: AbstractRecognitionModel) -> _Generative:
    """The generative model with every `VampPrior` in it given the recognition model; unchanged where there is none.

    Call it inside the function that is differentiated, so that the prior's gradient reaches the encoder.
    """
    return _with_recognition(generative, recognition)


def untie(generative: _Generative) -> _Generative:
    """The generative model with no recognition model in its prior: `tie` undone."""
    return _with_recognition(generative, None)


def _with_recognition(generative: _Generative, recognition: AbstractRecognitionModel | None) -> _Generative:
    def is_vamp(node: Any) -> bool:
        return isinstance(node, VampPrior)

    def vamps(tree: Any) -> list[Any]:
        return [node.recognition for node in jax.tree.leaves(tree, is_leaf=is_vamp) if is_vamp(node)]

    if not (found := vamps(generative)):
        return generative
    tied: _Generative = eqx.tree_at(vamps, generative, [recognition] * len(found), is_leaf=lambda node: node is None)
    return tied


def _diagonal_gaussian(parameters: tuple[Array, Array]) -> Distribution:
    return Normal(*parameters).to_event(1)


def _check_components(components: int) -> None:
    if components < 1:
        raise ValueError(f"a mixture needs at least 1 component, got {components}")
