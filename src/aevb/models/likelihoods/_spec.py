"""What a likelihood must say of itself."""

import abc
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aevb._spec import Spec
from aevb.data import Values
from aevb.distributions import Distribution


class LikelihoodSpec(Spec, abc.ABC):
    """p(x | z) of a decoder: h = network(z), one affine map of h for each raw output, and a distribution of these."""

    values: ClassVar[Values]  # of the data that it is for
    heavy_tailed: ClassVar[bool] = False  # whether outliers are no news to it, and must not set a column's scale

    @abc.abstractmethod
    def sizes(self, data_dim: int) -> dict[str, int]:
        """Names of the raw outputs, and how many numbers each has for x of `data_dim`; in the order of their keys."""

    @abc.abstractmethod
    def distribution(self, raw: Mapping[str, Float[Array, " _"]]) -> Distribution:
        """p(x | z) of ONE example, from any real numbers: one distribution over the whole of x."""

    @abc.abstractmethod
    def start(self, mean: Float[np.ndarray, " D"]) -> dict[str, Float[Array, " D"]]:
        """Biases of raw outputs with which E[x | z] begins at the mean of the training rows, whatever z; at their
        median where it is `heavy_tailed`."""

    @property
    def has_density(self) -> bool:
        """Whether p(x | z) is a density, in units of x, and not a probability."""
        return self.values in (Values.UNIT, Values.REAL)

    @property
    def mean_in_unit_interval(self) -> bool:
        """Whether E[x | z] lies in (0, 1) whatever the parameters."""
        return self.values is not Values.REAL


def logit_of(mean: Float[np.ndarray, " D"]) -> Float[Array, " D"]:
    """The logits of means in [0, 1], of which those at an edge must not start at infinity."""
    mean = np.clip(mean, 0.001, 0.999)
    return as_array(np.log(mean) - np.log1p(-mean))


def as_array(values: np.ndarray) -> Float[Array, " D"]:
    return jnp.asarray(values, jnp.result_type(float))
