"""Predictive checks: data sets that the model makes, held against the one that it was given."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Real

from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    X,
    as_floats,
    check_join,
    given_of,
    likelihood_given,
    num_rows_of,
    posterior_of,
    take,
)

from ._rows import map_rows

Kind = Literal["posterior", "prior"]
Statistic = Callable[[np.ndarray], float]

QUANTILES = (0.025, 0.5, 0.975)


def adjacent_correlation(matrix: Real[np.ndarray, "N D"]) -> float:
    """Mean absolute correlation of columns j and j + 1, over the pairs in which both columns vary; 0 if there is none.

    In float64, in blocks of columns; for images it says how smooth they are.
    """
    d = matrix.shape[1]
    found = []
    for start in range(0, d - 1, 64):
        block = matrix[:, start : min(start + 65, d)].astype(np.float64)
        block -= block.mean(axis=0)
        sd = np.sqrt(np.mean(block**2, axis=0))
        products = np.mean(block[:, :-1] * block[:, 1:], axis=0)
        # A constant column has the rounding of its mean left.
        vary = (np.ptp(matrix[:, start : start + block.shape[1]], axis=0) > 0) & (sd > 0)
        both = vary[:-1] & vary[1:]
        found.append(np.abs(products[both] / (sd[:-1] * sd[1:])[both]))
    pairs = np.concatenate(found) if found else np.zeros(0)
    return float(pairs.mean()) if len(pairs) else 0.0


def _sd(matrix: Real[np.ndarray, "N D"]) -> float:
    """Over all entries; in float64, in blocks of rows, so that no copy of the matrix is made."""
    mean = np.mean(matrix, dtype=np.float64)
    blocks = (matrix[i : i + 1000] for i in range(0, len(matrix), 1000))
    return float(np.sqrt(sum(float(np.sum((block - mean) ** 2)) for block in blocks) / matrix.size))


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "mean": lambda m: float(np.mean(m, dtype=np.float64)),
        "sd": _sd,
        "sd of row sums": lambda m: float(np.std(np.sum(m, axis=1, dtype=np.float64))),
        "share of zeros": lambda m: 1.0 - np.count_nonzero(m) / m.size,
        "min": lambda m: float(np.min(m)),
        "max": lambda m: float(np.max(m)),
        "correlation of adjacent columns": adjacent_correlation,
    }
)


class PredictiveCheck(NamedTuple):
    """S statistics of the data, and of R data sets of the same size that the model made."""

    kind: Kind
    names: tuple[str, ...]
    observed: Float[np.ndarray, " S"]
    replicated: Float[np.ndarray, "R S"]
    mean: Float[np.ndarray, " S"]  # of the replicated ones, as the two below
    sd: Float[np.ndarray, " S"]
    quantiles: Float[np.ndarray, "S 3"]  # at `QUANTILES`: 2.5 %, 50 %, 97.5 %
    p_values: Float[np.ndarray, " S"]  # two-sided; never below 2 / (R + 1)

    @property
    def tested(self) -> Bool[np.ndarray, " S"]:
        """Whether a statistic tells anything: not where it is the same number in the data and in all replicates."""
        return np.any(self.replicated != self.observed, axis=0)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, one entry per statistic."""
        return {
            "kind": self.kind,
            "num_replicates": len(self.replicated),
            "statistics": {
                name: {
                    "observed": float(self.observed[s]),
                    "mean": float(self.mean[s]),
                    "sd": float(self.sd[s]),
                    "quantiles": {str(q): float(v) for q, v in zip(QUANTILES, self.quantiles[s], strict=True)},
                    "p_value": float(self.p_values[s]),
                    "tested": bool(self.tested[s]),
                }
                for s, name in enumerate(self.names)
            },
        }


