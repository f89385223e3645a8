"""What the latent space does: its KL, the dimensions that follow x, what z tells about x, where the z of data lie."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real

from aevb.distributions import (
    kl_divergence,
    kl_per_dimension,
    location_and_scale,
    rsample_and_log_prob,
    sample_and_log_prob,
)
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    log_prior_of,
    posterior_and_prior,
    posterior_of,
    prior_of,
)

from ._rows import map_rows
from ._summary import Mean, mean

# A dimension is active if Var_x[E_q(z_j|x)[z_j]] is above this share of the prior's variance.
ACTIVE = 0.01
# Draws of z per row where the KL has no closed form. Rows differ more than that.
_KL_DRAWS = 32
# Densities q(z_i | x_j) that are computed at once, which bounds the memory.
_PAIRS = 50_000
# What the verdict calls nothing, strongly correlated, and far; and how near to log N the information is at its limit.
_NOTHING, _CORRELATED, _FAR, _NEAR_LIMIT = 0.01, 0.8, 1.0, 1.0


class LatentDiagnostics(NamedTuple):
    """What `latent_diagnostics` found, in nats per example. J: dimensions of z, in the order of z.ravel()."""

    kl: Mean  # D_KL(q(z | x) || p(z)) over all rows
    kl_is_analytic: bool  # in closed form; else sampled
    kl_per_dimension: Float[np.ndarray, " J"] | None  # mean over all rows; None: no closed form for single dimensions
    variance_of_mean: Float[np.ndarray, " J"]  # Var_x[E_q(z_j|x)[z_j]], over all rows, in units of z_j^2
    scale: Float[np.ndarray, " J"]  # mean standard deviation of q(z_j | x), in units of z_j
    prior_scale: Float[np.ndarray, " J"]  # that of p(z_j)
    active: Bool[np.ndarray, " J"]  # variance_of_mean > 0.01 prior_scale^2
    correlation: Float[np.ndarray, "J J"]  # of the posterior means; NaN where one does not vary
    mutual_information: Mean  # I_q(x; z), at most `mutual_information_limit`
    mutual_information_limit: float  # log N of the N rows that the last two are estimated on
    aggregate_kl: Mean  # D_KL(q(z) || p(z)), q(z) = 1/N sum_i q(z | x_i)

    @property
    def num_active(self) -> int:
        """How many dimensions are active."""
        return int(np.count_nonzero(self.active))

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; NaN as None."""
        return {name: _plain(value) for name, value in {**self._asdict(), "num_active": self.num_active}.items()}


