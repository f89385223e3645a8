"""The exact-posterior identity: where q is the true posterior, EVERY sample's log weight is log p(x). No averaging."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _oracles import JointOnly, LinearRecognition, Problem, estimates, row_keys, z_scores

from aevb import evaluate
from aevb.estimators import SgvbA, SgvbB
from aevb.models import AbstractGenerativeModel

PROBLEM = Problem.make(data_dim=20, latent_dim=4, num_rows=500)
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}

# A recognition model that is wrong by one per cent must miss the identity by far more than the tolerance.
WRONG = [{"scale": 1.01}, {"shift": 0.01}, {"tilt": 1.01}]


@eqx.filter_jit
def log_weights(generative, recognition, keys, rows):
    def one(key, x):
        q = recognition.posterior(x)
        z = q.sample(key)
        return generative.log_joint(x, z) - q.log_prob(z)

    return jax.vmap(one)(keys, rows)


def by_log_joint(generative: AbstractGenerativeModel, recognition: LinearRecognition, rows: np.ndarray) -> np.ndarray:
    return np.asarray(log_weights(generative, recognition, row_keys(jax.random.key(1), len(rows)), jnp.asarray(rows)))


def by_sgvb_a(generative: AbstractGenerativeModel, recognition: LinearRecognition, rows: np.ndarray) -> np.ndarray:
    keys = row_keys(jax.random.key(2), len(rows))
    return estimates(SgvbA(num_samples=1), keys, generative, recognition, rows)[0]


def by_one_importance_sample(
    generative: AbstractGenerativeModel, recognition: LinearRecognition, rows: np.ndarray
) -> np.ndarray:
    return evaluate.log_likelihood(generative, recognition, rows, jax.random.key(3), num_samples=1, proposal="encoder")


def by_importance_sampling(
    generative: AbstractGenerativeModel, recognition: LinearRecognition, rows: np.ndarray
) -> np.ndarray:
    return evaluate.log_likelihood(
        generative, recognition, rows, jax.random.key(3), num_samples=7, proposal="encoder", chunk_size=3
    )


def by_elbo_of_sgvb_a(
    generative: AbstractGenerativeModel, recognition: LinearRecognition, rows: np.ndarray
) -> np.ndarray:
    return evaluate.elbo(generative, recognition, rows, jax.random.key(4), estimator=SgvbA(3)).bound


PATHS = [by_log_joint, by_sgvb_a, by_one_importance_sample, by_importance_sampling, by_elbo_of_sgvb_a]


def largest_error(path, recognition: LinearRecognition, *, joint_only: bool = False) -> float:
    generative = JointOnly(PROBLEM.generative()) if joint_only else PROBLEM.generative()
    rows = PROBLEM.rows.astype(jnp.result_type(float))
    return float(np.max(np.abs(path(generative, recognition, rows) - PROBLEM.log_marginal())))


@pytest.mark.parametrize("path", PATHS)
def test_every_log_weight_is_the_log_marginal(path, precision):
    assert largest_error(path, PROBLEM.recognition()) <= TOLERANCE[precision]


@pytest.mark.parametrize("path", PATHS)
def test_every_log_weight_is_the_log_marginal_for_a_model_that_only_has_log_joint(path, x64):
    assert largest_error(path, PROBLEM.recognition(), joint_only=True) <= TOLERANCE["float64"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("path", PATHS)
def test_a_posterior_that_is_off_by_one_per_cent_breaks_the_identity(path, wrong, precision):
    assert largest_error(path, PROBLEM.recognition(**wrong)) > 10 * TOLERANCE[precision]


def sgvb_b_draws(row: np.ndarray, num: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    generative, recognition = PROBLEM.generative(), PROBLEM.recognition()
    rows = np.broadcast_to(row, (num, len(row)))
    bound, _, kl = estimates(SgvbB(), row_keys(jax.random.key(5), num), generative, recognition, rows)
    return bound, kl


@pytest.mark.parametrize("index", range(5))
def test_estimator_b_is_the_log_marginal_in_the_mean(index, x64):
    bound, kl = sgvb_b_draws(PROBLEM.rows[index])
    assert abs(z_scores(bound, PROBLEM.log_marginal()[index])) < 5
    # Negative controls: a KL that is off by 5 %, or counted twice.
    assert abs(z_scores(bound - 0.05 * kl, PROBLEM.log_marginal()[index])) > 5
    assert abs(z_scores(bound - kl, PROBLEM.log_marginal()[index])) > 5
