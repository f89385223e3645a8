"""What every sampled bound is made of: log w(z) = log p(x, z) - log q(z | x) at K draws of z."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.distributions import (
    Distribution,
    Sequential,
    drawn_and_log_prob,
    log_ratio_per_layer,
    rsample_and_log_prob,
    sample_and_log_prob,
    support_depends_on_parameters,
)
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    X,
    log_joint_of,
    log_likelihood_of,
    log_prior_of,
    one_number,
    prior_of,
)

from ._base import Estimate

_Module = TypeVar("_Module")

# More samples than this go through the decoder piece by piece, and the backward pass computes each piece again: memory
# then grows with K only by the K samples of z, for a third more work.
CHUNK = 64


class LogWeights(NamedTuple):
    """log w of K samples, and where the generative model has two parts, the terms that it is made of; in nats."""

    log_w: Float[Array, " K"]
    log_likelihood: Float[Array, " K"] | None  # log p(x | z_k)
    log_ratio: Float[Array, " K"] | None  # log q(z_k | x) - log p(z_k), whose mean estimates the KL
    per_layer: dict[str, Float[Array, " K"]] | None = None  # the parts of `log_ratio`, of a latent in layers

    def estimate(self, bound: Float[Array, ""]) -> Estimate:
        """An `Estimate` with this bound, and the ELBO's two terms as means over the samples."""
        if self.log_likelihood is None or self.log_ratio is None:
            return Estimate(bound, None, None)
        layers = jax.tree.map(jnp.mean, self.per_layer)
        return Estimate(bound, jnp.mean(self.log_likelihood), jnp.mean(self.log_ratio), layers)


def log_weights(
    generative: AbstractGenerativeModel,
    x: X,
    z: Real[Array, "K *z"],
    log_q: Float[Array, " K"],
    *,
    layers_of: Distribution | None = None,
) -> LogWeights:
    """log p(x, z_k) - log q(z_k | x) for k = 1..K.

    Args:
        generative: p(x, z).
        x: one example.
        z: K samples.
        log_q: log q(z_k | x) of each, by whatever q its gradient is wanted of.
        layers_of: q, where what each layer of a `Sequential` adds is to be told too.
    """
    if not isinstance(generative, AbstractPriorLikelihood):
        return LogWeights(over_samples(lambda z: log_joint_of(generative, x, z), z) - log_q, None, None)
    log_likelihood = over_samples(lambda z: log_likelihood_of(generative, x, z), z)
    log_ratio = log_q - over_samples(lambda z: log_prior_of(generative, x, z), z)
    return LogWeights(log_likelihood - log_ratio, log_likelihood, log_ratio, _per_layer(generative, x, z, layers_of))


def _per_layer(
    generative: AbstractPriorLikelihood, x: X, z: Real[Array, "K *z"], q: Distribution | None
) -> dict[str, Float[Array, " K"]] | None:
    """`log_ratio_per_layer` at each sample: to be told, not climbed."""
    if not isinstance(q, Sequential) or not isinstance(prior_of(generative, x), Sequential):
        return None

    def of(z: Array) -> Array:
        ratios = log_ratio_per_layer(q, prior_of(generative, x), z)
        assert ratios is not None
        return jnp.stack(list(ratios.values()))

    ratios = jax.lax.stop_gradient(over_samples(of, jax.lax.stop_gradient(z)))
    return OrderedDict(zip(q.sizes, ratios.T, strict=True))


def over_samples(f: Callable[[Array], Float[Array, "*each"]], z: Real[Array, "K *z"]) -> Float[Array, "K *each"]:
    """f(z_k) for k = 1..K. One sample goes without an axis of its own, which would cost XLA two transposes a layer."""
    if len(z) == 1:
        return f(z[0])[None]
    if len(z) <= CHUNK:
        return jax.vmap(f)(z)
    return jax.lax.map(jax.checkpoint(f), z, batch_size=CHUNK)


def reparameterized_samples(
    q: Distribution, key: PRNGKeyArray, num_samples: int
) -> tuple[Float[Array, "K *z"], Float[Array, " K"]]:
    """z_k = g(eps_k, x) for k = 1..K (section 2.4), through which gradients flow, and log q(z_k | x).

    Raises:
        UnavailableError: q is not reparameterised; its samples carry no gradient, and training on them would be
            silently wrong.
    """
    z, log_q = rsample_and_log_prob(q, key, (num_samples,))
    return z, one_number(log_q, f"the log-density of {type(q).__name__}", (num_samples,))


def reparameterized_draws(
    q: Distribution, key: PRNGKeyArray, num_samples: int
) -> tuple[Float[Array, "K *z"], Float[Array, " K"]]:
    """As `reparameterized_samples`, but for u in the place of z = `as_drawn(q).value(u)`.

    For those who ask for log q of the same draws once more.
    """
    u, log_q = drawn_and_log_prob(q, key, (num_samples,))
    return u, one_number(log_q, f"the log-density of {type(q).__name__}", (num_samples,))


def fixed_samples(
    q: Distribution, key: PRNGKeyArray, num_samples: int
) -> tuple[Real[Array, "K *z"], Float[Array, " K"]]:
    """z_k ~ q, held fixed, and log q(z_k | x), whose gradient is the score."""
    z, log_q = sample_and_log_prob(q, key, (num_samples,))
    return z, one_number(log_q, f"the log-density of {type(q).__name__}", (num_samples,))


def log_mean_exp(log_w: Float[Array, "*groups K"]) -> Float[Array, "*groups"]:
    """log 1/K sum_k w_k, over the last axis. A weight of zero, log w = -inf, adds nothing to it or to its gradient.

    Where all K are zero the value is -inf and the gradient zero.

    Example:
        >>> print(log_mean_exp(jnp.log(jnp.array([[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))))
        [  0. -inf]
    """
    none = jnp.all(log_w == -jnp.inf, axis=-1)
    some = jnp.where(none[..., None], 0.0, log_w)  # not the gradient of log 0, which is 0/0
    value = jax.nn.logsumexp(some, axis=-1) - jnp.log(jnp.asarray(log_w.shape[-1], log_w.dtype))
    return jnp.where(none, -jnp.inf, value)


def stopped(model: _Module) -> _Module:
    """The same model, whose parameters receive no gradient."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    held: _Module = eqx.combine(jax.lax.stop_gradient(arrays), static)
    return held


@jax.custom_jvp
def with_gradient_of(value: Float[Array, ""], surrogate: Float[Array, ""]) -> Float[Array, ""]:
    """A number that is `value`, and whose gradient is the surrogate's, which may itself be infinite or NaN."""
    del surrogate
    return value


@with_gradient_of.defjvp
def _with_gradient_of_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    return primals[0], tangents[1].astype(primals[0].dtype)


@jax.custom_jvp
def scale_gradient(z: Float[Array, "*shape"], factor: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """z as it is, with its gradient multiplied by `factor` (of the same shape), which itself receives none."""
    del factor
    return z


@scale_gradient.defjvp
def _scale_gradient_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    (z, factor), (dz, _) = primals, tangents
    return z, factor * dz


def refuse_moving_support(q: Distribution, what: str) -> None:
    """Raise where the parameters of q move the edge of its support.

    E_q[grad log q] = 0 needs an edge that stays in place; estimators that drop this term, or are made of it, are wrong
    without.
    """
    if support_depends_on_parameters(q):
        raise UnavailableError(
            f"{what} rests on E_q[grad log q(z)] = 0, which does not hold for a posterior whose parameters move the "
            "edge of its support, as those of uniform, pareto and reciprocal do; use estimator 'sgvb-a' or 'iwae'"
        )
