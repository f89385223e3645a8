"""What the latent space does: its KL, the dimensions that follow x, what z tells about x, where the z of data lie."""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from aevb.distributions import (
    Sequential,
    divergent_layers,
    kl_divergence,
    kl_per_dimension,
    location_and_scale,
    log_ratio_per_layer,
    rsample_and_log_prob,
    sample_and_log_prob,
)
from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    log_prior_of,
    num_rows_of,
    posterior_and_prior,
    posterior_of,
    prior_of,
    take,
)

from ._rows import map_rows
from ._summary import Mean, mean

# A dimension is active if Var_x[E_q(z_j|x)[z_j]] is above this share of the prior's variance.
ACTIVE = 0.01
# Draws of z per row where the KL has no closed form. Rows differ more than that.
_KL_DRAWS = 32
# Densities q(z_i | x_j) that are computed at once, which bounds the memory.
_PAIRS = 50_000


class Bounds(NamedTuple):
    """A number of at least zero, between two estimates: one is below it in expectation, the other above."""

    lower: Mean
    upper: Mean

    def interval(self, sigmas: float = 3.0) -> tuple[float, float]:
        """From the lower estimate to the upper one, both with so many standard errors of room, and not below zero.

        Example:
            >>> Bounds(Mean(0.5, 0.25, 100), Mean(1.0, 0.5, 100)).interval()
            (0.0, 2.5)
        """
        low, high = self
        return max(low.value - sigmas * low.standard_error, 0.0), high.value + sigmas * high.standard_error


class LatentLayer(NamedTuple):
    """One layer of a z that posterior and prior have in layers (`aevb.distributions.Sequential`)."""

    name: str
    first: int  # of its dimensions, counted from 1 in the order of z
    last: int
    num_active: int
    # E_q[log q(z_i | ...) - log p(z_i | ...)] over all rows, sampled: what the layer adds to the KL, to which all sum.
    kl: Mean
    # Whether that is a divergence by itself. If not, p's factor asks for what q draws later, and it can be negative.
    is_divergence: bool
    # Whether p draws it given no other layer. A divergence from such a p(z_i) is at least what z_i tells about x.
    is_first: bool