def posterior_predictive_check(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    statistics: Mapping[str, Statistic] | None = None,
    num_replicates: int = 299,
    kind: Kind = "posterior",
    batch_size: int = 500,
    stored: Real[np.ndarray, "M *y"] | None = None,
    inverse: Callable[[np.ndarray], np.ndarray] | None = None,
) -> PredictiveCheck:
    r"""Whether data that the model makes look like the data (Gelman, Meng & Stern 1996; Rubin 1984).

    A replicate has a row for each row of the data: x_rep,i ~ p(x | z_i), with z_i ~ q(z | x_i) ("posterior") or
    z_i ~ p(z) ("prior"). With T the statistic of a data set and R replicates,

        p = 2 min{1 + #(T_rep >= T), 1 + #(T_rep <= T)} / (R + 1), at most 1.

    A small p-value says that the model does not make data with this T. With kind "prior" the p-value of data that came
    from the model is uniform, or larger where values of T tie. With kind "posterior" each row's latent was fitted to
    the row itself, so that the p-values keep nearer to 1 and a small one says the more; it also depends on q(z | x),
    for which p(z | x) stands there in theory. Both take the parameters as given: fitted to the same rows, they draw the
    p-values towards 1 again.

    Args:
        generative: p(x, z); for the kind "posterior" with a `likelihood`. With a VampPrior, tied.
        recognition: q(z | x); not used by the kind "prior".
        rows: x as the models see it, N of them. Of a conditional model the statistics are those of what is observed.
        key: replicate r uses fold_in(key, r), and its row i fold_in of that and i.
        statistics: by name: functions of an (N, D) NumPy matrix (of all of x's axes made one) that return a number.
            None: `STATISTICS`: mean, sd, sd of the rows' sums, share of zeros, min, max, mean absolute correlation of
            adjacent columns.
        num_replicates: R; one of them is in memory at a time. To test S statistics at once at 5 % together, each
            p-value must be able to fall to 0.05 / S: R >= 40 S - 1. The default is enough for seven.
        kind: where z comes from.
        batch_size: rows at once; does not change the result beyond rounding.
        stored: the same rows in the data's own units, for the statistics; None: `rows`.
        inverse: from x to these units, for the replicates' rows; goes with `stored`.

    Raises:
        UnavailableError: the model has no `likelihood` to draw x from given z (use the kind "prior"), or a statistic of
            the data or of a replicate is no finite number.
        ValueError: no rows, no replicates, no statistics, rows of another shape than the model's x, other units of the
            rows than of the replicates.

    Example:
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> rows = np.ones((50, 4), np.uint8)  # as no model with fair pixels would make them
        >>> check = posterior_predictive_check(g, q, rows, jax.random.key(2), num_replicates=19)
        >>> print(check.observed[0], check.p_values[0])
        1.0 0.1
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if num_replicates < 1:
        raise ValueError(f"num_replicates must be at least 1, got {num_replicates}")
    if num_rows_of(rows) == 0:
        raise ValueError("there are 0 rows to check")
    if (stored is None) != (inverse is None):
        raise ValueError("stored rows and the inverse that gives replicates their units go together; give both")
    if stored is not None and len(stored) != num_rows_of(rows):
        raise ValueError(f"{len(stored)} stored rows for {num_rows_of(rows)} rows")
    if kind == "posterior" and not isinstance(generative, AbstractPriorLikelihood):
        raise UnavailableError(
            f"a posterior predictive check draws x given z, and {type(generative).__name__} has no likelihood(z) to "
            "draw it from; derive it from AbstractPriorLikelihood, or use kind='prior'"
        )
    check_join(generative, as_floats(take(rows, 0)))
    of_data = _observed_rows(generative, rows)
    made = eqx.filter_eval_shape(_ancestral_row, generative, recognition, jax.random.key(0), take(rows, 0))
    if not (isinstance(of_data, np.ndarray | Array) and isinstance(made, jax.ShapeDtypeStruct)):
        raise UnavailableError("statistics are those of one array of what is observed, and here it is a structure")
    if made.shape != np.shape(of_data)[1:]:
        raise ValueError(f"the model makes x of shape {made.shape}, and the rows have shape {np.shape(of_data)[1:]}")
    chosen = STATISTICS if statistics is None else statistics
    if not chosen:
        raise ValueError("there are 0 statistics to compute; give one or more by name, or None for the usual ones")
    fn = _replicate_row if kind == "posterior" else _ancestral_row

    data = np.asarray(of_data, jnp.result_type(float)) if stored is None else stored
    observed = _compute(chosen, data, "the data")
    replicated = np.empty((num_replicates, len(chosen)))
    for r in range(num_replicates):
        x_rep = map_rows(fn, (generative, recognition), rows, jax.random.fold_in(key, r), batch_size=batch_size)
        replicated[r] = _compute(chosen, inverse(x_rep) if inverse else x_rep, f"replicate {r + 1}")

    above, below = np.sum(replicated >= observed, axis=0), np.sum(replicated <= observed, axis=0)
    p_values = np.minimum(2 * (1 + np.minimum(above, below)) / (num_replicates + 1), 1.0)
    sd = replicated.std(axis=0, ddof=1) if num_replicates > 1 else np.full(len(chosen), np.nan)
    quantiles = np.quantile(replicated, QUANTILES, axis=0).T
    return PredictiveCheck(kind, tuple(chosen), observed, replicated, replicated.mean(axis=0), sd, quantiles, p_values)


def _replicate_row(
    generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
) -> Float[Array, "*x"]:
    z_key, x_key = jax.random.split(key)
    x = as_floats(row)
    z = posterior_of(recognition, x).sample(z_key)
    return as_floats(likelihood_given(generative, z, *given_of(generative, x)).sample(x_key))


def _ancestral_row(
    generative: AbstractGenerativeModel, recognition: AbstractRecognitionModel, key: PRNGKeyArray, row: X
) -> Float[Array, "*x"]:
    return _observed(generative, as_floats(generative.sample(key, *given_of(generative, as_floats(row)))[0]))


def _observed(generative: AbstractGenerativeModel, x: X) -> Any:
    return generative.split(x)[0] if isinstance(generative, AbstractPriorLikelihood) else x


def _observed_rows(generative: AbstractGenerativeModel, rows: Rows) -> Any:
    """What of each row the model is a distribution over: the rows themselves, if nothing is given."""
    if isinstance(generative, AbstractPriorLikelihood) and generative.is_conditional:
        return jax.device_get(jax.vmap(lambda row: _observed(generative, as_floats(row)))(rows))
    return rows


def _compute(statistics: Mapping[str, Statistic], rows: np.ndarray, whose: str) -> Float[np.ndarray, " S"]:
    matrix = rows.reshape(num_rows_of(rows), -1)
    values = np.array([float(statistic(matrix)) for statistic in statistics.values()])
    if not np.all(np.isfinite(values)):
        name = list(statistics)[int(np.argmin(np.isfinite(values)))]
        raise UnavailableError(
            f"the statistic {name!r} of {whose} is not a finite number, so that it cannot be compared"
        )
    return values
