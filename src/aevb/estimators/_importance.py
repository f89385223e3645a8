"""Importance-weighted bounds, and the gradients that have been proposed for them."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import as_drawn
from aevb.errors import ConfigError
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, X, posterior_of

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import (
    log_mean_exp,
    log_weights,
    refuse_moving_support,
    reparameterized_draws,
    reparameterized_samples,
    scale_gradient,
    stopped,
    with_gradient_of,
)


class Iwae(AbstractEstimator):
    r"""The importance-weighted bound: log 1/K sum_k w_k, w_k = p(x, z_k) / q(z_k | x), z_k = g(eps_k, x).

    In expectation a lower bound on log p(x), the ELBO at K = 1, and rising with K. Value and gradient, for theta and
    phi, are unbiased for that bound. The signal-to-noise ratio of phi's gradient falls as 1/sqrt(K) (Rainforth et al.
    2018). Cost: one pass of the encoder, K of the decoder. Burda, Grosse & Salakhutdinov (2016), eqs. 8 and 13.

    Args:
        num_samples: K.

    Raises:
        UnavailableError: q(z | x) has no reparameterised sampler.
    """

    kind: ClassVar[str] = "iwae"
    bound_name: ClassVar[str] = "iwae_bound"
    num_samples: int = eqx.field(static=True, default=5)

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
        return weights.estimate(log_mean_exp(weights.log_w))


class Dreg(AbstractEstimator):
    r"""Doubly reparameterised gradient of the importance-weighted bound.

    The value is `Iwae`'s, to the bit. With v_k = w_k / sum_j w_j, the gradient is

        theta:  sum_k v_k   grad_theta log w_k                    (`Iwae`'s own)
        phi:    sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)   (the density q is held fixed)

    Both are unbiased for the gradient of the bound; phi's has a variance that does not grow with K, and is exactly zero
    where q is the true posterior. At K = 1 it is `StickingTheLanding`. Cost: as `Iwae`, and the density of q at z once
    more (for an inverse autoregressive flow that is its slow inverse). Tucker, Lawson, Gu & Maddison (2019), eq. 8.

    Args:
        num_samples: K.

    Raises:
        UnavailableError: q(z | x) has no reparameterised sampler, or its parameters move the edge of its support.
    """

    kind: ClassVar[str] = "dreg"
    bound_name: ClassVar[str] = "iwae_bound"
    num_samples: int = eqx.field(static=True, default=5)

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
        refuse_moving_support(q, "the doubly reparameterised gradient")
        u, log_q = reparameterized_draws(q, key, self.num_samples)
        draws, held = as_drawn(q), as_drawn(posterior_of(stopped(recognition), x))
        # Once for the value of v_k. It is the same computation as below, and the compiler does it once.
        weights = jax.lax.stop_gradient(log_weights(generative, x, draws.value(u), log_q, layers_of=q))
        v = jax.grad(log_mean_exp)(weights.log_w)  # zero, too, where all weights are
        # sum_k v_k log w_k sends v_k into each log w_k; on the way on into z_k it is multiplied by v_k once more.
        u = scale_gradient(u, jnp.broadcast_to(v.reshape(v.shape + (1,) * (u.ndim - 1)), u.shape))
        log_w = log_weights(generative, x, draws.value(u), held.log_prob(u)).log_w
        return weights.estimate(with_gradient_of(log_mean_exp(weights.log_w), jnp.dot(v, log_w)))


class Miwae(AbstractEstimator):
    r"""The mean of M importance-weighted bounds of K samples each: 1/M sum_m log 1/K sum_k w_mk.

    Unbiased, value and gradient, for the bound of `Iwae(K)`; M lowers the variance. Cost: one pass of the encoder, M K
    of the decoder. Rainforth et al. (2018), section 4.

    Args:
        num_samples: K, samples in a group.
        num_groups: M.
    """

    kind: ClassVar[str] = "miwae"
    bound_name: ClassVar[str] = "iwae_bound"
    num_samples: int = eqx.field(static=True, default=5)
    num_groups: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        _check_groups(self.num_samples, self.num_groups)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        q = posterior_of(recognition, x)
        z, log_q = reparameterized_samples(q, key, self.num_groups * self.num_samples)
        weights = log_weights(generative, x, z, log_q, layers_of=q)
        return weights.estimate(_mean_of_groups(weights.log_w, self.num_groups))


class Piwae(AbstractEstimator):
    r"""Partially importance-weighted: theta follows one bound of M K samples, phi the mean of M bounds of K samples.

    The value is that of `Iwae(M K)`. Unbiased for two different gradients: theta's for the bound of `Iwae(M K)`, which
    is tighter, phi's for that of `Miwae(K, M)`, which has the better signal-to-noise ratio. So there is no one function
    that it climbs. Cost: as `Iwae(M K)`, but two backward passes through the decoder. Rainforth et al. (2018),
    section 4.

    Args:
        num_samples: K, samples in a group.
        num_groups: M.
    """

    kind: ClassVar[str] = "piwae"
    bound_name: ClassVar[str] = "iwae_bound"
    num_samples: int = eqx.field(static=True, default=5)
    num_groups: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        _check_groups(self.num_samples, self.num_groups)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        q = posterior_of(recognition, x)
        z, log_q = reparameterized_samples(q, key, self.num_groups * self.num_samples)
        for_phi = log_weights(stopped(generative), x, z, log_q).log_w
        held = jax.lax.stop_gradient((z, log_q))
        for_theta = log_weights(generative, x, *held, layers_of=q)
        bound = log_mean_exp(for_theta.log_w)
        return for_theta.estimate(with_gradient_of(bound, bound + _mean_of_groups(for_phi, self.num_groups)))


class Ciwae(AbstractEstimator):
    r"""A combination: beta ELBO + (1 - beta) Iwae(K), both from the same K samples.

    A lower bound for beta in [0, 1], unbiased for itself in value and gradient; between the ELBO of K samples (1) and
    `Iwae` (0). Cost: as `Iwae`. Rainforth et al. (2018), section 4.

    Args:
        num_samples: K.
        beta: weight of the ELBO.
    """

    kind: ClassVar[str] = "ciwae"
    bound_name: ClassVar[str] = "ciwae_bound"
    num_samples: int = eqx.field(static=True, default=5)
    beta: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples)
        if not 0.0 <= self.beta <= 1.0:
            raise ConfigError(f"beta of 'ciwae' must lie in [0, 1], got {self.beta}")

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
        elbo = jnp.mean(weights.log_w)
        if self.beta in (0.0, 1.0):  # one bound alone: 0 times the other's -inf would be no number
            return weights.estimate(elbo if self.beta else log_mean_exp(weights.log_w))
        return weights.estimate(self.beta * elbo + (1.0 - self.beta) * log_mean_exp(weights.log_w))


def _mean_of_groups(log_w: Float[Array, " MK"], num_groups: int) -> Float[Array, ""]:
    """1/M sum_m log 1/K sum_k w_mk."""
    return jnp.mean(log_mean_exp(log_w.reshape(num_groups, -1)))


def _check_groups(num_samples: int, num_groups: int) -> None:
    check_num_samples(num_samples)
    if num_groups < 1:
        raise ConfigError(f"num_groups must be at least 1, got {num_groups}")
