"""The two estimators of section 2.3 of the paper."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution, kl_divergence
from aevb.models import AbstractGenerativeModel, AbstractPriorLikelihood, AbstractRecognitionModel

from ._base import AbstractEstimator, Estimate


class SgvbA(AbstractEstimator):
    r"""Estimator A, eq. 6: 1/L sum_l [ log p(x, z_l) - log q(z_l | x) ], z_l = g(eps_l, x).

    Asks the generative model for `log_joint` only. Unbiased for the ELBO, and so is its gradient, for theta and phi.
    Kingma & Welling (2014), section 2.3.

    Args:
        num_samples: L, latent samples per example.

    Raises:
        TypeError: q(z | x) has no reparameterised sampler.
    """

    num_samples: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        _check_num_samples(self.num_samples)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: Float[Array, "*x"],
    ) -> Estimate:
        """The estimate for one example."""
        q = recognition.posterior(x)
        z = reparameterized_samples(q, key, self.num_samples)
        log_q = jnp.mean(q.log_prob(z))
        if not isinstance(generative, AbstractPriorLikelihood):
            log_joint = _mean_over_samples(lambda z: generative.log_joint(x, z), z)
            return Estimate(log_joint - log_q, None, None)
        log_likelihood = _mean_over_samples(lambda z: generative.likelihood(z).log_prob(x), z)
        kl = log_q - _mean_over_samples(lambda z: generative.prior().log_prob(z), z)
        return Estimate(log_likelihood - kl, log_likelihood, kl)


class SgvbB(AbstractEstimator):
    r"""Estimator B, eq. 7: -D_KL(q(z | x) || p(z)) + 1/L sum_l log p(x | z_l), z_l = g(eps_l, x).

    The KL is in closed form, so that only the reconstruction term is sampled; typically the variance is lower than
    estimator A's. Unbiased for the ELBO, and so is its gradient, for theta and phi.
    Kingma & Welling (2014), section 2.3.

    Args:
        num_samples: L, latent samples per example.

    Raises:
        TypeError: the generative model has no `prior()` and `likelihood(z)`, or no closed form of the KL is known, or
            q(z | x) has no reparameterised sampler.
    """

    num_samples: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        _check_num_samples(self.num_samples)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: Float[Array, "*x"],
    ) -> Estimate:
        """The estimate for one example."""
        if not isinstance(generative, AbstractPriorLikelihood):
            raise TypeError(
                f"estimator B needs prior() and likelihood(z), but {type(generative).__name__} has only log_joint; "
                "derive it from AbstractPriorLikelihood, or use estimator A (SgvbA), which needs log_joint alone"
            )
        q = recognition.posterior(x)
        kl = kl_divergence(q, generative.prior())
        z = reparameterized_samples(q, key, self.num_samples)
        log_likelihood = _mean_over_samples(lambda z: generative.likelihood(z).log_prob(x), z)
        return Estimate(log_likelihood - kl, log_likelihood, kl)


def reparameterized_samples(q: Distribution, key: PRNGKeyArray, num_samples: int) -> Float[Array, "L *z"]:
    """z_l = g(eps_l, x) for l = 1..L (section 2.4): samples of q through which gradients flow.

    Raises:
        TypeError: q is not reparameterised; its samples carry no gradient, and training on them would be silently
            wrong.
    """
    if not q.has_rsample:
        raise TypeError(
            f"{type(q).__name__} has no reparameterised sampler, so the gradient of an SGVB estimator would miss "
            "its encoder; use a posterior family that has one"
        )
    return q.rsample(key, (num_samples,))


def _mean_over_samples(f: Callable[[Array], Float[Array, ""]], z: Float[Array, "L *z"]) -> Float[Array, ""]:
    """1/L sum_l f(z_l). One sample goes without an axis of its own, which would cost XLA two transposes a layer."""
    return f(z[0]) if len(z) == 1 else jnp.mean(jax.vmap(f)(z))


def _check_num_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
