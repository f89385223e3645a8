"""The two estimators of section 2.3 of the paper."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from aevb.distributions import kl_divergence
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    X,
    log_likelihood_of,
    posterior_and_prior,
    posterior_of,
)

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import log_weights, over_samples, reparameterized_samples


class SgvbA(AbstractEstimator):
    r"""Estimator A, eq. 6: 1/L sum_l [ log p(x, z_l) - log q(z_l | x) ], z_l = g(eps_l, x).

    Asks the generative model for `log_joint` only. Unbiased for the ELBO, and so is its gradient, for theta and phi.
    Cost: one pass of the encoder, L of the decoder. Kingma & Welling (2014), section 2.3.

    Args:
        num_samples: L, latent samples per example.

    Raises:
        UnavailableError: q(z | x) has no reparameterised sampler.
    """

    kind: ClassVar[str] = "sgvb-a"
    differentiable_terms: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        q = posterior_of(recognition, x)
        z, log_q = reparameterized_samples(q, key, self.num_samples)
        weights = log_weights(generative, x, z, log_q, layers_of=q)
        return weights.estimate(jnp.mean(weights.log_w))


class SgvbB(AbstractEstimator):
    r"""Estimator B, eq. 7: -D_KL(q(z | x) || p(z)) + 1/L sum_l log p(x | z_l), z_l = g(eps_l, x).

    The KL is in closed form, so that only the reconstruction term is sampled; typically the variance is lower than
    estimator A's. Unbiased for the ELBO, and so is its gradient, for theta and phi. Cost: one pass of the encoder, L of
    the decoder. Kingma & Welling (2014), section 2.3.

    Args:
        num_samples: L, latent samples per example.

    Raises:
        UnavailableError: the generative model has no `prior()` and `likelihood(z)`, or no closed form of the KL is
            known, or q(z | x) has no reparameterised sampler.
    """

    kind: ClassVar[str] = "sgvb-b"
    differentiable_terms: ClassVar[bool] = True
    num_samples: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        if not isinstance(generative, AbstractPriorLikelihood):
            raise UnavailableError(
                f"estimator B needs prior() and likelihood(z), but {type(generative).__name__} has only log_joint; "
                "derive it from AbstractPriorLikelihood, or use estimator A (SgvbA), which needs log_joint alone"
            )
        q, p = posterior_and_prior(generative, recognition, x)
        kl = kl_divergence(q, p)
        z, _ = reparameterized_samples(q, key, self.num_samples)
        log_likelihood = jnp.mean(over_samples(lambda z: log_likelihood_of(generative, x, z), z))
        return Estimate(log_likelihood - kl, log_likelihood, kl)
