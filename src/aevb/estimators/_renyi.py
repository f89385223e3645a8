"""The variational Renyi bound."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import expm1_minus
from aevb.errors import ConfigError
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, X, posterior_of

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import log_mean_exp, log_weights, reparameterized_samples


class Renyi(AbstractEstimator):
    r"""1/(1 - alpha) log 1/K sum_k w_k^(1 - alpha), z_k = g(eps_k, x).

    As K grows it tends to log p(x) - D_alpha(q(z | x) || p(z | x)): a lower bound on log p(x) for alpha > 0, log p(x)
    itself at 0, an upper bound for alpha < 0. With K samples it is biased for that limit: unbiased, value and
    gradient, only for its own K-sample mean, which for alpha <= 1 never exceeds the limit; so for alpha < 0 it lies on
    neither side of log p(x) for certain. alpha = 1 is the ELBO, 0 is `Iwae`, and -inf takes the largest weight alone
    (VR-max); where several weights are equally large, as all are with the true posterior, one is taken by its position,
    and theta's gradient is that of its sample. Cost: as `Iwae`. Li & Turner (2016), eqs. 9 and 10.

    Args:
        num_samples: K.
        alpha: order; any number, or -inf.
    """

    kind: ClassVar[str] = "renyi"
    bound_name: ClassVar[str] = "renyi_objective"
    num_samples: int = eqx.field(static=True, default=5)
    alpha: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples)
        if math.isnan(self.alpha) or self.alpha == math.inf:
            raise ConfigError(f"alpha must be a number or -inf, got {self.alpha}")

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
        if self.alpha == 1.0:
            return weights.estimate(jnp.mean(weights.log_w))
        if self.alpha == -math.inf:
            return weights.estimate(jnp.max(weights.log_w))
        return weights.estimate(_log_power_mean(weights.log_w, 1.0 - self.alpha))


def _log_power_mean(log_w: Float[Array, " K"], power: float) -> Float[Array, ""]:
    """1/power log 1/K sum_k w_k^power, power not 0.

    Weights of zero add nothing if power > 0, and make the mean infinite, its root zero and the logarithm -inf if not.
    """
    positive = log_w != -jnp.inf
    n = jnp.sum(positive).astype(log_w.dtype)
    # power * log w about the mean of the positive w's log w: near power = 0, the ELBO, nothing cancels.
    middle = jnp.sum(jnp.where(positive, log_w, 0.0)) / jnp.maximum(n, 1)
    t = power * (jnp.where(positive, log_w, middle) - middle)
    small = jnp.max(jnp.abs(t)) < 0.5
    near, far = jnp.where(small, t, 0.0), jnp.where(small | ~positive, 0.0, t)
    # sum(t) = 0 over the n positive ones, so that log 1/n sum exp(t) = log1p(1/n sum(exp(t) - 1 - t)).
    close = jnp.log1p(jnp.sum(expm1_minus(near)) / jnp.maximum(n, 1)) + jnp.log(jnp.maximum(n, 1) / len(log_w))
    wide = log_mean_exp(jnp.where(positive, far, -jnp.inf))
    value = middle + jnp.where(small, close, wide) / power
    return jnp.where((n == 0) | ((power < 0) & (n < len(log_w))), -jnp.inf, value)
