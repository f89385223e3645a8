"""A model of which everything is known: p(z) = N(0, I), p(x | z) = N(W z + b, s^2 I), with orthogonal columns of W."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aevb.distributions import Distribution, Normal
from aevb.models import AbstractPriorLikelihood, AbstractRecognitionModel


class LinearGaussian(AbstractPriorLikelihood):
    """p(x, z)."""

    weight: Float[Array, "D J"]
    mean: Float[Array, " D"]
    log_scale: Float[Array, ""]

    def prior(self) -> Distribution:
        """N(0, I)."""
        size = self.weight.shape[1]
        return Normal(jnp.zeros(size), jnp.ones(size)).to_event(1)

    def likelihood(self, z: Float[Array, " J"]) -> Distribution:
        """N(W z + b, s^2 I)."""
        return Normal(self.weight @ z + self.mean, jnp.exp(self.log_scale)).to_event(1)

    def log_marginal(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        """log N(x; b, W W' + s^2 I), in closed form."""
        covariance = self.weight @ self.weight.T + jnp.exp(2 * self.log_scale) * jnp.eye(len(x))
        residual = x - self.mean
        log_det = jnp.linalg.slogdet(covariance)[1]
        return -0.5 * (residual @ jnp.linalg.solve(covariance, residual) + log_det + len(x) * jnp.log(2 * jnp.pi))


class LinearRecognition(AbstractRecognitionModel):
    """q(z | x) = N(A x + c, diag t^2)."""

    weight: Float[Array, "J D"]
    shift: Float[Array, " J"]
    log_scale: Float[Array, " J"]

    def posterior(self, x: Float[Array, " D"]) -> Distribution:
        """N(A x + c, diag t^2)."""
        return Normal(self.weight @ x + self.shift, jnp.exp(self.log_scale)).to_event(1)


class Known(NamedTuple):
    """The model, its true posterior, one that is wrong, and a row."""

    generative: LinearGaussian
    true: LinearRecognition
    wrong: LinearRecognition
    x: Float[Array, " D"]


def known_problem() -> Known:
    """With D = 3 and J = 2, in float64 where that is on."""
    basis, _ = np.linalg.qr(np.array([[1.0, 0.5], [-0.3, 1.0], [0.8, -0.2]]))
    weight, mean, scale = basis * np.array([1.4, 0.8]), np.array([0.3, -0.5, 0.1]), 0.7
    precision = 1.0 + np.sum(weight**2, axis=0) / scale**2
    a = (weight / scale**2 / precision).T
    generative = LinearGaussian(*(jnp.asarray(v, float) for v in (weight, mean, np.log(scale))))
    parts = (a, -a @ mean, -0.5 * np.log(precision))
    true = LinearRecognition(*(jnp.asarray(v, float) for v in parts))
    off = LinearRecognition(*(jnp.asarray(v, float) for v in (0.9 * a, parts[1] + 0.3, parts[2] + np.log(1.2))))
    return Known(generative, true, off, jnp.asarray([1.1, -0.2, 0.4], float))


def exact_terms(g: LinearGaussian, q: LinearRecognition, x: Array) -> tuple[Array, Array]:
    """E_q[log p(x | z)] and D_KL(q || p(z)), in closed form and differentiable; their difference is the ELBO."""
    loc, variance = q.weight @ x + q.shift, jnp.exp(2 * q.log_scale)
    residual = x - g.mean - g.weight @ loc
    spread = jnp.sum(g.weight**2 @ variance)
    reconstruction = -0.5 * (residual @ residual + spread) / jnp.exp(2 * g.log_scale)
    reconstruction = reconstruction - len(x) * (0.5 * jnp.log(2 * jnp.pi) + g.log_scale)
    kl = 0.5 * jnp.sum(variance + loc**2 - 1.0) - jnp.sum(q.log_scale)
    return reconstruction, kl


def flat(tree: LinearGaussian | LinearRecognition) -> Array:
    """All numbers of a model's gradient, one after another."""
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
