"""How good a model is, in nats, with error bars."""

from ._elbo import elbo as elbo
from ._elbo import elbo_estimator as elbo_estimator
from ._elbo import try_estimator as try_estimator
from ._gradients import EstimatorNoise as EstimatorNoise
from ._gradients import compare_estimators as compare_estimators
from ._importance import log_likelihood as log_likelihood
from ._summary import Mean as Mean
from ._summary import mean as mean
