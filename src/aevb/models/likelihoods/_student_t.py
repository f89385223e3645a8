"""Real numbers of which some are outliers: tails that fall off as a power."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import Distribution, StudentT

from ._location_scale import LocationScaleLikelihood


@dataclass(frozen=True)
class StudentTLikelihood(LocationScaleLikelihood):
    r"""p(x | z) = prod_d t(x_d; df, loc_d, scale_d), Student's t: a Gaussian whose variance is drawn for each number.

    Args:
        sigmoid_mean, min_scale: see `LocationScaleLikelihood`. The scale is no standard deviation: that is
            sqrt(df / (df - 2)) times as large.
        df: degrees of freedom, above 2, for a variance to exist; the smaller, the heavier the tails. Fixed.
    """

    kind: ClassVar[str] = "student-t"
    values: ClassVar[Values] = Values.REAL
    heavy_tailed: ClassVar[bool] = True
    df: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(2 < self.df < 1e6, "df", "must be above 2 and below a million")

    def family(self, loc: Float[Array, " D"], scale: Float[Array, " D"]) -> Distribution:
        """Student's t with `df` degrees of freedom."""
        return StudentT(jnp.full_like(loc, self.df), loc, scale)
