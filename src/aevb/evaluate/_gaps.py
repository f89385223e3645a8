"""Where the bound is loose: what the encoder loses against a Gaussian of the row's own, and what that one loses."""

import functools
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb.distributions import Distribution, Normal, Reparameterized, location_and_scale
from aevb.errors import UnavailableError
from aevb.estimators import SgvbA, StickingTheLanding, log_mean_exp
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    num_rows_of,
    posterior_of,
    prior_of,
    take,
)

from ._psis import TAIL, pareto_khat
from ._rows import map_rows
from ._summary import Mean, mean

GaussianFamily = Literal["diagonal", "full-covariance"]

# Draws per gradient; draws that go through the decoder at once in the evaluation.
_DRAWS, _CHUNK = 16, 50


class GapErrors(NamedTuple):
    """Standard errors of the fields of `InferenceGaps`, from the spread of each row's own draws; each of shape (N,)."""

    elbo: Float[np.ndarray, " N"]
    optimised_elbo: Float[np.ndarray, " N"]
    log_likelihood: Float[np.ndarray, " N"]  # as given, 0 where nothing was
    amortisation_gap: Float[np.ndarray, " N"]
    approximation_gap: Float[np.ndarray, " N"]
    gap: Float[np.ndarray, " N"]


class GapMeans(NamedTuple):
    """Means over rows of the fields of `InferenceGaps`, in nats per example."""

    elbo: Mean
    optimised_elbo: Mean
    log_likelihood: Mean
    amortisation_gap: Mean
    approximation_gap: Mean
    gap: Mean


class InferenceGaps(NamedTuple):
    """Bounds on log p(x) and the gaps between them, for N rows; every array of shape (N,), in nats."""

    elbo: Float[np.ndarray, " N"]  # L[q], the encoder's
    optimised_elbo: Float[np.ndarray, " N"]  # L[q*], of the Gaussian that was fitted to this row alone
    log_likelihood: Float[np.ndarray, " N"]  # log p(x), as given or by importance sampling from q*
    amortisation_gap: Float[np.ndarray, " N"]  # L[q*] - L[q]
    approximation_gap: Float[np.ndarray, " N"]  # log p(x) - L[q*]
    gap: Float[np.ndarray, " N"]  # log p(x) - L[q], their sum
    effective_sample_size: Float[np.ndarray, " N"]  # of the K importance weights of q*, 1 to K
    khat: Float[np.ndarray, " N"]  # of these weights, see `pareto_khat`; NaN where they are too few
    standard_error: GapErrors

    @property
    def means(self) -> GapMeans:
        """Over the rows, with the standard error that the choice of rows and the noise of each give together."""
        return GapMeans(*(mean(getattr(self, name)) for name in GapMeans._fields))


