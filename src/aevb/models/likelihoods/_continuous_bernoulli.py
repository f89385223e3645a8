"""Grey values in [0, 1], with a likelihood that is normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import ContinuousBernoulli, Distribution

from ._spec import LikelihoodSpec


@dataclass(frozen=True)
class ContinuousBernoulliLikelihood(LikelihoodSpec):
    r"""p(x | z) = prod_d ContinuousBernoulli(x_d; l_d), l = W h + b. Loaiza-Ganem & Cunningham (2019)."""

    kind: ClassVar[str] = "continuous-bernoulli"
    values: ClassVar[Values] = Values.UNIT

    def sizes(self, data_dim: int) -> dict[str, int]:
        """One logit for each pixel."""
        return {"logits": data_dim}

    def distribution(self, raw: Mapping[str, Float[Array, " D"]]) -> Distribution:
        """D values in [0, 1]."""
        return ContinuousBernoulli(raw["logits"]).to_event(1)

    def start(self, mean: Float[np.ndarray, " D"]) -> dict[str, Float[Array, " D"]]:
        """The logits whose mean it is: the mean rises with the logit l, and is 1/|l| from its edge where |l| is large.

        By bisection.
        """
        mean = np.clip(mean, 0.001, 0.999)  # a pixel that is always black must not start at minus infinity
        low, high = jnp.full(mean.shape, -1 / mean.min()), jnp.full(mean.shape, 1 / (1 - mean.max()))
        for _ in range(40):
            middle = 0.5 * (low + high)
            below = ContinuousBernoulli(middle).mean < mean
            low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
        return {"logits": 0.5 * (low + high)}
