"""The noise of the estimators' gradients side by side, on one model and the same rows."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from aevb.errors import UnavailableError
from aevb.estimators import (
    AbstractEstimator,
    Dreg,
    GradientStatistics,
    Iwae,
    ScoreFunction,
    SgvbA,
    SgvbB,
    StickingTheLanding,
    gradient_statistics,
)
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows, num_rows_of

COMPARED: dict[str, Callable[[int], AbstractEstimator]] = {  # those of `_NEEDS_TWO` with 2 samples or more
    "score (naive)": lambda n: ScoreFunction(n),
    "score, running mean": lambda n: ScoreFunction(n, "running-mean"),
    "score, leave-one-out": lambda n: ScoreFunction(n, "leave-one-out"),
    "sgvb-a": SgvbA,
    "sgvb-b": SgvbB,
    "stl": StickingTheLanding,
    "iwae": Iwae,
    "dreg": Dreg,
}
_NEEDS_TWO = ("score, leave-one-out",)


class EstimatorNoise(NamedTuple):
    """One line of the comparison: an estimator, its number of samples, and its gradient by group of parameters."""

    estimator: str
    num_samples: int
    bound_name: str  # estimators of different bounds have different means: compare variances within a bound
    groups: dict[str, GradientStatistics]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, which knows no infinity and no NaN: None there."""
        groups = {
            name: {field: value if math.isfinite(value) else None for field, value in group._asdict().items()}
            for name, group in self.groups.items()
        }
        return {**self._asdict(), "groups": groups}


def compare_estimators(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    num_samples: tuple[int, ...] = (1, 2, 5, 10),
    num_draws: int = 100,
) -> Iterator[EstimatorNoise]:
    """Gradient statistics of each estimator at each number of samples, one by one.

    What does not go with the models (estimator B without a closed-form KL, say) or with the number of samples is left
    out.

    Args:
        generative: p(x, z), at the parameters to differentiate at.
        recognition: q(z | x).
        rows: M rows x as the models see them.
        key: of the noise, the same for all.
        num_samples: L or K.
        num_draws: gradients for each line.

    Raises:
        ValueError: no rows, fewer than two draws, or a number of samples below 1.
    """
    if num_rows_of(rows) == 0:
        raise ValueError("there are 0 rows to differentiate on")
    for name, make in COMPARED.items():
        for n in num_samples:
            if n == 1 and name in _NEEDS_TWO:
                continue
            estimator = make(n)
            try:
                groups = gradient_statistics(estimator, (generative, recognition), rows, key, num_draws=num_draws)
            except UnavailableError:  # the estimator says that it cannot be used with these models
                continue
            yield EstimatorNoise(name, n, estimator.bound_name, groups)
