"""The bound on held-out data."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray, Real

from aevb.distributions import has_analytic_kl
from aevb.estimators import AbstractEstimator, Estimate, SgvbA, SgvbB
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    posterior_and_prior,
)

from ._rows import map_rows


def elbo(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
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
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> elbo(g, q, np.zeros((5, 4), np.float32), jax.random.key(2)).bound.shape
        (5,)
    """
    args = (SgvbB() if estimator is None else estimator, generative, recognition)
    estimate: Estimate = map_rows(_elbo_of_row, args, rows, key, batch_size=batch_size)
    return estimate


def elbo_estimator(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, num_samples: int = 1
) -> SgvbA | SgvbB:
    """Estimator B where the KL of this posterior to this prior has a closed form, else estimator A. Runs nothing."""
    return SgvbB(num_samples) if _kl_has_closed_form(generative, recognition) else SgvbA(num_samples)


def _kl_has_closed_form(generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel) -> bool:
    if not isinstance(generative, AbstractPriorLikelihood):
        return False

    def ask(pair: tuple[AbstractPriorLikelihood, AbstractRecognitionModel]) -> bool:
        x, _ = pair[0].sample(jax.random.key(0))
        return has_analytic_kl(*posterior_and_prior(*pair, x.astype(float)))

    return bool(eqx.filter_eval_shape(ask, (generative, recognition)))


def try_estimator(
    estimator: AbstractEstimator, generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel
) -> None:
    """Raise what the estimator would raise on this pair of models: a trace by shapes, nothing is computed.

    Raises:
        UnavailableError: the estimator cannot be used with these models; says why.
        ValueError: the shapes of the models' parts do not fit together.
    """

    def bound(key: PRNGKeyArray, pair: tuple[AbstractGenerativeModel, AbstractRecognitionModel]) -> Array:
        x, _ = pair[0].sample(key)
        return estimator(key, *pair, x.astype(float)).bound

    eqx.filter_eval_shape(bound, jax.random.key(0), (generative, recognition))


def _elbo_of_row(
    estimator: AbstractEstimator,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    key: PRNGKeyArray,
    row: Array,
) -> Estimate:
    return estimator(key, generative, recognition, row.astype(float))
