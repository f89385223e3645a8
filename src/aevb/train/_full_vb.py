"""Full variational Bayes (Appendix F): a posterior over the generative parameters as well."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from aevb.distributions import Normal, kl_divergence, positive_scale
from aevb.errors import UnavailableError
from aevb.estimators import AbstractEstimator, minibatch_bound
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, tie, untie

from ._algorithm import Algorithm, Batch, TrainState
from ._ascent import Outcome, Pair, Prepare, as_stored, gradient_steps, prepared_rows


class ParameterPosterior(NamedTuple):
    """q(theta) = N(loc, diag scale^2), leaf by leaf of the generative model's parameters."""

    loc: PyTree[Array]
    raw_scale: PyTree[Array]

    @property
    def scale(self) -> PyTree[Array]:
        """Standard deviation of each parameter."""
        return jax.tree.map(positive_scale, self.raw_scale)

    def rsample(self, key: PRNGKeyArray) -> PyTree[Array]:
        """theta = loc + scale * zeta, zeta ~ N(0, I): eq. (20) of the paper's appendix, h(zeta)."""
        leaves, treedef = jax.tree.flatten(self.loc)
        keys = jax.tree.unflatten(treedef, list(jax.random.split(key, len(leaves))))
        return jax.tree.map(
            lambda k, loc, scale: loc + scale * jax.random.normal(k, loc.shape, loc.dtype), keys, self.loc, self.scale
        )

    def kl(self, prior_scale: float) -> Float[Array, ""]:
        """D_KL(q(theta) || N(0, prior_scale^2 I)), in closed form, in nats for all parameters together."""
        per_leaf = jax.tree.map(
            lambda loc, scale: jnp.sum(
                kl_divergence(Normal(loc, scale), Normal(jnp.zeros_like(loc), jnp.full_like(loc, prior_scale)))
            ),
            self.loc,
            self.scale,
        )
        return sum(jax.tree.leaves(per_leaf), start=jnp.zeros(()))


def full_vb(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    estimator: AbstractEstimator,
    optimizer: optax.GradientTransformation,
    *,
    num_examples: int,
    prepare: Prepare = as_stored,
    prior_scale: float = 1.0,
    init_scale: float = 0.01,
) -> Algorithm:
    r"""Variational inference on the latent variables AND the generative parameters (Kingma & Welling 2014, Appendix F).

    With q(theta) = N(mu, diag sigma^2) and prior p(theta) = N(0, prior_scale^2 I), each step draws one theta for the
    minibatch and climbs

        L(phi; X) ~ N/M sum_i L~(theta, phi; x_i) - D_KL(q(theta) || p(theta)),    theta = mu + sigma * zeta,

    a lower bound on log p(X), the evidence of the whole data set with theta integrated out. The KL is in closed form,
    as in the paper's own example. Two departures: the paper draws a theta for each data point, one per minibatch is
    what keeps the decoder's products whole (the gradient stays unbiased, its variance is larger), and phi, mu and sigma
    move together by any optimiser.

    `metrics.bound` is the mean of the rows' bounds given theta; `metrics.objective` is L(phi; X) / N.
    `model(state)` is the pair at theta = mu; `parameter_posterior(state)` is q(theta) itself.

    Args:
        generative: p_theta(x, z); its parameters are where mu starts.
        recognition: q_phi(z | x), at its initial parameters. A point estimate, as in the paper.
        estimator: of a row's bound, given theta; one whose bound is the ELBO.
        optimizer: any Optax gradient transformation.
        num_examples: N.
        prepare: as in `aevb`.
        prior_scale: standard deviation of p(theta), for every parameter, biases included.
        init_scale: where sigma starts.

    Raises:
        ValueError: a scale is not positive.
        UnavailableError: the estimator is not one of the ELBO, so that L would be no bound on log p(X) of this form.

    Example:
        See `examples/full_vb.py`, where the posterior is known in closed form.
    """
    if not (prior_scale > 0 and init_scale > 0):
        raise ValueError(f"prior_scale and init_scale must be positive, got {prior_scale} and {init_scale}")
    if estimator.bound_name != "elbo":
        raise UnavailableError(
            f"full VB is derived for the ELBO; {type(estimator).__name__} estimates its {estimator.bound_name}"
        )
    params, static = eqx.partition((untie(generative), recognition), eqx.is_inexact_array)

    def pair_of(theta: PyTree[Array], phi: PyTree[Array]) -> Pair:
        generative, recognition = eqx.combine((theta, phi), static)
        return tie(generative, recognition), recognition

    def init(key: PRNGKeyArray) -> TrainState:
        theta, phi = jax.tree.map(jnp.array, params)
        raw = 4.0 * jnp.sinh(jnp.log(jnp.asarray(init_scale)) / 2.0)  # where positive_scale gives init_scale
        own = (ParameterPosterior(theta, jax.tree.map(lambda leaf: jnp.full_like(leaf, raw), theta)), phi)
        step = jnp.zeros((), jnp.int32)
        return TrainState(own, optimizer.init(own), estimator.init_state(), step, jnp.array(key))

    def loss(params: PyTree[Array], state: TrainState, batch: Batch) -> tuple[Float[Array, ""], Outcome]:
        q_theta, phi = params
        # Rows fold in their own index, from 0: the number N belongs to none of them.
        zeta_key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), num_examples)
        generative, recognition = pair_of(q_theta.rsample(zeta_key), phi)
        x, keys = prepared_rows(state, batch, prepare)
        knowing = estimator.with_state(state.carry)
        bound, estimates = minibatch_bound(knowing, keys, generative, recognition, x, num_examples)
        objective = (bound - q_theta.kl(prior_scale)) / num_examples
        return -objective, Outcome(objective, estimates)

    def model(state: TrainState) -> Pair:
        q_theta, phi = state.params
        return pair_of(q_theta.loc, phi)

    step, gradients = gradient_steps(loss, optimizer, estimator)
    return Algorithm(init, step, model, gradients)


def parameter_posterior(state: TrainState) -> ParameterPosterior:
    """q(theta) of a state of `full_vb`: its leaves are named as those of the generative model."""
    posterior: ParameterPosterior = state.params[0]
    return posterior
