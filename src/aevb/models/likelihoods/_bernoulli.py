"""0 and 1, and the cross-entropy of grey pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from aevb.data import Values
from aevb.distributions import Bernoulli, BernoulliCrossEntropy, Distribution

from ._spec import LikelihoodSpec, logit_of


@dataclass(frozen=True)
class BernoulliLikelihood(LikelihoodSpec):
    r"""p(x | z) = prod_d Bernoulli(x_d; y_d), y = sigmoid(W h + b): the Bernoulli MLP of Appendix C.1.

    Works on logits throughout; y itself is never put through a logarithm.

    Args:
        grey: x are grey values in [0, 1] and `log_prob` is minus a cross-entropy, not a log-likelihood
            (`BernoulliCrossEntropy`).
    """

    kind: ClassVar[str] = "bernoulli"
    values: ClassVar[Values] = Values.BINARY
    grey: bool = False

    def sizes(self, data_dim: int) -> dict[str, int]:
        """One logit for each pixel."""
        return {"logits": data_dim}

    def distribution(self, raw: Mapping[str, Float[Array, " D"]]) -> Distribution:
        """D binary pixels (or the cross-entropy of D grey ones)."""
        return (BernoulliCrossEntropy if self.grey else Bernoulli)(raw["logits"]).to_event(1)

    def start(self, mean: Float[np.ndarray, " D"]) -> dict[str, Float[Array, " D"]]:
        """The best constant image."""
        return {"logits": logit_of(mean)}
