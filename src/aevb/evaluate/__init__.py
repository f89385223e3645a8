"""How good a model is, in nats, with error bars."""

from ._elbo import elbo as elbo
from ._importance import log_likelihood as log_likelihood
from ._summary import Mean as Mean
from ._summary import mean as mean
