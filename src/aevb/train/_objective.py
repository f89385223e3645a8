"""Objectives that are no bounds: a weighted KL divergence, and free bits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aevb.distributions import kl_per_dimension
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    posterior_and_prior,
)


class FreeBits(NamedTuple):
    r"""The KL divergence of each group of latent dimensions counts as lambda nats where it is less.

    The objective has sum_g max(lambda, mean over the minibatch of KL_g) in the place of the KL, so that a dimension is
    not pushed to the prior before it has learnt to carry anything. Not a lower bound on log p(x), nor an upper one of
    the ELBO's KL for one row. Kingma et al. (2016), section 2.4 and eq. 15 of its appendix.

    Args:
        nats: lambda, for each group.
        group_size: latent dimensions in a group, in their order; 1: each dimension on its own.
    """

    nats: float
    group_size: int = 1


def free_bits_kl(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    batch: Rows,
    free_bits: FreeBits,
) -> Float[Array, ""]:
    """sum_g max(lambda, 1/M sum_i KL_g(x_i)), in nats per example.

    Raises:
        UnavailableError: the model has only `log_joint`, or posterior and prior do not fall apart into dimensions.
        ValueError: the groups do not divide the latent dimensions.
    """
    if not isinstance(generative, AbstractPriorLikelihood):
        raise UnavailableError(
            f"free bits need a generative model in two parts, prior() and likelihood(z); {type(generative).__name__} "
            "has only log_joint, so its KL is unknown"
        )
    per_row = jax.vmap(lambda x: kl_per_dimension(*posterior_and_prior(generative, recognition, x)))(batch)
    per_dimension = jnp.mean(per_row, axis=0)
    if per_dimension.size % free_bits.group_size:
        raise ValueError(
            f"free bits in groups of {free_bits.group_size} do not divide {per_dimension.size} latent dimensions"
        )
    groups = jnp.sum(per_dimension.reshape(-1, free_bits.group_size), axis=1)
    return jnp.sum(jnp.maximum(groups, free_bits.nats))
