"""Estimators by name, as the configuration has them."""

from aevb.errors import ConfigError

from ._base import AbstractEstimator
from ._importance import Ciwae, Dreg, Iwae, Miwae, Piwae
from ._renyi import Renyi
from ._score import ScoreFunction, Vimco
from ._sgvb import SgvbA, SgvbB
from ._stl import StickingTheLanding

ESTIMATORS = ("sgvb-a", "sgvb-b", "score", "stl", "iwae", "dreg", "vimco", "renyi", "miwae", "piwae", "ciwae")


def make_estimator(
    name: str,
    num_samples: int | None = None,
    *,
    num_groups: int = 2,
    alpha: float = 0.5,
    ciwae_weight: float = 0.5,
    baseline: str = "none",
) -> AbstractEstimator:
    """An estimator by its name.

    Args:
        name: one of `ESTIMATORS`.
        num_samples: L of those that average (sgvb-a, sgvb-b, score, stl), K of the others. None: 1 and 5; 2 for the
            score function with the leave-one-out baseline.
        num_groups: M of miwae and piwae.
        alpha: order of renyi.
        ciwae_weight: weight of the ELBO in ciwae.
        baseline: of the score function.

    Raises:
        ConfigError: an unknown name, or an argument that the estimator refuses; says why.

    Example:
        >>> make_estimator("iwae").num_samples, make_estimator("stl").num_samples
        (5, 1)
    """
    several = 5 if num_samples is None else num_samples
    averaged = (2 if baseline == "leave-one-out" else 1) if num_samples is None else num_samples
    match name:
        case "sgvb-a":
            return SgvbA(averaged)
        case "sgvb-b":
            return SgvbB(averaged)
        case "score":
            return ScoreFunction(averaged, baseline)
        case "stl":
            return StickingTheLanding(averaged)
        case "iwae":
            return Iwae(several)
        case "dreg":
            return Dreg(several)
        case "vimco":
            return Vimco(several)
        case "renyi":
            return Renyi(several, alpha)
        case "miwae":
            return Miwae(several, num_groups)
        case "piwae":
            return Piwae(several, num_groups)
        case "ciwae":
            return Ciwae(several, ciwae_weight)
    raise ConfigError(f"unknown estimator {name!r}; choose one of {', '.join(ESTIMATORS)}")
