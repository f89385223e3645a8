"""Real numbers, with tails that are heavier than a Gaussian's: what is far off moves the mean less."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import Distribution, Laplace

from ._location_scale import LocationScaleLikelihood


@dataclass(frozen=True)
class LaplaceLikelihood(LocationScaleLikelihood):
    r"""p(x | z) = prod_d exp(-|x_d - loc_d| / scale_d) / (2 scale_d). Options: see `LocationScaleLikelihood`."""

    kind: ClassVar[str] = "laplace"
    values: ClassVar[Values] = Values.REAL
    heavy_tailed: ClassVar[bool] = True

    def family(self, loc: Float[Array, " D"], scale: Float[Array, " D"]) -> Distribution:
        """Laplace(loc, scale)."""
        return Laplace(loc, scale)
