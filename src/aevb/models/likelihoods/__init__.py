"""Likelihoods p(x | z): one file for each family, and its line in the registry here."""

from aevb._spec import Registry

from ._bernoulli import BernoulliLikelihood as BernoulliLikelihood
from ._continuous_bernoulli import ContinuousBernoulliLikelihood as ContinuousBernoulliLikelihood
from ._discretized_logistic import DiscretizedLogisticLikelihood as DiscretizedLogisticLikelihood
from ._gaussian import GaussianLikelihood as GaussianLikelihood
from ._laplace import LaplaceLikelihood as LaplaceLikelihood
from ._location_scale import LocationScaleLikelihood as LocationScaleLikelihood
from ._spec import LikelihoodSpec as LikelihoodSpec
from ._student_t import StudentTLikelihood as StudentTLikelihood

LIKELIHOODS: Registry[LikelihoodSpec] = Registry(
    "likelihood",
    BernoulliLikelihood,
    GaussianLikelihood,
    ContinuousBernoulliLikelihood,
    DiscretizedLogisticLikelihood,
    LaplaceLikelihood,
    StudentTLikelihood,
    base=LikelihoodSpec,
)