def latent_diagnostics(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Real[Array | np.ndarray, "N *x"],
    key: PRNGKeyArray,
    *,
    num_aggregate: int = 2000,
    batch_size: int = 50,
) -> LatentDiagnostics:
    r"""What q(z | x) does over a data set.

    *KL and its dimensions*: means over all rows of D_KL(q(z | x) || p(z)), in closed form where one is known.

    *Active dimensions* (Burda, Grosse & Salakhutdinov 2016, section 5.2): those with Var_x[E_q(z_j|x)[z_j]] > 0.01. The
    paper has p(z) = N(0, I); here the 0.01 is a share of the prior's variance in that dimension, so that a latent that
    lives in (0, 1) is measured by its own yardstick. Where `aevb.distributions.location_and_scale` gives a median for
    the mean, it is the median here too. Angles are taken as numbers.

    *The split of the KL* (Hoffman & Johnson 2016): with the aggregate posterior q(z) = 1/N sum_i q(z | x_i),

        1/N sum_i D_KL(q(z | x_i) || p(z)) = I_q(x; z) + D_KL(q(z) || p(z)),

    where I_q is the information that z has about which row it came from. One z_i ~ q(z | x_i) a row gives
    I = mean[log q(z_i | x_i) - log q(z_i)] and mean[log q(z_i) - log p(z_i)]. The two add up to the sampled KL of these
    rows, which differs from `kl` by the noise of z and, if there are more rows than `num_aggregate`, by theirs.

    q(z) is exactly the mixture over the N rows, with each z_i's own row in it: I and the aggregate KL are unbiased for
    these N rows taken as the whole population. For the population behind them I is too low and the aggregate KL too
    high by the same amount. As q(z_i) >= q(z_i | x_i) / N, **the estimate of I cannot exceed log N**
    (`mutual_information_limit`), however much z tells; near it, what is missing from I has gone to the aggregate KL,
    which then says nothing about the prior. (Without the own row neither would be a KL or an information, and the
    estimates could be below zero or unbounded.)

    Args:
        generative: p(x, z) with a `prior()`; a VampPrior tied to the encoder.
        recognition: q(z | x).
        rows: x as the models see it, (N, D), N >= 2.
        key: of the draws of z and of the choice of rows for the aggregate.
        num_aggregate: largest N of the aggregate posterior; if there are more rows, so many are drawn without
            replacement. Takes N^2 densities of q: seconds for 2,000 rows, but minutes for an inverse autoregressive
            flow, whose density costs J passes.
        batch_size: rows at once. Does not change the result beyond rounding.

    Raises:
        TypeError: the generative model does not say what its prior is; q has no density at a given z.
        ValueError: fewer than two rows; the KL is infinite, as q(z | x) reaches where p(z) has no density.

    Example:
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> rows = np.random.default_rng(0).integers(0, 2, (50, 4)).astype(np.uint8)
        >>> d = latent_diagnostics(g, q, rows, jax.random.key(2))
        >>> d.active.shape, d.correlation.shape, d.mutual_information.value <= d.mutual_information_limit
        ((2,), (2, 2), True)
    """
    num_aggregate = operator.index(num_aggregate)
    if num_aggregate < 2 or batch_size < 1:
        raise ValueError(
            f"num_aggregate must be at least 2 and batch_size at least 1, got {num_aggregate} and {batch_size}"
        )
    if len(rows) < 2:
        raise ValueError(f"variances over rows need at least 2 rows, got {len(rows)}")
    if not isinstance(generative, AbstractPriorLikelihood):
        raise TypeError(
            f"the KL to the prior needs prior(), but {type(generative).__name__} has only log_joint; derive it from "
            "AbstractPriorLikelihood"
        )
    models = (generative, recognition)
    kl_key, choice_key, draw_key = jax.random.split(key, 3)
    x = jnp.asarray(rows[0]).astype(float)
    analytic, by_dimension = _has_closed_form(kl_divergence, *models, x), _has_closed_form(kl_per_dimension, *models, x)
    found: _OfRow = map_rows(_row_function(analytic, by_dimension), models, rows, kl_key, batch_size=batch_size)
    if not np.isfinite(found.kl).all():
        i = int(np.argmin(np.isfinite(found.kl)))
        raise ValueError(
            f"D_KL(q(z | x) || p(z)) of row {i} is {found.kl[i]}: q(z | x) reaches where p(z) has no density, or the "
            "encoder overflows; give the two the same support"
        )

    if len(rows) > num_aggregate:
        chosen = jax.random.choice(choice_key, len(rows), (num_aggregate,), replace=False)
        rows = rows[np.sort(np.asarray(chosen))]
    z, log_q, log_p = map_rows(_draw, models, rows, draw_key, batch_size=batch_size)
    log_aggregate = np.asarray(_log_aggregate(recognition, jnp.asarray(rows), z, max(1, _PAIRS // len(rows))))

    locs = np.asarray(found.loc, np.float64)
    variance = locs.var(axis=0, ddof=1)
    _, prior_scale = _flat_location_and_scale(prior_of(generative))
    return LatentDiagnostics(
        kl=mean(found.kl),
        kl_is_analytic=analytic,
        kl_per_dimension=None if found.per_dimension is None else found.per_dimension.mean(axis=0, dtype=np.float64),
        variance_of_mean=variance,
        scale=found.scale.mean(axis=0, dtype=np.float64),
        prior_scale=np.asarray(prior_scale, np.float64),
        active=variance > ACTIVE * np.asarray(prior_scale, np.float64) ** 2,
        correlation=_correlation(locs),
        mutual_information=mean(np.float64(log_q) - log_aggregate),  # 1/N sum_i log q(z_i | x_i) / q(z_i)
        mutual_information_limit=float(np.log(len(rows))),
        aggregate_kl=mean(np.float64(log_aggregate) - log_p),  # 1/N sum_i log q(z_i) / p(z_i)
    )


def collapse_verdict(diagnostics: LatentDiagnostics) -> str:
    """What the diagnostics mean, in one to three sentences: collapse, doubled dimensions, a prior that does not fit.

    Example:
        >>> from aevb.models import BernoulliGenerative, GaussianRecognition
        >>> g = BernoulliGenerative(4, 2, (3,), key=jax.random.key(0))
        >>> q = GaussianRecognition(4, 2, (3,), key=jax.random.key(1))
        >>> q = jax.tree.map(jnp.zeros_like, q)  # q(z | x) = N(0, I) for every x
        >>> d = latent_diagnostics(g, q, np.eye(4, dtype=np.float32), jax.random.key(2))
        >>> print(collapse_verdict(d).split(":")[0])
        The posterior has collapsed
    """
    d = diagnostics
    sentences = [_activity(d), _correlated_pair(d), _fit_of_prior(d)]
    return " ".join(s for s in sentences if s)


# --- sentences --------------------------------------------------------------------------------------------------------


def _activity(d: LatentDiagnostics) -> str:
    num_dims, information = len(d.active), d.mutual_information
    known = information.value - 3 * information.standard_error > _NOTHING
    if d.num_active == 0 and not known:
        cost = f", though it costs {d.kl.value:.1f} nats" if d.kl.value >= 0.1 else ""
        return (
            f"The posterior has collapsed: q(z | x) is nearly the same for every x, none of {num_dims} "
            f"{_plural(num_dims)} is active, and z says nothing about x{cost}; try --kl-warmup or --free-bits."
        )
    if d.num_active == 0:
        return (
            f"No posterior mean moves with x, yet z carries {_nats(d)} about x through the shape of q(z | x) alone; "
            "this is close to collapse, and --kl-warmup or --free-bits may help."
        )
    idle = num_dims - d.num_active
    if idle == 0:
        every = "The one latent dimension is" if num_dims == 1 else f"All {num_dims} latent dimensions are"
        return f"{every} active; {'it carries' if num_dims == 1 else 'they carry'} {_nats(d)} about x."
    is_are = "is" if d.num_active == 1 else "are"
    head = f"{d.num_active} of {num_dims} latent dimensions {is_are} active and z carries {_nats(d)} about x;"
    return f"{head} {_idle(d, idle)}."


def _idle(d: LatentDiagnostics, idle: int) -> str:
    """What the dimensions that do not follow x cost."""
    rest = "the other one" if idle == 1 else f"the other {idle}"
    if d.kl_per_dimension is None:
        return f"{rest} {'does' if idle == 1 else 'do'} not follow x and could be left out"
    largest = float(d.kl_per_dimension[~d.active].max())
    each = "" if idle == 1 else " each"
    if largest < _NOTHING:
        return f"{rest} {'has' if idle == 1 else 'have'} a KL of less than {_NOTHING} nats{each} and could be left out"
    return (
        f"{rest} {'does' if idle == 1 else 'do'} not follow x but {'has' if idle == 1 else 'have'} a KL of up to "
        f"{largest:.2g} nats{each}"
    )


def _correlated_pair(d: LatentDiagnostics) -> str:
    both = d.active[:, None] & d.active[None, :] & ~np.eye(len(d.active), dtype=bool)
    strength = np.where(both, np.abs(np.nan_to_num(d.correlation)), 0.0)
    if strength.size == 0 or strength.max() <= _CORRELATED:
        return ""
    i, j = sorted(divmod(int(np.argmax(strength)), len(d.active)))
    pairs = np.count_nonzero(np.triu(strength) > _CORRELATED)
    others = "" if pairs == 1 else f" (and {pairs - 1} other pair{'s' if pairs > 2 else ''} above {_CORRELATED})"
    return (
        f"The means of dimensions {i} and {j} have a correlation of {d.correlation[i, j]:.2f}{others}: they tell much "
        "the same, and fewer dimensions, or a posterior with a full covariance, may do as well."
    )


def _fit_of_prior(d: LatentDiagnostics) -> str:
    if d.num_active and _at_limit(d):
        return (
            f"As {d.mutual_information.num_rows} rows cannot show more than {d.mutual_information_limit:.1f} nats, how "
            "far the z of data are from the prior is not known."
        )
    if d.aggregate_kl.value - 3 * d.aggregate_kl.standard_error <= _FAR:
        return ""
    return (
        f"The z of data are {d.aggregate_kl.value:.1f} nats from the prior: samples from p(z) come from places that "
        "the decoder never saw; a prior that is learned (--prior mixture, vamp or flow) may mend it."
    )


def _nats(d: LatentDiagnostics) -> str:
    """The information; at its limit, between what the rows show and the KL, which is never less."""
    low, high = (f"{v:.1f}" if v >= 1 else f"{max(v, 0.0):.2g}" for v in (d.mutual_information.value, d.kl.value))
    return f"between {low} and {high} nats" if _at_limit(d) and d.kl.value > float(low) else f"{low} nats"


def _at_limit(d: LatentDiagnostics) -> bool:
    """Too few rows for so much information: with I the true one, the estimate is log N - log(1 + N e^-I) or so."""
    return d.mutual_information.value > d.mutual_information_limit - _NEAR_LIMIT


def _plural(num_dims: int) -> str:
    return "latent dimension" if num_dims == 1 else "latent dimensions"


# --- estimates --------------------------------------------------------------------------------------------------------


class _OfRow(NamedTuple):
    kl: Any
    per_dimension: Any
    loc: Any
    scale: Any


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(analytic: bool, by_dimension: bool) -> Callable[..., Any]:
    def of_row(
        generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Array
    ) -> _OfRow:
        q, prior = posterior_and_prior(generative, recognition, row.astype(float))
        if analytic:
            kl = kl_divergence(q, prior)
        else:
            draw = rsample_and_log_prob if q.has_rsample else sample_and_log_prob  # the first inverts no flow
            z, log_q = draw(q, key, (_KL_DRAWS,))
            kl = jnp.mean(log_q - prior.log_prob(z))
        return _OfRow(kl, kl_per_dimension(q, prior) if by_dimension else None, *_flat_location_and_scale(q))

    return of_row


def _draw(
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: Array
) -> tuple[Array, Array, Array]:
    """z ~ q(z | x), log q(z | x) in the way that `_log_aggregate` computes it, and log p(z)."""
    z, log_q = sample_and_log_prob(posterior_of(recognition, row.astype(float)), key)
    return z, log_q, log_prior_of(generative, z)


@eqx.filter_jit
def _log_aggregate(
    recognition: AbstractRecognitionModel, rows: Array, z: Float[Array | np.ndarray, "N *z"], chunk_size: int
) -> Float[Array, " N"]:
    """log q(z_i) = log 1/N sum_j q(z_i | x_j), over `chunk_size` rows x_j at a time."""
    n = len(rows)
    index = jnp.arange(-(-n // chunk_size) * chunk_size).reshape(-1, chunk_size)
    z = jnp.asarray(z)

    def densities(row: Array) -> Float[Array, " N"]:
        return posterior_of(recognition, row.astype(float)).log_prob(z)  # made anew inside

    def add_chunk(total: Array, j: Array) -> tuple[Array, None]:
        each = jax.vmap(densities)(rows[jnp.minimum(j, n - 1)])
        each = jnp.where(j[:, None] < n, each, -jnp.inf)  # what fills up the last chunk weighs nothing
        return jnp.logaddexp(total, jax.nn.logsumexp(each, axis=0)), None

    total, _ = jax.lax.scan(add_chunk, jnp.full(n, -jnp.inf, jnp.result_type(float)), index)
    return total - jnp.log(jnp.asarray(n, total.dtype))


def _has_closed_form(
    divergence: Any, generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, x: Array
) -> bool:
    """A trace by shapes, nothing is computed."""

    def of_models(models: tuple[AbstractPriorLikelihood, AbstractRecognitionModel]) -> Array:
        value: Array = divergence(*posterior_and_prior(*models, x))
        return value

    try:
        eqx.filter_eval_shape(of_models, (generative, recognition))
    except TypeError:
        return False
    return True


def _flat_location_and_scale(distribution: Any) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    loc, scale = location_and_scale(distribution)
    return loc.ravel(), scale.ravel()


def _correlation(locs: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "J J"]:
    """NaN in the rows and columns of dimensions that do not vary."""
    centred = locs - locs.mean(axis=0)
    vary = np.ptp(locs, axis=0) > 0  # a constant column has the rounding of its mean left
    sd = np.where(vary, np.sqrt(np.mean(centred**2, axis=0)), np.nan)
    return np.asarray(centred.T @ centred / len(locs) / np.outer(sd, sd))


def _plain(value: Any) -> Any:
    if isinstance(value, Mean):
        return {name: _plain(v) for name, v in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
