"""What an estimator is, and how the estimates of a minibatch stand for the whole data set (eq. 8)."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, get_type_hints

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from aevb.errors import ConfigError
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows, X


class Estimate(NamedTuple):
    """An estimate of a bound on log p(x) for one example (or, after `vmap`, for a batch), in nats, higher is better.

    `bound` is the estimate of the estimator's own bound; its gradient is the estimator's gradient. Where the generative
    model comes in two parts, `log_likelihood` estimates E_q[log p(x | z)], the reconstruction term, and `kl` is
    D_KL(q(z | x) || p(z)), exact with estimator B and sampled with the others; their difference estimates the ELBO. For
    a model that only has `log_joint` both are None.

    `kl_per_layer`, where posterior and prior are both `aevb.distributions.Sequential`, is what each layer of z adds to
    `kl`: log q(z_i | ...) - log p(z_i | ...), from the same draws, so that the layers sum to it. Only of some layers is
    it a divergence by itself (`aevb.distributions.divergent_layers`): of q(h1 | x) q(h2 | h1) and p(h2) p(h1 | h2),
    h2's is E_q[D_KL(q(h2 | h1) || p(h2))], but h1's is E_q[log q(h1 | x) - log p(h1 | h2)] with h2 drawn from q, which
    can be negative. No gradient flows through it.
    """

    bound: Float[Array, "*batch"]
    log_likelihood: Float[Array, "*batch"] | None
    kl: Float[Array, "*batch"] | None
    kl_per_layer: dict[str, Float[Array, "*batch"]] | None = None


class AbstractEstimator(eqx.Module):
    """An estimator of a bound for ONE example; frozen.

    Most are free of state. One that carries something from step to step (a running mean, say) overrides the last three
    methods; the training algorithm keeps the state among its own.
    """

    kind: ClassVar[str] = "own"  # its name in files and on the command line, if it is registered
    bound_name: ClassVar[str] = "elbo"  # what `Estimate.bound` is: elbo, iwae_bound, ...
    # Whether bound = log_likelihood - kl, with gradients that may be weighed against each other.
    differentiable_terms: ClassVar[bool] = False
    num_samples: eqx.AbstractVar[int]

    @classmethod
    def option_types(cls) -> dict[str, Any]:
        """Of each option, its type: the static fields, for what else there is belongs to the state."""
        hints = get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.metadata.get("static")}

    @property
    def options(self) -> dict[str, Any]:
        """Of each option, its value."""
        return {name: getattr(self, name) for name in self.option_types()}

    @abc.abstractmethod
    def __call__(
        self,
        key: PRNGKeyArray,
        generative: AbstractGenerativeModel,
        recognition: AbstractRecognitionModel,
        x: X,
    ) -> Estimate:
        """Estimate the bound on log p(x). `key` is this example's own."""

    def init_state(self) -> PyTree[Array]:
        """The state before the first step: arrays, or nothing."""
        return ()

    def with_state(self, state: PyTree[Array]) -> "AbstractEstimator":
        """This estimator, knowing the state."""
        del state
        return self

    def next_state(self, state: PyTree[Array], estimates: Estimate) -> PyTree[Array]:
        """The state after a step whose rows had these estimates."""
        del estimates
        return state


def minibatch_bound(
    estimator: AbstractEstimator,
    keys: Key[Array, " M"],
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    batch: Rows,
    num_examples: int,
) -> tuple[Float[Array, ""], Estimate]:
    r"""Eq. 8: L(theta, phi; X) ~ N/M sum_{i=1..M} L~(theta, phi; x_i), the bound of the WHOLE data set.

    Args:
        estimator: estimator of one example's bound.
        keys: M keys, one per row, so that no two rows share noise.
        generative: p_theta(x, z).
        recognition: q_phi(z | x).
        batch: M rows, drawn from the N of the data set.
        num_examples: N.

    Returns:
        The estimate for all N examples, in nats, and the M rows' own estimates.
    """
    estimates = jax.vmap(estimator, in_axes=(0, None, None, 0))(keys, generative, recognition, batch)
    return num_examples / len(keys) * jnp.sum(estimates.bound), estimates


def check_num_samples(num_samples: int, *, least: int = 1, why: str = "") -> None:
    """Raise a ConfigError for fewer samples than an estimator needs."""
    if num_samples < least:
        raise ConfigError(f"num_samples must be at least {least}{why}, got {num_samples}")
