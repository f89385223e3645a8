"""The paper's own estimator of log p(x), for latent variables of few dimensions."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

# From their own modules: they are no part of the public face of `aevb.distributions`.
from aevb.distributions import Distribution
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    log_joint_of,
    num_rows_of,
    posterior_and_prior,
    posterior_of,
    prior_of,
    take,
)
from aevb.samplers import Chain, sample_by_hmc, support_within, unconstrained

from ._rows import map_rows

# Bandwidths to choose from, as multiples of Scott's.
_FACTORS = np.exp((np.arange(10) - 5) / 2)


class Harmonic(NamedTuple):
    """The harmonic estimate for N rows; every field of shape (N,).

    `effective_sample_size` tells whether to trust it: (sum_l t_l)^2 / sum_l t_l^2 of the L terms
    t_l = q(z_l) / p(x, z_l), which is L if the density q is the posterior. Below a third of L a few terms carry the
    sum, others like them were not met, and the estimate is off by more than its standard error says.
    """

    log_likelihood: Float[np.ndarray, " N"]  # in nats
    standard_error: Float[np.ndarray, " N"]  # of log_likelihood, in nats, from the spread between the chains
    effective_sample_size: Float[np.ndarray, " N"]  # of the L terms, were they independent: 1 to L
    acceptance: Float[np.ndarray, " N"]  # mean probability of acceptance of a transition after the warm-up


@dataclasses.dataclass(frozen=True)
class HarmonicSettings:
    """What `harmonic_log_likelihood` is compiled for.

    Args:
        num_samples: L, samples to fit to, and as many again to estimate from; a multiple of num_chains / 2. (The paper
            takes 50.)
        num_chains: a multiple of 4.
        num_leapfrog: leapfrog steps of a transition.
        warmup: transitions before the first sample, in which step size and mass matrix are adapted.
        target_acceptance: what the step size is adapted to.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> HarmonicSettings(num_samples=200).num_chains
        16
    """

    num_samples: int = 800
    num_chains: int = 16
    num_leapfrog: int = 4
    warmup: int = 200
    target_acceptance: float = 0.9

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_chains", "num_leapfrog", "warmup"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        if self.num_chains < 4 or self.num_chains % 4:
            raise ValueError(
                f"num_chains must be a multiple of 4, got {self.num_chains}: one half fits the density, in two parts "
                "for its bandwidth, and the other is put into it"
            )
        if self.num_samples < self.num_chains or self.num_samples % (self.num_chains // 2):
            raise ValueError(
                f"num_samples must be a multiple of num_chains / 2 = {self.num_chains // 2}, two for each chain at "
                f"least, got {self.num_samples}"
            )
        if self.num_leapfrog < 1:
            raise ValueError(f"num_leapfrog must be at least 1, got {self.num_leapfrog}")
        if self.warmup < 20:
            raise ValueError(f"warmup must be at least 20 transitions, for a step size to be found, got {self.warmup}")
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(f"target_acceptance must be a probability between 0 and 1, got {self.target_acceptance}")


def harmonic_log_likelihood(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    settings: HarmonicSettings | None = None,
    *,
    batch_size: int = 50,
    first_row: int = 0,
) -> Harmonic:
    r"""log p(x) of each row from samples of p(z | x): Kingma & Welling (2014), Appendix D.

    Chains of Hamiltonian Monte Carlo sample p(z | x). A density q(z) is fitted to L samples, those of one half of the
    chains, and

        p(x) ~= ( 1/L sum_l q(z_l) / (p(z_l) p(x | z_l)) )^-1,   z_l ~ p(z | x)

    with the L samples of the other half, which know nothing of q. As q integrates to one, the bracket is 1 / p(x) in
    expectation - if the chains sample p(z | x), and if they meet the tails of q. Neither is certain, and the two errors
    have opposite signs: chains that stay with a part P of the posterior leave log P too little, and terms of q's tails
    that were not met leave log p(x) too high. So the estimate is a bound on neither side.

    Good for fewer than five latent dimensions, as the paper says: a density fitted to samples is a poor match of
    p(z | x) in more, and where it is much too large in a tail, a term that is hardly ever met decides over the sum.
    The chains begin at the encoder's samples and must have found p(z | x) within the warm-up; a mode that none of them
    finds is left out of p(x), and the standard error says nothing of it.

    q is a Gaussian kernel density estimate with full covariance, shrunk towards its mean so that its covariance is the
    samples' (West 1993): a Gaussian at bandwidth 1, and as fine as the samples at a small one. The bandwidth, Scott's
    factor times one of e^((i - 5) / 2), i = 0 .. 9, is the one that makes the spread of the terms least on samples
    from chains that were held out. Without the shrinking, or with the bandwidth under which held-out samples are most
    probable, q is wider than p(z | x), and the few terms from its tails decide: the error was then two to five times
    as large on Gaussian, curved and two-peaked p(z | x). A Gaussian alone was off by half a nat on the latter two.

    Args:
        generative: p_theta(x, z).
        recognition: q_phi(z | x), where the chains begin.
        rows: x as the models see it, (N, D).
        key: row i uses fold_in(key, first_row + i).
        settings: numbers of samples, chains and steps; None: the defaults of `HarmonicSettings`.
        batch_size: rows at once; num_chains * batch_size examples go through the decoder at a time.
        first_row: where `rows` begins in the data set that it is a part of.

    Returns:
        A `Harmonic` of arrays of shape (N,). Look at its `effective_sample_size`. The result of a row does not depend
        on the rows beside it, beyond rounding (which a chain can amplify).

    Raises:
        UnavailableError: five latent dimensions or more; a latent variable without a path through R^k; a posterior
            that can lie outside of the prior's support.
        ValueError: there are no rows.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> found = harmonic_log_likelihood(g, q, np.zeros((2, 4), np.float32), jax.random.key(2))
        >>> found.log_likelihood.shape, bool((found.effective_sample_size > 400).all())
        ((2,), True)
    """
    settings = settings or HarmonicSettings()
    if operator.index(batch_size) < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if num_rows_of(rows):
        _check_latents(generative, recognition, [as_floats(take(rows, i)) for i in (0, -1)])
    found = map_rows(
        _row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row
    )
    return Harmonic(*found)


def _check_latents(generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, some: list[X]) -> None:
    """Raise if chains cannot move where the latents are. An encoder whose support moves is seen between two rows."""
    for x in some:
        q = p = posterior_of(recognition, x)
        if isinstance(generative, AbstractPriorLikelihood):
            q, p = posterior_and_prior(generative, recognition, x)
        to = unconstrained(p)
        size = eqx.filter_eval_shape(lambda key, p=p, to=to: to.inverse(p.sample(key)), jax.random.key(0)).size
        if size >= 5:
            raise UnavailableError(
                f"the harmonic estimator is good for fewer than 5 latent dimensions and this model has {size}: no "
                "density fitted to samples matches p(z | x) well enough in more; use annealed_importance_sampling"
            )
        if not support_within(q, p):
            raise UnavailableError(
                f"chains begin at the encoder's samples, on {q.support}, but these can lie outside of the prior's "
                f"support, {p.support}; use annealed_importance_sampling, whose chains begin at the prior's"
            )


def _support_of(generative: Any, recognition: AbstractRecognitionModel, x: X) -> Distribution:
    """A distribution with the support of z."""
    return prior_of(generative, x) if isinstance(generative, AbstractPriorLikelihood) else posterior_of(recognition, x)


# --- one row ----------------------------------------------------------------------------------------------------------


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(s: HarmonicSettings) -> Callable[..., Any]:
    def harmonic_of_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
    ) -> tuple[Array, Array, Array, Array]:
        x = as_floats(row)

        def chain(key: PRNGKeyArray) -> Chain:
            start_key, key = jax.random.split(key)
            z = posterior_of(recognition, x).sample(start_key)
            u = unconstrained(_support_of(generative, recognition, x)).inverse(z)

            def log_density(flat: Float[Array, " k"]) -> Float[Array, ""]:
                to = unconstrained(_support_of(generative, recognition, x))
                at = flat.reshape(u.shape)
                return log_joint_of(generative, x, to.forward(at)) + to.log_det(at)

            return sample_by_hmc(
                log_density,
                u.ravel(),
                key,
                num_warmup=s.warmup,
                num_samples=s.num_samples // (s.num_chains // 2),
                num_leapfrog=s.num_leapfrog,
                target_acceptance=s.target_acceptance,
            )

        draws, log_p, acceptance = jax.vmap(chain)(jax.random.split(key, s.num_chains))
        half = s.num_chains // 2
        log_q = _fitted_log_density(draws[:half], log_p[:half], draws[half:])
        log_terms = log_q - log_p[half:]  # log q(z_l) / p(x, z_l), of shape (chains, samples)
        largest = jnp.max(log_terms)
        terms = jnp.exp(log_terms - largest)
        of_chain = jnp.mean(terms, axis=1)
        mean = jnp.mean(of_chain)
        error = jnp.std(of_chain, ddof=1) / mean / jnp.sqrt(jnp.asarray(half, mean.dtype))  # delta method
        return -(largest + jnp.log(mean)), error, jnp.sum(terms) ** 2 / jnp.sum(terms**2), jnp.mean(acceptance)

    return harmonic_of_row


def _fitted_log_density(
    draws: Float[Array, "chains n k"], log_p: Float[Array, "chains n"], at: Float[Array, "others m k"]
) -> Float[Array, "others m"]:
    """log q at other points, with the bandwidth that makes 1/L sum_l (q/p)^2 least on chains that were held out."""
    (a, b), (log_p_a, log_p_b) = jnp.split(draws, 2), jnp.split(log_p, 2)

    def log_spread(factor: Float[Array, ""]) -> Float[Array, ""]:
        """log of E[t^2] / E[t]^2, t = q/p, in both directions."""
        t = jnp.stack([_log_density(a, b, factor) - log_p_b, _log_density(b, a, factor) - log_p_a])
        axes = (1, 2)
        log_sum_exp = jax.scipy.special.logsumexp
        return log_sum_exp(log_sum_exp(2.0 * t, axis=axes) - 2.0 * log_sum_exp(t, axis=axes))

    factors = jnp.asarray(_FACTORS, draws.dtype)
    return _log_density(draws, at, factors[jnp.argmin(jax.lax.map(log_spread, factors))])


def _log_density(
    draws: Float[Array, "chains n k"], at: Float[Array, "others m k"], factor: Float[Array, ""]
) -> Float[Array, "others m"]:
    r"""log q(u) = log 1/n sum_i N(u; m + sqrt(1 - h^2) (u_i - m), h^2 S), h = min(factor * n^(-1 / (k + 4)), 1).

    m and S are the samples' mean and covariance, and are q's own too.
    """
    k = draws.shape[-1]
    points = draws.reshape(-1, k)
    n = points.shape[0]
    middle = jnp.mean(points, axis=0)
    root = jnp.linalg.cholesky((points - middle).T @ (points - middle) / (n - 1))
    h = jnp.minimum(factor * n ** (-1 / (k + 4)), 1.0)

    # One triangular solve, of the identity, and no more: jaxlib 0.10 stands still for ever when two that are batched
    # run at once on a machine of two cores, each waiting for the other's thread.
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(k, dtype=root.dtype), lower=True)

    def whitened(u: Array) -> Array:
        return ((u - middle).reshape(-1, k) @ inverse.T).reshape(u.shape)

    centres = jnp.sqrt(1.0 - h**2) * whitened(points)

    def log_kernels(w: Float[Array, "m k"]) -> Float[Array, " m"]:
        distance = jnp.sum((w[:, None] - centres) ** 2, axis=-1)
        return jax.scipy.special.logsumexp(-0.5 * distance / h**2, axis=1)

    log_determinant = k * jnp.log(h) + jnp.sum(jnp.log(jnp.diag(root)))
    log_sums = jax.lax.map(log_kernels, whitened(at))  # a chain at a time, to hold fewer distances
    return log_sums - np.log(n) - log_determinant - 0.5 * k * np.log(2 * np.pi)