def inference_gaps(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    family: GaussianFamily = "diagonal",
    log_likelihood: Real[Array | np.ndarray, " N"] | None = None,
    log_likelihood_error: Real[Array | np.ndarray, " N"] | None = None,
    num_steps: int = 500,
    num_samples: int = 1000,
    learning_rate: float = 0.1,
    batch_size: int = 50,
    first_row: int = 0,
) -> InferenceGaps:
    r"""log p(x) - L[q] = (log p(x) - L[q*]) + (L[q*] - L[q]), approximation gap + amortisation gap.

    q* is the best Gaussian of the family for this one x; what q(z | x) loses against it is the price of one encoder for
    all x, and what q* loses against log p(x) is the price of the family (Cremer, Li & Duvenaud 2018, section 3).

    q* begins at the encoder's location and scale and climbs by Adam, its learning rate falling to 0 along half a
    cosine, on the gradient that is exactly zero where q* is the posterior (`StickingTheLanding`), with 16 draws a step.
    Locations move in units of the encoder's scale. The family counts, not the encoder's: with an encoder that is richer
    than the family, the amortisation gap can be negative, and is no price of anything.

    Afterwards both bounds are estimated from the same K fresh draws of noise: no noise of the optimisation is counted
    as ELBO, and if the encoder is Gaussian part of the noise cancels in the difference. Both by estimator A, whose
    noise vanishes where q is the posterior; estimator B's does not, even where the KL is in closed form.

    Where log p(x) is not given, it is log 1/K sum_k p(x, z_k) / q*(z_k) over the K draws from q*: a lower bound in
    expectation, never below the estimate of L[q*]. Where `khat` is above 0.7 or `effective_sample_size` near 1, it and
    its standard error cannot be trusted, and the approximation gap is larger than it looks: give a better log p(x).
    Which one to take must not be decided by looking at both: the larger of two noisy estimates is too high in
    expectation. To compare the families, take `gaps_by_family`.

    Args:
        generative: p(x, z), by its `log_joint` alone.
        recognition: q(z | x), on all of R^J; a Gaussian or not.
        rows: x as the models see it, (N, D).
        key: row i uses fold_in(key, first_row + i).
        family: "diagonal": N(m, diag s^2); "full-covariance": N(m, L L').
        log_likelihood: (N,), log p(x) of each row where better is known.
        log_likelihood_error: (N,), its standard errors, independent of the noise here; None: it has none.
        num_steps: of the optimisation. Too few make the amortisation gap too small and the approximation gap too large
            by the same amount.
        num_samples: K >= 2.
        learning_rate: of the first step; 1 is the encoder's scale, or a factor e in q*'s.
        batch_size: rows at once. Does not change the result beyond rounding.
        first_row: where `rows` begins in the data set that it is a part of.

    Raises:
        UnavailableError: z does not live in all of R^J, or the encoder is not reparameterised.
        ValueError: an argument is out of range; `log_likelihood` is not one number per row.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> gaps = inference_gaps(g, q, np.eye(4, dtype=np.float32), jax.random.key(2))
        >>> gaps.means.gap.num_rows, bool(np.allclose(gaps.gap, gaps.amortisation_gap + gaps.approximation_gap))
        (4, True)
    """
    settings = _checked(family, num_steps, num_samples, learning_rate)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    n = num_rows_of(rows)
    for name, value in (("log_likelihood", log_likelihood), ("log_likelihood_error", log_likelihood_error)):
        if value is not None and np.shape(value) != (n,):
            raise ValueError(f"{name} must have one number for each of {n} rows, got shape {np.shape(value)}")
    if log_likelihood is None and log_likelihood_error is not None:
        raise ValueError("log_likelihood_error is that of a log_likelihood that is given; give both")
    if n:
        _check_real(generative, recognition, as_floats(take(rows, 0)))
    found: _OfRow = map_rows(
        _row_function(settings), (generative, recognition), rows, key, batch_size=batch_size, first_row=first_row
    )
    khat = pareto_khat(found.tail, settings.num_samples)  # by the type that the weights were computed in
    found = _OfRow(*(np.asarray(field, np.float64) for field in found))
    errors = GapErrors(
        elbo=found.elbo_error,
        optimised_elbo=found.optimised_error,
        log_likelihood=found.log_likelihood_error,
        amortisation_gap=found.amortisation_error,
        approximation_gap=found.approximation_error,
        gap=found.gap_error,
    )
    log_p = found.log_likelihood
    if log_likelihood is not None:
        log_p = np.asarray(log_likelihood, np.float64)
        given = np.zeros(n) if log_likelihood_error is None else np.asarray(log_likelihood_error, np.float64)
        errors = errors._replace(
            log_likelihood=given,
            approximation_gap=np.hypot(found.optimised_error, given),
            gap=np.hypot(found.elbo_error, given),
        )
    return InferenceGaps(
        elbo=found.elbo,
        optimised_elbo=found.optimised_elbo,
        log_likelihood=log_p,
        amortisation_gap=found.optimised_elbo - found.elbo,
        approximation_gap=log_p - found.optimised_elbo,
        gap=log_p - found.elbo,
        effective_sample_size=found.effective_sample_size,
        khat=khat,
        standard_error=errors,
    )


