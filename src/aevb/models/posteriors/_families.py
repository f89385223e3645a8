"""Posteriors of independent coordinates: the paper's Gaussian, and every other family by name."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Array, Float

from aevb.distributions import FAMILIES, Distribution, Normal, positive_scale

from ._spec import PosteriorSpec


@dataclass(frozen=True)
class GaussianPosterior(PosteriorSpec):
    r"""q(z | x) = N(mu, diag sigma^2): the Gaussian MLP as encoder (Appendix C.2).

    mu = W_mu h + b_mu; sigma = positive_scale(W_sigma h + b_sigma).
    """

    kind: ClassVar[str] = "gaussian"
    gaussian_family: ClassVar[Literal["diagonal", "full-covariance"] | None] = "diagonal"

    def sizes(self, latent_dim: int) -> dict[str, int]:
        """A mean and a raw scale for each coordinate."""
        return {"loc": latent_dim, "raw_scale": latent_dim}

    def distribution(self, raw: Mapping[str, Float[Array, " J"]]) -> Distribution:
        """A Gaussian with diagonal covariance over J dimensions."""
        return diagonal_gaussian(raw)


def diagonal_gaussian(raw: Mapping[str, Float[Array, " J"]]) -> Distribution:
    """N(loc, positive_scale(raw_scale)^2)."""
    return Normal(raw["loc"], positive_scale(raw["raw_scale"])).to_event(1)


@functools.cache
def family_posterior(family: str) -> type[PosteriorSpec]:
    """The spec class of a family by name: one affine map of h for each of its parameters.

    Args:
        family: a name in `aevb.distributions.FAMILIES`, which says how raw outputs become parameters.

    Example:
        >>> family_posterior("gamma")().sizes(2)
        {'concentration': 2, 'rate': 2}
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")

    @dataclass(frozen=True)
    class FamilyPosterior(PosteriorSpec):
        kind: ClassVar[str] = family
        support_of: ClassVar[str] = family

        def sizes(self, latent_dim: int) -> dict[str, int]:
            return dict.fromkeys(sorted(FAMILIES[family].parameters), latent_dim)

        def distribution(self, raw: Mapping[str, Float[Array, " J"]]) -> Distribution:
            return FAMILIES[family].from_raw(raw)

    FamilyPosterior.__doc__ = f"q(z | x) of the {family} family, over J dimensions."
    FamilyPosterior.__name__ = FamilyPosterior.__qualname__ = f"FamilyPosterior[{family}]"
    return FamilyPosterior
