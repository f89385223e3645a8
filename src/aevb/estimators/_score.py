"""Gradients by the score function, which need no reparameterisation: the paper's naive estimator, and VIMCO."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.errors import ConfigError
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, X, posterior_of

from ._base import AbstractEstimator, Estimate, check_num_samples
from ._log_weights import fixed_samples, log_mean_exp, log_weights, refuse_moving_support, with_gradient_of

BASELINES = ("none", "running-mean", "leave-one-out")


class ScoreFunction(AbstractEstimator):
    r"""The naive Monte Carlo gradient of section 2.2: 1/L sum_l (log w_l - c) grad_phi log q_phi(z_l | x).

    The value is estimator A's; theta's gradient is the mean of grad_theta log p(x, z_l). All of it is unbiased for the
    ELBO, with any q that has a density and a sampler, reparameterised or not. phi's gradient has "very high variance
    and is impractical" (Kingma & Welling, section 2.2); the baseline c, which must not depend on z_l, lowers it:

    none           c = 0
    running-mean   c = mean of log w over earlier steps (Mnih & Gregor 2014), decayed by 0.9; zero at the first step.
                   Needs a training algorithm that carries its state; outside of one c = 0.
    leave-one-out  c_l = mean of the other samples' log w; needs L >= 2 (Mnih & Rezende 2016; Kool et al. 2019)

    Departs from eq. (BBVI) of Paisley, Blei & Jordan (2012) in that f contains -log q itself, whose own gradient has
    mean zero and is dropped. Cost: as estimator A.

    Args:
        num_samples: L, latent samples per example; None: as few as the baseline allows.
        baseline: c.
        running_mean: of log w over the steps so far, with that baseline.

    Raises:
        UnavailableError: the parameters of q(z | x) move the edge of its support: the score's mean is not zero then.
    """

    kind: ClassVar[str] = "score"
    num_samples: int = eqx.field(static=True)
    baseline: str = eqx.field(static=True)
    running_mean: Float[Array, ""] | None

    def __init__(
        self, num_samples: int | None = None, baseline: str = "none", running_mean: Float[Array, ""] | None = None
    ):
        least = 2 if baseline == "leave-one-out" else 1
        self.num_samples = least if num_samples is None else num_samples
        self.baseline = baseline
        self.running_mean = running_mean

    def __check_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise ConfigError(f"unknown baseline {self.baseline!r}; choose one of {', '.join(BASELINES)}")
        least, why = (2, " for the leave-one-out baseline") if self.baseline == "leave-one-out" else (1, "")
        check_num_samples(self.num_samples, least=least, why=why)

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        q = posterior_of(recognition, x)
        refuse_moving_support(q, "the score function")
        z, log_q = fixed_samples(q, key, self.num_samples)
        weights = log_weights(generative, x, z, jax.lax.stop_gradient(log_q), layers_of=q)
        f = jax.lax.stop_gradient(weights.log_w)
        c: Array | float = 0.0 if self.running_mean is None else self.running_mean
        if self.baseline == "leave-one-out":
            c = (jnp.sum(f) - f) / (self.num_samples - 1)
        # theta: grad log p(x, z_l), for z_l and log q are held; phi: (f - c) grad log q(z_l).
        surrogate = jnp.mean(weights.log_w + (f - c) * log_q)
        return weights.estimate(with_gradient_of(jnp.mean(f), surrogate))

    def init_state(self) -> tuple[Float[Array, ""], Float[Array, ""]] | tuple[()]:
        """(decayed sum of log w, decayed number of steps), or nothing."""
        return (jnp.zeros(()), jnp.zeros(())) if self.baseline == "running-mean" else ()

    def with_state(self, state: tuple[Array, ...]) -> "ScoreFunction":
        """With the mean of the steps so far as its baseline."""
        if self.baseline != "running-mean":
            return self
        total, count = state
        return ScoreFunction(self.num_samples, self.baseline, total / jnp.maximum(count, 1e-6))

    def next_state(self, state: tuple[Array, ...], estimates: Estimate) -> tuple[Array, ...]:
        """The state with one more step in it."""
        if self.baseline != "running-mean":
            return state
        total, count = state
        return 0.9 * total + jnp.mean(jax.lax.stop_gradient(estimates.bound)), 0.9 * count + 1.0


class Vimco(AbstractEstimator):
    r"""The importance-weighted bound by the score function, each sample judged against the others.

    With L_K = log 1/K sum_k w_k and v_k = w_k / sum_j w_j, the gradient is

        sum_k (L_K - L_K^{-k}) grad_phi log q(z_k | x) + sum_k v_k grad log w_k    (z_k held)

    where L_K^{-k} puts the geometric mean of the other weights in the place of w_k: a baseline that does not depend on
    z_k. The value is `Iwae`'s; value and gradient, for theta and phi, are unbiased for that bound, with any q that has
    a density and a sampler. Cost: as `Iwae`. Mnih & Rezende (2016), eqs. 5 to 8.

    Args:
        num_samples: K, at least 2.
    """

    kind: ClassVar[str] = "vimco"
    bound_name: ClassVar[str] = "iwae_bound"
    num_samples: int = eqx.field(static=True, default=5)

    def __check_init__(self) -> None:
        check_num_samples(self.num_samples, least=2, why=" (the baseline of a sample is made of the others)")

    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """The estimate for one example."""
        q = posterior_of(recognition, x)
        refuse_moving_support(q, "VIMCO")
        z, log_q = fixed_samples(q, key, self.num_samples)
        weights = log_weights(generative, x, z, log_q, layers_of=q)
        bound = log_mean_exp(weights.log_w)
        f = jax.lax.stop_gradient(weights.log_w)
        own = jnp.eye(self.num_samples, dtype=bool)
        others = jnp.sum(jnp.where(own, 0.0, f), axis=1) / (self.num_samples - 1)  # log of their geometric mean
        baseline = log_mean_exp(jnp.where(own, others[:, None], f))  # row k: w_k replaced
        # Where all others are zero: any number that does not depend on z_k leaves the mean of the gradient as it is.
        signal = log_mean_exp(f) - jnp.where(baseline == -jnp.inf, 0.0, baseline)
        signal = jnp.where(bound == -jnp.inf, 0.0, signal)  # all are zero: no sample is better than the others
        return weights.estimate(with_gradient_of(bound, bound + jnp.dot(signal, log_q)))