class LatentDiagnostics(NamedTuple):
    """What `latent_diagnostics` found, in nats per example. J: dimensions of z, in the order of z.ravel()."""

    kl: Mean  # D_KL(q(z | x) || p(z)) over all rows
    kl_is_analytic: bool  # in closed form; else sampled
    kl_per_dimension: Float[np.ndarray, " J"] | None  # mean over all rows; None: no closed form for single dimensions
    # Var_x[E_q(z_j|x)[z_j]], over all rows, in units of z_j^2; where something is given, of its distance from the mean
    # of p(z_j | given).
    variance_of_mean: Float[np.ndarray, " J"]
    scale: Float[np.ndarray, " J"]  # mean standard deviation of q(z_j | x), in units of z_j
    prior_scale: Float[np.ndarray, " J"]  # that of p(z_j), or the mean over all rows of that of p(z_j | given)
    active: Bool[np.ndarray, " J"]  # variance_of_mean > 0.01 prior_scale^2
    correlation: Float[np.ndarray, "J J"]  # of these means; NaN where one does not vary
    # The split of the KL; None in a conditional model, whose rows have a prior each.
    mutual_information: Bounds | None  # I_q(x; z); the lower one is at most `mutual_information_limit`
    mutual_information_limit: float | None  # log N of the N rows that both are estimated on
    aggregate_kl: Bounds | None  # D_KL(q(z) || p(z)), q(z) = E_x[q(z | x)]
    num_saturated: int | None  # of these N rows: where the own q(z | x_i) has more density than all others' together
    layers: tuple[LatentLayer, ...] | None = None  # in the order of z; None unless posterior and prior have layers

    @property
    def num_active(self) -> int:
        """How many dimensions are active."""
        return int(np.count_nonzero(self.active))

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; what is not finite as None."""
        values = {**self._asdict(), "num_active": self.num_active}
        if self.layers is None:
            del values["layers"]
        return {name: _plain(value) for name, value in values.items()}


def latent_diagnostics(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
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

    *Layers*: where posterior and prior are both a `Sequential`, what each layer adds to the sampled KL, and how many of
    its dimensions are active. E_q(z_j|x)[z_j] of a layer that is drawn given others is a mean over 1,000 draws of
    these, with the same noise for each row: to Var_x it adds a 1,000th of what the conditional mean varies in a row, or
    less.

    *The split of the KL* (Hoffman & Johnson 2016): with x from the population of the rows and the aggregate posterior
    q(z) = E_x[q(z | x)],

        E_x[D_KL(q(z | x) || p(z))] = I_q(x; z) + D_KL(q(z) || p(z)),

    where I_q is the information that z has about which x it came from. q(z) is not known, only N rows are; so each part
    is given from both sides. With one z_i ~ q(z | x_i) a row, put the mixture over the rows in the place of q(z):

        own row in:   q_in(z_i)  = 1/N sum_j q(z_i | x_j)
        own row out:  q_out(z_i) = 1/(N-1) sum_{j != i} q(z_i | x_j).

    *Out*: given z_i the other rows are fresh, E[q_out(z_i)] = q(z_i), and by Jensen E[log q_out(z_i)] <= E[log q(z_i)].
    So mean[log q(z_i | x_i) - log q_out(z_i)] is at least I in expectation, and mean[log q_out(z_i) - log p(z_i)] at
    most the aggregate KL; it can be below zero.

    *In*: given the rows, mean[log q(z_i | x_i) - log q_in(z_i)] is unbiased for the information between z and the
    number of a row, the N rows being the whole population. Information is concave in the distribution of x, so that it
    is at most I in expectation over the rows; and as the two parts add up to the same KL, mean[log q_in(z_i) -
    log p(z_i)] is at least the aggregate KL. (Both sides of I are in Poole, Ozair, van den Oord, Alemi & Tucker 2019,
    section 2.) As q_in(z_i) >= q(z_i | x_i) / N, **this estimate of I cannot exceed log N**
    (`mutual_information_limit`), however much z tells. It is reached row by row: `num_saturated` counts the rows whose
    own component outweighs all the others at z_i. With many of them the two sides lie far apart, and say so.

    *Conditional models* have a prior p(z | given) for each row, and no such split: of what a mixture of their q(z | x)
    has to do with one p(z) nothing would follow. Dimensions are active there that move away from their own prior.

    Either pair adds up to the sampled KL of these rows, which differs from `kl` by the noise of z and, if there are
    more rows than `num_aggregate`, by theirs. The standard errors are of independent rows; to first order the mixture,
    which the rows share, adds nothing to them.

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
        UnavailableError: the generative model does not say what its prior is; q has no density at a given z; the KL is
            not finite, as q(z | x) reaches where p(z) has no density.
        ValueError: fewer than two rows.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> rows = np.random.default_rng(0).integers(0, 2, (50, 4)).astype(np.uint8)
        >>> d = latent_diagnostics(g, q, rows, jax.random.key(2))
        >>> d.active.shape, d.correlation.shape, d.mutual_information.lower.value <= d.mutual_information_limit
        ((2,), (2, 2), True)
    """
    num_aggregate = operator.index(num_aggregate)
    if num_aggregate < 2 or batch_size < 1:
        raise ValueError(
            f"num_aggregate must be at least 2 and batch_size at least 1, got {num_aggregate} and {batch_size}"
        )
    if num_rows_of(rows) < 2:
        raise ValueError(f"variances over rows need at least 2 rows, got {num_rows_of(rows)}")
    if not isinstance(generative, AbstractPriorLikelihood):
        raise UnavailableError(
            f"the KL to the prior needs prior(), but {type(generative).__name__} has only log_joint; derive it from "
            "AbstractPriorLikelihood"
        )
    models = (generative, recognition)
    kl_key, choice_key, draw_key = jax.random.split(key, 3)
    x = as_floats(take(rows, 0))
    analytic, by_dimension = _has_closed_form(kl_divergence, *models, x), _has_closed_form(kl_per_dimension, *models, x)
    found: _OfRow = map_rows(_row_function(analytic, by_dimension), models, rows, kl_key, batch_size=batch_size)
    if not np.isfinite(found.kl).all():
        i = int(np.argmin(np.isfinite(found.kl)))
        raise UnavailableError(
            f"D_KL(q(z | x) || p(z)) of row {i} (from 0) is {found.kl[i]}: q(z | x) reaches where p(z) has no density, "
            "or the encoder overflows; give the two the same support"
        )

    split = _Split()
    if not generative.is_conditional:
        split = _split_of_kl(generative, recognition, rows, choice_key, draw_key, num_aggregate, batch_size)
    layers = _layers(generative, recognition, x)  # none, unless posterior and prior have them
    locs, prior_scale = np.asarray(found.loc, np.float64), _prior_scale(generative, x)
    if found.prior is not None:
        prior_loc, scale = (np.asarray(part, np.float64) for part in found.prior)
        locs, prior_scale = locs - prior_loc, scale.mean(axis=0)
    variance = locs.var(axis=0, ddof=1)
    active = variance > ACTIVE * prior_scale**2
    return LatentDiagnostics(
        kl=mean(found.kl),
        kl_is_analytic=analytic,
        kl_per_dimension=None if found.per_dimension is None else found.per_dimension.mean(axis=0, dtype=np.float64),
        variance_of_mean=variance,
        scale=found.scale.mean(axis=0, dtype=np.float64),
        prior_scale=prior_scale,
        active=active,
        correlation=_correlation(locs),
        **split._asdict(),
        layers=tuple(
            LatentLayer(name, start + 1, stop, int(active[start:stop].sum()), mean(found.per_layer[name]), *facts)
            for name, start, stop, *facts in layers
        )
        or None,
    )


