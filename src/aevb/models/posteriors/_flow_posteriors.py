"""Posteriors that a flow makes of a diagonal Gaussian."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution
from aevb.models.networks import Activation

from ._families import diagonal_gaussian
from ._flows import AbstractFlow, CouplingFlow, check_flow
from ._iaf import InverseAutoregressiveFlow
from ._spec import PosteriorSpec


@dataclass(frozen=True)
class FlowPosterior(PosteriorSpec, abc.ABC):
    r"""q(z | x) of z = flow(eps; h), eps ~ N(mu, diag sigma^2).

    mu and sigma are those of `GaussianPosterior`; h is the flow's context. Kingma et al. (2016), Algorithm 1;
    Rezende & Mohamed (2015). log q of a sample comes with it in one pass (`rsample_and_log_prob`).

    Args:
        steps: of the flow, 1 to 1,000.
        hidden: units of the hidden layers of each step's network.
        activation: of these layers.
    """

    has_flow: ClassVar[bool] = True
    steps: int = 4
    hidden: tuple[int, ...] = (128,)
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flow(self)

    def sizes(self, latent_dim: int) -> dict[str, int]:
        """Of the noise: a mean and a raw scale for each coordinate."""
        return {"loc": latent_dim, "raw_scale": latent_dim}

    def distribution(self, raw: Mapping[str, Float[Array, " J"]]) -> Distribution:
        """Of the noise: a Gaussian with diagonal covariance over J dimensions."""
        return diagonal_gaussian(raw)


@dataclass(frozen=True)
class Iaf(FlowPosterior):
    """An inverse autoregressive flow; at a given z, log q costs J passes. Options: see `FlowPosterior`."""

    kind: ClassVar[str] = "iaf"
    slow_density: ClassVar[bool] = True

    def make_flow(self, latent_dim: int, context_dim: int, *, key: PRNGKeyArray) -> AbstractFlow:
        """An `InverseAutoregressiveFlow`."""
        return InverseAutoregressiveFlow(
            latent_dim, context_dim, steps=self.steps, hidden=self.hidden, activation=self.activation, key=key
        )


@dataclass(frozen=True)
class Coupling(FlowPosterior):
    """A flow of affine couplings; one pass in both directions. Options: see `FlowPosterior`."""

    kind: ClassVar[str] = "coupling"

    def make_flow(self, latent_dim: int, context_dim: int, *, key: PRNGKeyArray) -> AbstractFlow:
        """A `CouplingFlow`."""
        return CouplingFlow(
            latent_dim, context_dim, steps=self.steps, hidden=self.hidden, activation=self.activation, key=key
        )
