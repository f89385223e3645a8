"""From where a row's chains begin to its posterior."""

from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from aevb.distributions import Distribution
from aevb.models import (
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    X,
    log_joint_of,
    log_likelihood_of,
    log_prior_of,
    posterior_of,
    prior_of,
)
from aevb.samplers import Bridge, Position, unconstrained

from ._proposal import make_proposal


def make_bridge(generative: Any, recognition: AbstractRecognitionModel, x: X, key: PRNGKeyArray, start: str) -> Bridge:
    """With start "prior" q0 is p(z), and with "encoder" the defensive mixture; u is z in R^k, by `unconstrained`."""
    q0 = None if start == "prior" else make_proposal(generative, recognition, x, key, "defensive")

    def support() -> Distribution:
        if isinstance(generative, AbstractPriorLikelihood):
            return prior_of(generative, x)
        return posterior_of(recognition, x)

    def log_q0(u: Array) -> Float[Array, ""]:
        to = unconstrained(support())
        z = to.forward(u)
        return (log_prior_of(generative, x, z) if q0 is None else q0.log_prob(z)) + to.log_det(u)

    def log_end(u: Array) -> Float[Array, ""]:
        """log p(x | z), which is log f_1 - log f_0; or log f_1 = log p(x, z)."""
        to = unconstrained(support())
        z = to.forward(u)
        if q0 is None:
            return log_likelihood_of(generative, x, z)
        return log_joint_of(generative, x, z) + to.log_det(u)

    def evaluate(u: Array) -> Position:
        base, base_gradient = jax.value_and_grad(log_q0)(u)
        end, end_gradient = jax.value_and_grad(log_end)(u)
        if q0 is None:
            return Position(u, base, end, base_gradient, end_gradient)
        return Position(u, base, end - base, base_gradient, end_gradient - base_gradient)

    def inverse(z: Array) -> Array:
        return unconstrained(support()).inverse(z)

    def draw(key: PRNGKeyArray, i: Array) -> Position:
        return evaluate(inverse(prior_of(generative, x).sample(key) if q0 is None else q0.draw(key, i)[0]))

    return Bridge(draw, evaluate, inverse)
