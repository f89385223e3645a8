"""The variational Renyi bound."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import expm1_minus
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import log_mean_exp, log_weights, reparameterized_samples


class Renyi(AbstractEstimator):
    r"""1/(1 - alpha) log 1/K sum_k w_k^(1 - alpha), z_k = g(eps_k, x).

    As K grows it tends to log p(x) - D_alpha(q(z | x) || p(z | x)): a lower bound on log p(x) for alpha > 0, log p(x)
    itself at 0, an upper bound for alpha < 0. With K samples it is biased for that limit: unbiased, value and
    gradient, only for its own K-sample mean, which for alpha <= 1 never exceeds the limit; so for alpha < 0 it lies on
    neither side of log p(x) for certain. alpha = 1 is the ELBO, 0 is `Iwae`, and -inf takes the largest weight alone
    (VR-max). Cost: as `Iwae`. Li & Turner (2016), eqs. 9 and 10.

    Args:
        num_samples: K.
        alpha: order; any number, or -inf.
    """

    bound_name: ClassVar[str] = "renyi_objective"
    num_samples: int = eqx.field(static=True, default=5)
    alpha: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples)
        if math.isnan(self.alpha) or self.alpha == math.inf:
            raise ValueError(f"alpha must be a number or -inf, got {self.alpha}")

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: Float[Array, "*x"],
    ) -> Estimate:
        """The estimate for one example."""
        z, log_q = reparameterized_samples(recognition.posterior(x), key, self.num_samples)
        weights = log_weights(generative, x, z, log_q)
        if self.alpha == 1.0:
            return weights.estimate(jnp.mean(weights.log_w))
        if self.alpha == -math.inf:
            return weights.estimate(jnp.max(weights.log_w))
        # (1 - alpha) log w about the mean of log w: near alpha = 1, the ELBO, nothing cancels.
        power, middle = 1.0 - self.alpha, jnp.mean(weights.log_w)
        t = power * (weights.log_w - middle)
        small = jnp.max(jnp.abs(t)) < 0.5
        near, far = jnp.where(small, t, 0.0), jnp.where(small, 0.0, t)
        # mean(t) = 0, so that log mean exp(t) = log1p(mean(exp(t) - 1 - t)).
        value = jnp.where(small, jnp.log1p(jnp.mean(expm1_minus(near))), log_mean_exp(far))
        return weights.estimate(middle + value / power)