# --- estimates --------------------------------------------------------------------------------------------------------


class _OfRow(NamedTuple):
    kl: Any
    per_dimension: Any
    per_layer: Any  # name -> what the layer adds to the KL; None where there are none
    loc: Any
    scale: Any
    prior: Any  # location and scale of p(z | given); None where nothing is given


class _Split(NamedTuple):
    """The parts of the KL, as `LatentDiagnostics` has them."""

    mutual_information: Bounds | None = None
    mutual_information_limit: float | None = None
    aggregate_kl: Bounds | None = None
    num_saturated: int | None = None


def _split_of_kl(
    generative: AbstractPriorLikelihood,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    choice_key: PRNGKeyArray,
    draw_key: PRNGKeyArray,
    num_aggregate: int,
    batch_size: int,
) -> _Split:
    if num_rows_of(rows) > num_aggregate:
        chosen = jax.random.choice(choice_key, num_rows_of(rows), (num_aggregate,), replace=False)
        rows = take(rows, np.sort(np.asarray(chosen)))
    n = num_rows_of(rows)
    z, log_q, log_p = map_rows(_draw, (generative, recognition), rows, draw_key, batch_size=batch_size)
    aggregate = _log_aggregate(recognition, jax.tree.map(jnp.asarray, rows), z, max(1, _PAIRS // n))
    own_in, own_out = (np.asarray(log_density, np.float64) for log_density in aggregate)
    log_q, log_p = np.asarray(log_q, np.float64), np.asarray(log_p, np.float64)
    return _Split(
        mutual_information=Bounds(_mean(log_q - own_in), _mean(log_q - own_out)),
        mutual_information_limit=float(np.log(n)),
        aggregate_kl=Bounds(_mean(own_out - log_p), _mean(own_in - log_p)),
        num_saturated=int(np.count_nonzero(log_q > own_out + np.log(n - 1))),
    )


@functools.cache  # one function object per setting, so that it is compiled once
def _row_function(analytic: bool, by_dimension: bool) -> Callable[..., Any]:
    def of_row(
        generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
    ) -> _OfRow:
        q, prior = posterior_and_prior(generative, recognition, as_floats(row))
        per_layer = None
        if analytic:
            kl = kl_divergence(q, prior)
        else:
            draw = rsample_and_log_prob if q.has_rsample else sample_and_log_prob  # the first inverts no flow
            z, log_q = draw(q, key, (_KL_DRAWS,))
            kl = jnp.mean(log_q - prior.log_prob(z))
            per_layer = jax.tree.map(jnp.mean, log_ratio_per_layer(q, prior, z))
        per_dimension = kl_per_dimension(q, prior) if by_dimension else None
        own = _flat_location_and_scale(prior) if generative.is_conditional else None
        return _OfRow(kl, per_dimension, per_layer, *_flat_location_and_scale(q), own)

    return of_row


def _draw(
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
) -> tuple[Array, Array, Array]:
    """z ~ q(z | x), log q(z | x) in the way that `_log_aggregate` computes it, and log p(z)."""
    x = as_floats(row)
    q = posterior_of(recognition, x)
    z = q.sample(key)
    return z, q.log_prob(z), log_prior_of(generative, x, z)


@eqx.filter_jit
def _log_aggregate(
    recognition: AbstractRecognitionModel, rows: Rows, z: Float[Array | np.ndarray, "N *z"], chunk_size: int
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """log q_in(z_i) and log q_out(z_i), the mixtures over all rows x_j and over those with j != i, `chunk_size` rows
    at a time.
    """
    n = num_rows_of(rows)
    index = jnp.arange(-(-n // chunk_size) * chunk_size).reshape(-1, chunk_size)
    z = jnp.asarray(z)

    def densities(row: X) -> Float[Array, " N"]:
        return posterior_of(recognition, as_floats(row)).log_prob(z)  # made anew inside

    def add_chunk(totals: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], None]:
        each = jax.vmap(densities)(take(rows, jnp.minimum(j, n - 1)))
        each = jnp.where(j[:, None] < n, each, -jnp.inf)  # what fills up the last chunk weighs nothing
        others = jnp.where(j[:, None] == jnp.arange(n), -jnp.inf, each)
        parts = (jax.nn.logsumexp(each, axis=0), jax.nn.logsumexp(others, axis=0))
        return (jnp.logaddexp(totals[0], parts[0]), jnp.logaddexp(totals[1], parts[1])), None

    nothing = jnp.full(n, -jnp.inf, jnp.result_type(float))
    (every, others), _ = jax.lax.scan(add_chunk, (nothing, nothing), index)
    return every - jnp.log(jnp.asarray(n, every.dtype)), others - jnp.log(jnp.asarray(n - 1, others.dtype))


def _has_closed_form(
    divergence: Any, generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, x: X
) -> bool:
    """A trace by shapes, nothing is computed."""

    def of_models(models: tuple[AbstractPriorLikelihood, AbstractRecognitionModel]) -> Array:
        value: Array = divergence(*posterior_and_prior(*models, x))
        return value

    try:
        eqx.filter_eval_shape(of_models, (generative, recognition))
    except UnavailableError:
        return False
    return True


def _layers(
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, x: X
) -> list[tuple[str, int, int, bool, bool]]:
    """Name, place in z, whether the layer's part of the KL is a divergence, and whether p draws it given no other; by
    shapes."""
    found: list[tuple[str, int, int, bool, bool]] = []

    def look(models: tuple[AbstractPriorLikelihood, AbstractRecognitionModel]) -> None:
        q, p = posterior_and_prior(*models, x)
        if isinstance(q, Sequential) and isinstance(p, Sequential):
            divergent, start = divergent_layers(q, p), 0
            for name, size in q.sizes.items():
                found.append((name, start, start + size, name in divergent, not p.given[name]))
                start += size

    eqx.filter_eval_shape(look, (generative, recognition))
    return found


def _prior_scale(generative: AbstractPriorLikelihood, x: X) -> Float[np.ndarray, " J"]:
    """Standard deviation of p(z_j), the same for every row."""

    def scale(generative: AbstractPriorLikelihood) -> Array:
        return _flat_location_and_scale(prior_of(generative, x))[1]

    return np.asarray(eqx.filter_jit(scale)(generative), np.float64)


def _flat_location_and_scale(distribution: Any) -> tuple[Float[Array, " J"], Float[Array, " J"]]:
    loc, scale = location_and_scale(distribution)
    return loc.ravel(), scale.ravel()


def _correlation(locs: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "J J"]:
    """NaN in the rows and columns of dimensions that do not vary."""
    centred = locs - locs.mean(axis=0)
    vary = np.ptp(locs, axis=0) > 0  # a constant column has the rounding of its mean left
    sd = np.where(vary, np.sqrt(np.mean(centred**2, axis=0)), np.nan)
    return np.asarray(centred.T @ centred / len(locs) / np.outer(sd, sd))


def _mean(values: Float[np.ndarray, " N"]) -> Mean:
    """Where a row alone is at a z, its other rows have no density there at all: the mean is infinite, its error too."""
    if np.isfinite(values).all():
        return mean(values)
    return Mean(float(np.sum(values)), float("inf"), len(values))


def _plain(value: Any) -> Any:
    if isinstance(value, Mean | Bounds | LatentLayer):
        return {name: _plain(v) for name, v in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
