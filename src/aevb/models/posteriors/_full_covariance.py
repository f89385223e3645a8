"""Posteriors whose coordinates are correlated: a Gaussian, and one with heavier tails."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from aevb.distributions import Distribution, MultivariateNormal, MultivariateStudentT, positive_scale

from ._spec import PosteriorSpec


class CorrelatedPosterior(PosteriorSpec, abc.ABC):
    r"""A location mu and a lower-triangular factor L, both functions of x.

    L = diag(sigma) (I + N), with sigma = positive_scale(W_sigma h + b_sigma) and N strictly lower triangular,
    N_jk = asinh(W_N h + b_N). L's diagonal is sigma. The rows of N are relative to sigma and grow slowly, so that L
    stays well enough conditioned for log q at any output of the network; every L L' can still be expressed.
    """

    @abc.abstractmethod
    def family(self, loc: Float[Array, " J"], factor: Float[Array, "J J"]) -> Distribution:
        """The distribution of location mu and factor L."""

    def sizes(self, latent_dim: int) -> dict[str, int]:
        """A location and a raw scale for each coordinate, and what is below the diagonal: nothing with J = 1."""
        return {"loc": latent_dim, "raw_scale": latent_dim, "raw_lower": latent_dim * (latent_dim - 1) // 2}

    def distribution(self, raw: Mapping[str, Float[Array, " _"]]) -> Distribution:
        """q(z | x), with a full covariance over J dimensions."""
        sigma = positive_scale(raw["raw_scale"])
        unit = jnp.eye(len(sigma), dtype=sigma.dtype)
        if "raw_lower" in raw:
            unit = unit.at[jnp.tril_indices(len(sigma), -1)].set(jnp.arcsinh(raw["raw_lower"]))
        return self.family(raw["loc"], sigma[:, None] * unit)


@dataclass(frozen=True)
class FullCovariance(CorrelatedPosterior):
    """q(z | x) = N(mu, L L'); see `CorrelatedPosterior`.

    Example:
        >>> raw = {"loc": jnp.zeros(2), "raw_scale": jnp.zeros(2), "raw_lower": jnp.ones(1)}
        >>> q = FullCovariance().distribution(raw)
        >>> q.event_shape, q.covariance_matrix.shape
        ((2,), (2, 2))
    """

    kind: ClassVar[str] = "full-covariance"
    gaussian_family: ClassVar[Literal["diagonal", "full-covariance"] | None] = "full-covariance"

    def family(self, loc: Float[Array, " J"], factor: Float[Array, "J J"]) -> Distribution:
        """N(mu, L L')."""
        return MultivariateNormal(loc, scale_tril=factor)


@dataclass(frozen=True)
class Elliptical(CorrelatedPosterior):
    """A multivariate Student t with location mu and scale matrix L L' ("Elliptical" in section 2.4 of the paper).

    The same ellipsoids as the Gaussian's with heavier tails; see `CorrelatedPosterior`.

    Args:
        df: degrees of freedom; above 2, for the covariance to exist. Fixed, as the auxiliary noise of a location-scale
            family is.
    """

    kind: ClassVar[str] = "elliptical"
    df: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(2 < self.df < 1e6, "df", "must be above 2, for a covariance to exist, and below a million")

    def family(self, loc: Float[Array, " J"], factor: Float[Array, "J J"]) -> Distribution:
        """t(df, mu, L L')."""
        return MultivariateStudentT(self.df, loc, factor)