def gaps_by_family(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    log_likelihood: Real[Array | np.ndarray, " N"] | None = None,
    log_likelihood_error: Real[Array | np.ndarray, " N"] | None = None,
    **options: Any,
) -> dict[GaussianFamily, InferenceGaps]:
    """`inference_gaps` of both families, with one log p(x) and the same draws from the encoder: they can be compared.

    Args:
        generative, recognition, rows, key: as for `inference_gaps`.
        log_likelihood, log_likelihood_error: log p(x) of each row. None: importance sampling from the Gaussians of full
            covariance, for both families; `effective_sample_size` and `khat` of that family say how good it is.
        options: the others of `inference_gaps`.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> gaps = gaps_by_family(g, q, np.eye(4, dtype=np.float32), jax.random.key(2))
        >>> bool((gaps["diagonal"].log_likelihood == gaps["full-covariance"].log_likelihood).all())
        True
    """
    models = (generative, recognition)
    full = inference_gaps(
        *models,
        rows,
        key,
        family="full-covariance",
        log_likelihood=log_likelihood,
        log_likelihood_error=log_likelihood_error,
        **options,
    )
    if log_likelihood is None:
        log_likelihood, log_likelihood_error = full.log_likelihood, full.standard_error.log_likelihood
    diagonal = inference_gaps(
        *models,
        rows,
        key,
        family="diagonal",
        log_likelihood=log_likelihood,
        log_likelihood_error=log_likelihood_error,
        **options,
    )
    return {"diagonal": diagonal, "full-covariance": full}


# --- one row ----------------------------------------------------------------------------------------------------------


class _Settings(NamedTuple):
    family: GaussianFamily
    num_steps: int
    num_samples: int
    learning_rate: float


class _OfRow(NamedTuple):
    elbo: Any
    optimised_elbo: Any
    log_likelihood: Any
    effective_sample_size: Any
    tail: Any  # the largest log w of q*, downwards
    elbo_error: Any
    optimised_error: Any
    log_likelihood_error: Any
    amortisation_error: Any
    approximation_error: Any
    gap_error: Any


class _RowGaussian(AbstractRecognitionModel):
    """N(loc + scale * move, L L'), L = diag(scale * e^log_ratio) (I + N): a q(z) for one row, whatever x it is asked
    about. Begins, at zeros, as N(loc, diag scale^2).
    """

    move: Float[Array, "*z"]
    log_ratio: Float[Array, "*z"]
    lower: Float[Array, "J J"] | None  # sqrt(J) N is its strictly lower triangle; None: a diagonal covariance
    loc: Float[Array, "*z"]
    scale: Float[Array, "*z"]

    def posterior(self, x: X) -> Distribution:
        """q*(z), over an event of z's shape."""
        del x
        loc, scale = self.loc + self.scale * self.move, self.scale * jnp.exp(self.log_ratio)
        if self.lower is None:
            return Normal(loc, scale).to_event(loc.ndim)
        flat = scale.ravel()
        # Adam moves every element alike at first: divided by sqrt(J), so that the rows of I + N, and with them the
        # condition of L, do not depend on J.
        unit = jnp.eye(len(flat), dtype=flat.dtype) + jnp.tril(self.lower, -1) / np.sqrt(len(flat))
        factor = flat[:, None] * unit

        def solved(z: Array) -> Array:
            return jax.scipy.linalg.solve_triangular(factor, (z - loc).ravel(), lower=True).reshape(loc.shape)

        # log q of a draw comes from its noise and stays exact, however ill-conditioned L is.
        return Reparameterized(
            Normal(jnp.zeros_like(loc), jnp.ones_like(loc)).to_event(loc.ndim),
            lambda eps: loc + (factor @ eps.ravel()).reshape(loc.shape),
            inverse=solved,
            log_det=lambda eps: jnp.sum(jnp.log(flat)),
        )


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(settings: _Settings) -> Callable[..., Any]:
    def gaps_of_row(
        generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
    ) -> _OfRow:
        x = as_floats(row)
        fit_key, draw_key = jax.random.split(key)
        best = _fit(settings, generative, recognition, fit_key, x)

        def draw(k: Array) -> tuple[Array, Array]:
            """log p(x, z) - log q(z) of one draw from each, with the same key: two Gaussians have the same noise."""
            noise, estimator = jax.random.fold_in(draw_key, k), SgvbA()
            return estimator(noise, generative, recognition, x).bound, estimator(noise, generative, best, x).bound

        ks = jnp.arange(settings.num_samples, dtype=jnp.uint32)
        own, optimised = jax.lax.map(draw, ks, batch_size=min(_CHUNK, settings.num_samples))
        return _summary(own, optimised)

    return gaps_of_row


