"""Estimators: stochastic, differentiable estimates of lower bounds on log p(x)."""

from ._base import AbstractEstimator as AbstractEstimator
from ._base import Estimate as Estimate
from ._base import minibatch_bound as minibatch_bound
from ._importance import Ciwae as Ciwae
from ._importance import Dreg as Dreg
from ._importance import Iwae as Iwae
from ._importance import Miwae as Miwae
from ._importance import Piwae as Piwae
from ._log_weights import log_mean_exp as log_mean_exp
from ._registry import ESTIMATORS as ESTIMATORS
from ._renyi import Renyi as Renyi
from ._score import ScoreFunction as ScoreFunction
from ._score import Vimco as Vimco
from ._sgvb import SgvbA as SgvbA
from ._sgvb import SgvbB as SgvbB
from ._statistics import GradientStatistics as GradientStatistics
from ._statistics import gradient_statistics as gradient_statistics
from ._stl import StickingTheLanding as StickingTheLanding
