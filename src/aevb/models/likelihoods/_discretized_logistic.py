"""The 256 levels of an 8-bit image."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import DiscretizedLogistic, Distribution

from ._location_scale import LocationScaleLikelihood


@dataclass(frozen=True)
class DiscretizedLogisticLikelihood(LocationScaleLikelihood):
    r"""Probabilities of the levels k / 255, by a logistic distribution that is cut into 256 bins.

    Salimans et al. (2017), with one component. Options: see `LocationScaleLikelihood`.
    """

    kind: ClassVar[str] = "discretized-logistic"
    values: ClassVar[Values] = Values.LEVELS

    def family(self, loc: Float[Array, " D"], scale: Float[Array, " D"]) -> Distribution:
        """Of 256 levels."""
        return DiscretizedLogistic(loc, scale, num_bins=256)

    @property
    def mean_in_unit_interval(self) -> bool:
        """The levels lie in it."""
        return True
