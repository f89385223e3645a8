"""The bound on held-out data."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb.distributions import has_analytic_kl
from aevb.estimators import AbstractEstimator, Estimate, SgvbA, SgvbB
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    posterior_and_prior,
    take,
)

from ._rows import map_rows
from ._simulated import given_rows


def elbo(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    estimator: AbstractEstimator | None = None,
    batch_size: int = 500,
) -> Estimate:
    """The lower bound on log p(x) of each row, and its two terms.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x).
        rows: x as the models see it, (N, D).
        key: row i uses fold_in(key, i).
        estimator: of the bound; None: estimator B (eq. 7) with one sample. Its noise averages out over the rows.
        batch_size: rows at once. Does not change the result beyond rounding.

    Returns:
        An `Estimate` of NumPy arrays of shape (N,), in nats.

    Example:
        >>> import jax
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> elbo(g, q, np.zeros((5, 4), np.float32), jax.random.key(2)).bound.shape
        (5,)
    """
    args = (SgvbB() if estimator is None else estimator, generative, recognition)
    estimate: Estimate = map_rows(_elbo_of_row, args, rows, key, batch_size=batch_size)
    return estimate


def elbo_estimator(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    num_samples: int = 1,
    *,
    like: Rows | None = None,
) -> SgvbA | SgvbB:
    """Estimator B where the KL of this posterior to this prior has a closed form, else estimator A. Runs nothing.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x).
        num_samples: L.
        like: rows of data. A conditional model needs them: it cannot make an x by itself.
    """
    if not isinstance(generative, AbstractPriorLikelihood):
        return SgvbA(num_samples)

    def ask(pair: tuple[AbstractPriorLikelihood, AbstractRecognitionModel]) -> bool:
        return has_analytic_kl(*posterior_and_prior(*pair, _simulated(pair[0], jax.random.key(0), like)))

    return SgvbB(num_samples) if eqx.filter_eval_shape(ask, (generative, recognition)) else SgvbA(num_samples)


def try_estimator(
    estimator: AbstractEstimator,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    *,
    like: Rows | None = None,
) -> None:
    """Raise what the estimator would raise on this pair of models: a trace by shapes, nothing is computed.

    Args:
        estimator: of the bound.
        generative, recognition, like: as for `elbo_estimator`.

    Raises:
        UnavailableError: the estimator cannot be used with these models; says why.
        ValueError: the shapes of the models' parts do not fit together.
    """

    def bound(key: PRNGKeyArray, pair: tuple[AbstractGenerativeModel, AbstractRecognitionModel]) -> Array:
        return estimator(key, *pair, _simulated(pair[0], key, like)).bound

    eqx.filter_eval_shape(bound, jax.random.key(0), (generative, recognition))


def _simulated(generative: AbstractGenerativeModel, key: PRNGKeyArray, like: Rows | None) -> X:
    """An x of the model's own making."""
    _, given = take(given_rows(generative, like, np.arange(1)), 0)
    return as_floats(generative.sample(key, *as_floats(given))[0])


def _elbo_of_row(
    estimator: AbstractEstimator,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    key: PRNGKeyArray,
    row: X,
) -> Estimate:
    return estimator(key, generative, recognition, as_floats(row))