def _fit(
    settings: _Settings,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    key: PRNGKeyArray,
    x: X,
) -> _RowGaussian:
    """argmax over the family of L[q], from the encoder's location and scale."""
    loc, scale = location_and_scale(posterior_of(recognition, x))
    zeros = jnp.zeros_like(loc)
    lower = None if settings.family == "diagonal" else jnp.zeros((loc.size, loc.size), loc.dtype)
    estimator = StickingTheLanding(_DRAWS)
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.num_steps))

    def gaussian(free: tuple[Any, Any, Any]) -> _RowGaussian:
        return _RowGaussian(free[0], free[1], free[2], loc, scale)

    def loss(free: tuple[Any, Any, Any], step_key: PRNGKeyArray) -> Float[Array, ""]:
        return -estimator(step_key, generative, gaussian(free), x).bound

    def step(carry: tuple[Any, Any], t: Array) -> tuple[tuple[Any, Any], None]:
        free, state = carry
        gradient = jax.grad(loss)(free, jax.random.fold_in(key, t))
        updates, new_state = optimizer.update(gradient, state, free)
        new = (optax.apply_updates(free, updates), new_state)
        finite = jnp.all(jnp.array([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, carry), None  # else the step is left out whole

    start = (zeros, zeros, lower)
    (free, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(settings.num_steps, dtype=jnp.uint32))
    return gaussian(free)


def _summary(own: Float[Array, " K"], optimised: Float[Array, " K"]) -> _OfRow:
    """Means and standard errors of K pairs of log w = log p(x, z) - log q(z).

    A standard error is the spread of what each pair adds. To log 1/K sum_k w_k it adds w_k / mean(w) - 1 (the delta
    method), and to a difference the difference.
    """
    k = jnp.asarray(len(own), own.dtype)
    log_p = log_mean_exp(optimised)
    ratio = jnp.exp(optimised - log_p)  # w_k / mean(w)

    def error(adds: Float[Array, " K"]) -> Float[Array, ""]:
        return jnp.std(adds, ddof=1) / jnp.sqrt(k)

    return _OfRow(
        elbo=jnp.mean(own),
        optimised_elbo=jnp.mean(optimised),
        log_likelihood=log_p,
        effective_sample_size=k / jnp.mean(jnp.square(ratio)),  # (sum w)^2 / sum w^2
        tail=jax.lax.top_k(optimised, min(TAIL, len(optimised)))[0],
        elbo_error=error(own),
        optimised_error=error(optimised),
        log_likelihood_error=error(ratio),
        amortisation_error=error(optimised - own),
        approximation_error=error(ratio - optimised),
        gap_error=error(ratio - own),
    )


# --- what can be asked ------------------------------------------------------------------------------------------------


def _checked(family: str, num_steps: int, num_samples: int, learning_rate: float) -> _Settings:
    if family not in get_args(GaussianFamily):
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(get_args(GaussianFamily))}")
    num_steps, num_samples = operator.index(num_steps), operator.index(num_samples)
    if num_steps < 1 or num_samples < 2:
        raise ValueError(f"num_steps must be at least 1 and num_samples at least 2, got {num_steps} and {num_samples}")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    return _Settings(cast(GaussianFamily, family), num_steps, num_samples, float(learning_rate))


def _check_real(generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, x: X) -> None:
    """Raise where a Gaussian q* would reach where p(x, z) has no density, or an encoder has no draws to compare."""
    q = posterior_of(recognition, x)
    distributions = {"the posterior": q}
    if isinstance(generative, AbstractPriorLikelihood):
        distributions["the prior"] = prior_of(generative, x)
    for which, distribution in distributions.items():
        support = distribution.support
        if getattr(support, "base_constraint", support) is not Normal.support:
            raise UnavailableError(
                f"inference gaps are those to a Gaussian q*, which needs a latent on all of R^J, and {which} does not "
                "reach all of it"
            )
    if not q.has_rsample:
        raise UnavailableError(
            f"inference gaps compare draws with common noise, and the posterior, {type(q).__name__}, is not "
            "reparameterised; use a posterior family that is"
        )
