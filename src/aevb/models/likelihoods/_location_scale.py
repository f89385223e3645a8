"""What the likelihoods share that have a location and a scale for each number of x."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from aevb.distributions import Distribution, positive_scale

from ._spec import LikelihoodSpec, as_array, logit_of


@dataclass(frozen=True)
class LocationScaleLikelihood(LikelihoodSpec, abc.ABC):
    r"""D independent numbers of one family, location and scale functions of z.

    loc = W_mu h + b_mu, or its sigmoid; scale = min_scale + positive_scale(W_sigma h + b_sigma).

    Args:
        sigmoid_mean: put the location through a sigmoid, for data in (0, 1), as the paper does for Frey Face.
        min_scale: floor of the scale, in units of x as the model sees it. Without one the likelihood is unbounded.
    """

    sigmoid_mean: bool = False
    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 < self.min_scale < float("inf"), "min_scale", "must be positive and finite")

    @abc.abstractmethod
    def family(self, loc: Float[Array, " D"], scale: Float[Array, " D"]) -> Distribution:
        """The D independent distributions of this location and scale."""

    def sizes(self, data_dim: int) -> dict[str, int]:
        """A location and a raw scale for each number of x."""
        return {"loc": data_dim, "raw_scale": data_dim}

    def distribution(self, raw: Mapping[str, Float[Array, " D"]]) -> Distribution:
        """p(x | z) over D numbers."""
        loc = jax.nn.sigmoid(raw["loc"]) if self.sigmoid_mean else raw["loc"]
        return self.family(loc, positive_scale(raw["raw_scale"], self.min_scale)).to_event(1)

    def start(self, mean: Float[np.ndarray, " D"]) -> dict[str, Float[Array, " D"]]:
        """The location at the training mean; the scale is left to training."""
        return {"loc": logit_of(mean) if self.sigmoid_mean else as_array(mean)}

    @property
    def mean_in_unit_interval(self) -> bool:
        """As `sigmoid_mean` says."""
        return self.sigmoid_mean
