"""SGVB estimators: stochastic, differentiable estimates of the variational lower bound."""

from ._base import AbstractEstimator as AbstractEstimator
from ._base import Estimate as Estimate
from ._base import minibatch_bound as minibatch_bound
from ._sgvb import SgvbA as SgvbA
from ._sgvb import SgvbB as SgvbB
