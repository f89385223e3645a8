"""Real numbers, normal around a mean that z decides."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import Distribution, Normal

from ._location_scale import LocationScaleLikelihood


@dataclass(frozen=True)
class GaussianLikelihood(LocationScaleLikelihood):
    r"""p(x | z) = N(mu, diag sigma^2): the Gaussian MLP of Appendix C.2. Options: see `LocationScaleLikelihood`."""

    kind: ClassVar[str] = "gaussian"
    values: ClassVar[Values] = Values.REAL

    def family(self, loc: Float[Array, " D"], scale: Float[Array, " D"]) -> Distribution:
        """N(loc, scale^2)."""
        return Normal(loc, scale)
