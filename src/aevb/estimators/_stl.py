"""The ELBO's pathwise gradient without its score term."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from aevb.distributions import as_drawn
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, X, posterior_of

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import log_weights, refuse_moving_support, reparameterized_draws, stopped, with_gradient_of


class StickingTheLanding(AbstractEstimator):
    r"""Estimator A's value; the gradient leaves out grad_phi log q_phi(z | x) at fixed z, whose mean is zero.

    What remains for phi is the path through z alone, 1/L sum_l (d log w / d z_l) (d z_l / d phi). Unbiased for the
    ELBO and its gradient, for theta and phi; where q is the true posterior, log w does not depend on z and phi's
    gradient is exactly zero in every sample. It is NOT unbiased for a bound of several importance samples: use `Dreg`
    there. Cost: as estimator A, and the density of q at z once more. Roeder, Wu & Duvenaud (2017), section 3.

    Args:
        num_samples: L, latent samples per example.

    Raises:
        UnavailableError: q(z | x) has no reparameterised sampler, or its parameters move the edge of its support.
    """

    kind: ClassVar[str] = "stl"
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
        refuse_moving_support(q, "sticking the landing")
        u, log_q = reparameterized_draws(q, key, self.num_samples)
        z, held = as_drawn(q).value(u), as_drawn(posterior_of(stopped(recognition), x))
        value = log_weights(generative, x, z, log_q, layers_of=q)
        surrogate = log_weights(generative, x, z, held.log_prob(u)).log_w
        return value.estimate(with_gradient_of(jnp.mean(value.log_w), jnp.mean(surrogate)))
