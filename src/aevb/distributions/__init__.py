"""Families of distributions, on NumPyro, and the divergences between them.

This is the only package that imports NumPyro. A NumPyro distribution lives inside ONE traced, per-example function: its
pytree leaves come in an order that depends on PYTHONHASHSEED, and one that crosses `jax.vmap` draws the same noise for
every row. So none is ever stored in a model, returned from a `vmap`, or closed over.
"""

from numpyro.distributions import Distribution as Distribution
from numpyro.distributions import Normal as Normal

from ._bernoulli import Bernoulli as Bernoulli
from ._bernoulli import BernoulliCrossEntropy as BernoulliCrossEntropy
from ._kl import kl_divergence as kl_divergence
from ._scale import log_scale as log_scale
from ._scale import positive_scale as positive_scale

__all__ = [
    "Bernoulli",
    "BernoulliCrossEntropy",
    "Distribution",
    "Normal",
    "kl_divergence",
    "log_scale",
    "positive_scale",
]
