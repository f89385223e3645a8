"""What a posterior must say of itself."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Array, Float, PRNGKeyArray

from aevb._spec import Spec
from aevb.distributions import FAMILIES, Distribution

from ._flows import AbstractFlow


class PosteriorSpec(Spec, abc.ABC):
    """q(z | x) of an encoder: h = network(x), one affine map of h for each raw output, and a distribution of these."""

    support_of: ClassVar[str] = "normal"  # the family that lies where z does: a name in `FAMILIES`
    gaussian_family: ClassVar[Literal["diagonal", "full-covariance"] | None] = None  # where it is one
    has_flow: ClassVar[bool] = False
    slow_density: ClassVar[bool] = False  # log q at a given z costs J passes of a network, not one

    @abc.abstractmethod
    def sizes(self, latent_dim: int) -> dict[str, int]:
        """Names of the raw outputs, and how many numbers each has for z of `latent_dim`; in the order of their keys."""

    @abc.abstractmethod
    def distribution(self, raw: Mapping[str, Float[Array, " _"]]) -> Distribution:
        """q(z | x) of ONE example, from any real numbers: one distribution over the whole of z.

        With a flow, that of the noise. A raw output of size 0 is left out of `raw`.
        """

    def make_flow(self, latent_dim: int, context_dim: int, *, key: PRNGKeyArray) -> AbstractFlow | None:
        """The flow that turns noise into z, steered by h of `context_dim` numbers; or none."""
        del latent_dim, context_dim, key
        return None

    @property
    def is_angle(self) -> bool:
        """Whether z are angles, of which a decoder sees (cos z, sin z)."""
        return FAMILIES[self.support_of].support == "circle"

    @property
    def is_simplex(self) -> bool:
        """Whether the coordinates of z are positive and sum to 1."""
        return FAMILIES[self.support_of].support == "simplex"
