"""What an estimator is, and how the estimates of a minibatch stand for the whole data set (eq. 8)."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel


class Estimate(NamedTuple):
    """An estimate of the bound on log p(x) for one example (or, after `vmap`, for a batch), in nats, higher is better.

    `bound` is the estimate of the lower bound; its gradient is the estimator's gradient. Where the generative model
    comes in two parts, bound = log_likelihood - kl:
    `log_likelihood` estimates E_q[log p(x | z)], the reconstruction term, and `kl` is D_KL(q(z | x) || p(z)), exact
    with estimator B and sampled with estimator A. For a model that only has `log_joint` both are None.
    """

    bound: Float[Array, "*batch"]
    log_likelihood: Float[Array, "*batch"] | None
    kl: Float[Array, "*batch"] | None


class AbstractEstimator(eqx.Module):
    """An estimator of the lower bound for ONE example; frozen, and free of arrays."""

    num_samples: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: Float[Array, "*x"],
    ) -> Estimate:
        """Estimate the bound on log p(x). `key` is this example's own."""


def minibatch_bound(
    estimator: AbstractEstimator,
    keys: Key[Array, " M"],
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    batch: Float[Array, "M *x"],
    num_examples: int,
) -> tuple[Float[Array, ""], Estimate]:
    r"""Eq. 8: L(theta, phi; X) ~ N/M sum_{i=1..M} L~(theta, phi; x_i), the bound of the WHOLE data set.

    Args:
        estimator: SGVB estimator of one example's bound.
        keys: M keys, one per row, so that no two rows share noise.
        generative: p_theta(x, z).
        recognition: q_phi(z | x).
        batch: M rows, drawn from the N of the data set.
        num_examples: N.

    Returns:
        The estimate for all N examples, in nats, and the M rows' own estimates.
    """
    estimates = jax.vmap(estimator, in_axes=(0, None, None, 0))(keys, generative, recognition, batch)
    return num_examples / batch.shape[0] * jnp.sum(estimates.bound), estimates
