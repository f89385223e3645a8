"""Closed forms that the library's results are held against, and models written as a user would write them.

The linear-Gaussian model is x = W z + mu + eps with z ~ N(0, I) and eps ~ N(0, s^2 I). The columns of W are orthogonal,
so the posterior is a Gaussian with diagonal covariance and the encoder's family holds it exactly.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from aevb.distributions import Distribution, Normal
from aevb.estimators import AbstractEstimator, minibatch_bound
from aevb.models import AbstractGenerativeModel, AbstractPriorLikelihood, AbstractRecognitionModel

LOG_2PI = float(np.log(2 * np.pi))


class LinearGaussian(AbstractPriorLikelihood):
    """p(z) = N(0, I), p(x | z) = N(W z + mu, s^2 I)."""

    weight: Array  # (D, J)
    mean: Array  # (D,)
    log_scale: Array  # ()

    def prior(self) -> Distribution:
        return Normal(jnp.zeros_like(self.weight[0]), jnp.ones_like(self.weight[0])).to_event(1)

    def likelihood(self, z: Array) -> Distribution:
        return Normal(self.weight @ z + self.mean, jnp.exp(self.log_scale)).to_event(1)


class LinearRecognition(AbstractRecognitionModel):
    """q(z | x) = N(A x + b, diag t^2), with t the same for every x."""

    weight: Array  # (J, D)
    bias: Array  # (J,)
    log_scale: Array  # (J,)

    def posterior(self, x: Array) -> Distribution:
        return Normal(self.weight @ x + self.bias, jnp.exp(self.log_scale)).to_event(1)


class JointOnly(AbstractGenerativeModel):
    """The linear-Gaussian model, but telling no more than log p(x, z): what estimator A alone can train."""

    inner: LinearGaussian

    def log_joint(self, x: Array, z: Array) -> Array:
        return self.inner.log_joint(x, z)

    def sample(self, key: Array) -> tuple[Array, Array]:
        return self.inner.sample(key)


class Problem(NamedTuple):
    """A linear-Gaussian model in NumPy float64, and N rows drawn from it."""

    weight: np.ndarray
    mean: np.ndarray
    scale: float
    rows: np.ndarray

    @classmethod
    def make(cls, data_dim: int, latent_dim: int, num_rows: int, seed: int = 0) -> "Problem":
        rng = np.random.default_rng(seed)
        basis, _ = np.linalg.qr(rng.normal(size=(data_dim, latent_dim)))
        weight = basis * np.linspace(1.5, 0.7, latent_dim)
        mean, scale = rng.normal(size=data_dim), 0.6
        z = rng.normal(size=(num_rows, latent_dim))
        rows = z @ weight.T + mean + scale * rng.normal(size=(num_rows, data_dim))
        return cls(weight, mean, scale, rows)

    def generative(self) -> LinearGaussian:
        dtype = jnp.result_type(float)
        return LinearGaussian(
            jnp.asarray(self.weight, dtype), jnp.asarray(self.mean, dtype), jnp.asarray(np.log(self.scale), dtype)
        )

    def posterior(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, b and t of the true posterior N(A x + b, diag t^2)."""
        precision = 1.0 + np.sum(self.weight**2, axis=0) / self.scale**2
        a = (self.weight / self.scale**2 / precision).T
        return a, -a @ self.mean, 1.0 / np.sqrt(precision)

    def recognition(self, *, shift: float = 0.0, scale: float = 1.0, tilt: float = 1.0) -> LinearRecognition:
        """The true posterior, with its mean moved by `shift`, its scale and its matrix multiplied."""
        a, b, t = self.posterior()
        dtype = jnp.result_type(float)
        return LinearRecognition(
            jnp.asarray(tilt * a, dtype), jnp.asarray(b + shift, dtype), jnp.asarray(np.log(scale * t), dtype)
        )

    def log_marginal(self) -> np.ndarray:
        """log p(x) of each row, (N,)."""
        return gaussian_log_density(self.rows, self.mean, self.weight, self.scale)


def gaussian_log_density(rows: np.ndarray, mean: np.ndarray, weight: np.ndarray, scale: float) -> np.ndarray:
    """log N(x; mean, W W^T + s^2 I) of each row, in float64."""
    weight = np.asarray(weight, np.float64)
    covariance = weight @ weight.T + float(scale) ** 2 * np.eye(len(weight))
    residual = np.asarray(rows, np.float64) - np.asarray(mean, np.float64)
    _, log_determinant = np.linalg.slogdet(covariance)
    mahalanobis = np.sum(residual * np.linalg.solve(covariance, residual.T).T, axis=1)
    return -0.5 * (mahalanobis + log_determinant + len(weight) * LOG_2PI)


