"""Families of distributions, on NumPyro, and the divergences between them.

This is the only package that imports NumPyro. A NumPyro distribution lives inside ONE traced, per-example function: its
pytree leaves come in an order that depends on PYTHONHASHSEED, and one that crosses `jax.vmap` draws the same noise for
every row. So none is ever stored in a model, returned from a `vmap`, or closed over.
"""

from numpyro.distributions import Categorical as Categorical
from numpyro.distributions import Delta as Delta
from numpyro.distributions import Distribution as Distribution
from numpyro.distributions import Independent as Independent
from numpyro.distributions import Laplace as Laplace
from numpyro.distributions import MixtureSameFamily as MixtureSameFamily
from numpyro.distributions import MultivariateNormal as MultivariateNormal
from numpyro.distributions import Normal as Normal
from numpyro.distributions import biject_to as biject_to
from numpyro.distributions import constraints as constraints

from ._bernoulli import Bernoulli as Bernoulli
from ._bernoulli import BernoulliCrossEntropy as BernoulliCrossEntropy
from ._bounded import Pareto as Pareto
from ._bounded import Reciprocal as Reciprocal
from ._bounded import Triangular as Triangular
from ._bounded import Uniform as Uniform
from ._dirichlet import Beta as Beta
from ._dirichlet import Dirichlet as Dirichlet
from ._dirichlet import F as F
from ._families import FAMILIES as FAMILIES
from ._families import family_lies_within as family_lies_within
from ._family import Family as Family
from ._gamma import Chi2 as Chi2
from ._gamma import Gamma as Gamma
from ._inverse_cdf import Cauchy as Cauchy
from ._inverse_cdf import Erlang as Erlang
from ._inverse_cdf import Exponential as Exponential
from ._inverse_cdf import Gompertz as Gompertz
from ._inverse_cdf import Rayleigh as Rayleigh
from ._inverse_cdf import Weibull as Weibull
from ._kl import has_analytic_kl as has_analytic_kl
from ._kl import kl_divergence as kl_divergence
from ._kl import kl_per_dimension as kl_per_dimension
from ._likelihoods import ContinuousBernoulli as ContinuousBernoulli
from ._likelihoods import DiscretizedLogistic as DiscretizedLogistic
from ._location import location_and_scale as location_and_scale
from ._location_scale import Gumbel as Gumbel
from ._location_scale import Logistic as Logistic
from ._location_scale import LogNormal as LogNormal
from ._location_scale import MultivariateStudentT as MultivariateStudentT
from ._location_scale import StudentT as StudentT
from ._reparameterize import Reparameterized as Reparameterized
from ._reparameterize import as_drawn as as_drawn
from ._reparameterize import drawn_and_log_prob as drawn_and_log_prob
from ._reparameterize import rsample_and_log_prob as rsample_and_log_prob
from ._reparameterize import sample_and_log_prob as sample_and_log_prob
from ._scale import log_scale as log_scale
from ._scale import positive_scale as positive_scale
from ._sequential import Sequential as Sequential
from ._sequential import divergent_layers as divergent_layers
from ._sequential import log_ratio_per_layer as log_ratio_per_layer
from ._sequential import split_layers as split_layers
from ._special import expm1_minus as expm1_minus
from ._support import has_point_mass as has_point_mass
from ._support import support_depends_on_parameters as support_depends_on_parameters
from ._von_mises import VonMises as VonMises

__all__ = [
    "FAMILIES",
    "Bernoulli",
    "BernoulliCrossEntropy",
    "Beta",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ContinuousBernoulli",
    "Delta",
    "Dirichlet",
    "DiscretizedLogistic",
    "Distribution",
    "Erlang",
    "Exponential",
    "F",
    "Family",
    "Gamma",
    "Gompertz",
    "Gumbel",
    "Independent",
    "Laplace",
    "LogNormal",
    "Logistic",
    "MixtureSameFamily",
    "MultivariateNormal",
    "MultivariateStudentT",
    "Normal",
    "Pareto",
    "Rayleigh",
    "Reciprocal",
    "Reparameterized",
    "Sequential",
    "StudentT",
    "Triangular",
    "Uniform",
    "VonMises",
    "Weibull",
    "as_drawn",
    "biject_to",
    "constraints",
    "divergent_layers",
    "drawn_and_log_prob",
    "expm1_minus",
    "family_lies_within",
    "has_analytic_kl",
    "has_point_mass",
    "kl_divergence",
    "kl_per_dimension",
    "location_and_scale",
    "log_ratio_per_layer",
    "log_scale",
    "positive_scale",
    "rsample_and_log_prob",
    "sample_and_log_prob",
    "split_layers",
    "support_depends_on_parameters",
]
