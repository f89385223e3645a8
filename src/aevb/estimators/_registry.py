"""Estimators by their kinds, as a configuration has them."""

from aevb._spec import Registry

from ._base import AbstractEstimator
from ._importance import Ciwae, Dreg, Iwae, Miwae, Piwae
from ._renyi import Renyi
from ._score import ScoreFunction, Vimco
from ._sgvb import SgvbA, SgvbB
from ._stl import StickingTheLanding

ESTIMATORS: Registry[AbstractEstimator] = Registry(
    "estimator",
    SgvbA,
    SgvbB,
    ScoreFunction,
    StickingTheLanding,
    Iwae,
    Dreg,
    Vimco,
    Renyi,
    Miwae,
    Piwae,
    Ciwae,
    base=AbstractEstimator,
)