def linear_elbo(generative: LinearGaussian, loc: Any, scale: Any, x: Any) -> Array:
    """The ELBO of one x for q = N(loc, diag scale^2), in closed form; differentiable, and no sampling in it."""
    s = jnp.exp(generative.log_scale)
    residual = x - generative.mean - generative.weight @ loc
    spread = jnp.sum(jnp.sum(generative.weight**2, axis=0) * scale**2)
    log_likelihood = -0.5 * len(x) * (LOG_2PI + 2 * generative.log_scale) - (residual @ residual + spread) / (2 * s**2)
    return log_likelihood - standard_kl(loc, scale)


def standard_kl(loc: Any, scale: Any) -> Array:
    """KL(N(loc, diag scale^2) || N(0, I)), the paper's Appendix B as it is printed there."""
    return -0.5 * jnp.sum(1 + 2 * jnp.log(scale) - loc**2 - scale**2)


def posterior_gap(problem: Problem, recognition: LinearRecognition) -> np.ndarray:
    """log p(x) - ELBO = KL(q || p(z | x)) of each row, by the formula for two diagonal Gaussians."""
    a, b, t = problem.posterior()
    loc = problem.rows @ np.asarray(recognition.weight, np.float64).T + np.asarray(recognition.bias, np.float64)
    scale = np.exp(np.asarray(recognition.log_scale, np.float64))
    difference = (loc - problem.rows @ a.T - b) / t
    return np.sum(np.log(t / scale) + (scale**2 / t**2 + difference**2 - 1) / 2, axis=1)


class QuadraticNoise(NamedTuple):
    """An estimate as a function of eps ~ N(0, I): constant + sum_j (linear_j eps_j + quadratic_j eps_j^2)."""

    linear: np.ndarray
    quadratic: np.ndarray

    @property
    def variance(self) -> float:
        return float(np.sum(self.linear**2 + 2 * self.quadratic**2))


def single_sample_noise(problem: Problem, recognition: LinearRecognition, x: np.ndarray) -> dict[str, QuadraticNoise]:
    """How the one-sample estimates A and B of row x depend on eps, where z = loc + scale * eps."""
    loc = np.asarray(recognition.weight, np.float64) @ x + np.asarray(recognition.bias, np.float64)
    scale = np.exp(np.asarray(recognition.log_scale, np.float64))
    residual = x - problem.mean - problem.weight @ loc
    linear = problem.weight.T @ residual * scale / problem.scale**2
    quadratic = -np.sum(problem.weight**2, axis=0) * scale**2 / (2 * problem.scale**2)
    return {
        "b": QuadraticNoise(linear, quadratic),  # log p(x | z) alone is sampled
        "a": QuadraticNoise(linear - loc * scale, quadratic + 0.5 * (1 - scale**2)),  # and log p(z) - log q(z)
    }


def ppca_log_likelihood(rows: np.ndarray, latent_dim: int) -> float:
    """Mean log-likelihood of probabilistic PCA at its maximum (Tipping & Bishop 1999, eqs. 7 and 8)."""
    rows = np.asarray(rows, np.float64)
    data_dim = rows.shape[1]
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(rows, rowvar=False, bias=True)))[::-1]
    noise = eigenvalues[latent_dim:].mean()
    log_determinant = np.log(eigenvalues[:latent_dim]).sum() + (data_dim - latent_dim) * np.log(noise)
    return float(-0.5 * (data_dim * LOG_2PI + log_determinant + data_dim))


@functools.partial(jax.jit, static_argnums=1)
def row_keys(key: Array, num: int) -> Array:
    """`num` independent keys."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num))


def estimates(
    estimator: AbstractEstimator,
    keys: Array,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound, log-likelihood and KL of each row, as NumPy float64."""
    per_row = _estimates(estimator, keys, generative, recognition, jnp.asarray(rows))
    bound, log_likelihood, kl = (per_row.bound, per_row.log_likelihood, per_row.kl)
    nothing = np.full(len(rows), np.nan)
    return (
        np.asarray(bound, np.float64),
        nothing if log_likelihood is None else np.asarray(log_likelihood, np.float64),
        nothing if kl is None else np.asarray(kl, np.float64),
    )


@eqx.filter_jit
def _estimates(estimator, keys, generative, recognition, rows):
    return minibatch_bound(estimator, keys, generative, recognition, rows, len(rows))[1]


def z_scores(draws: np.ndarray, expected: Any, floor: float = 1e-9) -> np.ndarray:
    """(mean over the first axis - expected) in standard errors; `floor` stands for rounding where nothing varies."""
    draws = np.asarray(draws, np.float64)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    return (draws.mean(axis=0) - np.asarray(expected, np.float64)) / (error + floor)


def variance_z_score(draws: np.ndarray, expected: float) -> float:
    """(sample variance - expected) in its standard errors, from the fourth moment."""
    draws = np.asarray(draws, np.float64)
    centred = draws - draws.mean()
    variance = np.mean(centred**2)
    error = np.sqrt((np.mean(centred**4) - variance**2) / len(draws))
    return float((variance - expected) / error)
