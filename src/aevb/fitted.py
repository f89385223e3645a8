"""The fitted object: the trained pair of models with what is needed to use it on data."""

import dataclasses
import enum
import operator
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from aevb import evaluate, modelfile
from aevb.config import Config
from aevb.data import DataInfo, Dataset, Preprocessing, check_compatible, fix
from aevb.data import load as load_data
from aevb.distributions import location_and_scale
from aevb.estimators import SgvbB
from aevb.models import (
    AbstractRecognitionModel,
    Architecture,
    BernoulliGenerative,
    GaussianGenerative,
    likelihood_of,
    posterior_of,
)

# Fixed, and not the run's seed: evaluation data that are binarised, are binarised alike for every model.
BINARIZATION_KEY = 784


class Key(enum.IntEnum):
    """What the noise of evaluation is for, and what its key is folded with."""

    ELBO, IMPORTANCE, GRADIENTS, CHOICE, CHAINS, SIMULATED, LATENT, GAPS, CALIBRATION, PREDICTIVE, GENERATION = range(
        11
    )


class Latents(NamedTuple):
    """Mean and standard deviation of q(z | x) for each row: two arrays of shape (N, J).

    Families whose moments have no closed form or need not exist (flows, Cauchy, Student's t, Pareto, F) give their
    median and half the distance between their 16 % and 84 % quantiles, from 1,000 draws with a fixed key; for a
    Gaussian the two are the same.
    """

    mean: Float[np.ndarray, "N J"]
    scale: Float[np.ndarray, "N J"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on some rows; all in nats per example, higher is better (but `kl`).

    `bound` is the ELBO, `reconstruction` its term E_q[log p(x | z)], `kl` its other term, D_KL(q(z | x) || p(z)): in
    closed form, or where there is none, from the same sample of z (`kl_is_exact` says which).
    `log_likelihood` estimates log p(x) by importance sampling; None where it was not asked for, or where the model
    has no likelihood (grey pixels under a Bernoulli decoder).
    """

    measures: tuple[str, str, str]
    bound: evaluate.Mean
    reconstruction: evaluate.Mean
    kl: evaluate.Mean
    kl_is_exact: bool
    log_likelihood: evaluate.Mean | None
    num_samples: int
    binarization: str
    scaling: str
    log_jacobian: float
    data: DataInfo

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""

        def plain(m: evaluate.Mean) -> dict[str, float | None]:
            error = None if np.isnan(m.standard_error) else m.standard_error
            return {"mean": m.value, "standard_error": error}

        bound, reconstruction, kl = self.measures
        return {
            bound: plain(self.bound),
            reconstruction: plain(self.reconstruction),
            kl: plain(self.kl),
            "kl_is_exact": self.kl_is_exact,
            "importance_sampled_log_likelihood": None if self.log_likelihood is None else plain(self.log_likelihood),
            "num_samples": self.num_samples,
            "num_rows": self.bound.num_rows,
            "unit": "nats per example",
            "binarization": self.binarization,
            "scaling": self.scaling,
            "log_jacobian": self.log_jacobian,
            "data": dataclasses.asdict(self.data),
        }


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """A fitted model and the verbs of the field.

    `rows` in the methods below are data of the same shape and units as those that the model was fitted to: an array
    (N, D) or (N, *event_shape), a `Dataset`, a data name or a path.

    Example:
        >>> import numpy as np
        >>> import aevb
        >>> rows = np.random.default_rng(0).integers(0, 2, (64, 9), dtype=np.uint8)
        >>> fitted = aevb.fit(rows, latent_dim=2, hidden=(8,), epochs=1, batch_size=16, evaluation_samples=0)
        >>> fitted.encode(rows).mean.shape
        (64, 2)
    """

    config: Config
    architecture: Architecture
    generative: BernoulliGenerative | GaussianGenerative
    recognition: AbstractRecognitionModel
    preprocessing: Preprocessing
    data: DataInfo
    history: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]
    aevb_version: str

    def __repr__(self) -> str:
        a = self.architecture
        sizes = "-".join(map(str, (a.data_dim, *a.hidden, a.latent_dim)))
        return f"FittedModel({self.data.name}, {sizes}, {a.likelihood}, {len(self.history)} epochs)"

    @property
    def latent_dim(self) -> int:
        """J."""
        return self.architecture.latent_dim

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example: (28, 28) for an image, (D,) for a table's row."""
        return self.data.event_shape

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of a table's columns, if it had any."""
        return self.data.columns

    @property
    def measures(self) -> tuple[str, str, str]:
        """Names of the bound and its two terms. Grey pixels have no likelihood, and the names say so."""
        return measures(self.preprocessing)

    @property
    def log_jacobian(self) -> float:
        """Nats to add to a log density to have it in the data's own units; 0 for probabilities, which have no unit."""
        if self.architecture.likelihood == "discretized-logistic":
            return 0.0
        return self.preprocessing.log_jacobian(self.architecture.data_dim)

    @property
    def has_standard_normal_prior(self) -> bool:
        """Whether p(z) = N(0, I)."""
        return self.architecture.prior == "normal"

    @property
    def has_simplex_latent(self) -> bool:
        """Whether the latent coordinates are positive and sum to 1."""
        return self.architecture.posterior == "dirichlet"

    def encode(self, rows: Any) -> Latents:
        """Mean and standard deviation of q(z | x), each (N, J).

        Deterministic: pixels that the model saw binarised at random enter as their expectation, the grey value.
        """
        x = self._expected(rows)
        return Latents(*_in_chunks(lambda chunk: _encode(self.recognition, chunk), x))

    def decode(self, z: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "N D"]:
        """E[x | z] for latent vectors z, (N, J) -> (N, D), in the units of the data.

        For a Bernoulli decoder these are probabilities in [0, 1].

        Raises:
            ValueError: z is not (N, J), or not finite.
        """
        z = np.asarray(z)
        if z.dtype.kind not in "fiub":
            raise ValueError(f"latent vectors must be real numbers, got dtype {z.dtype}")
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latent vectors must have shape (N, {self.latent_dim}), got {z.shape}")
        if not (np.abs(z) <= np.finfo(np.float32).max).all():
            raise ValueError("latent vectors must be finite numbers within float32's range")
        z = z.astype(np.float32)
        return self._to_data_units(_in_chunks(lambda chunk: _decode(self.generative, chunk), z))

    def reconstruct(self, rows: Any) -> Float[np.ndarray, "N D"]:
        """E[x | z] at the posterior mean of each row, (N, D), in the units of the data. Deterministic."""
        return self.decode(self.encode(rows).mean)

    def sample_prior(self, num: int, key: PRNGKeyArray) -> Float[np.ndarray, "num J"]:
        """Draws z ~ p(z), (num, J): those that `sample` with the same key decodes.

        Raises:
            ValueError: num < 1.
        """
        index = np.arange(_at_least_one(num), dtype=np.uint32)
        drawn: np.ndarray = _in_chunks(lambda chunk: _sample(self.generative, key, chunk)[1], index)
        return drawn

    def sample(self, num: int, key: PRNGKeyArray) -> Float[np.ndarray, "num D"]:
        """Ancestral samples x ~ p(x | z), z ~ p(z), (num, D), in the units of the data. Sample i uses fold_in(key, i).

        Raises:
            ValueError: num < 1.
        """
        index = np.arange(_at_least_one(num), dtype=np.uint32)
        return self._to_data_units(_in_chunks(lambda chunk: _sample(self.generative, key, chunk)[0], index))

    def log_likelihood(
        self, rows: Any, *, num_samples: int = 100, key: PRNGKeyArray | None = None
    ) -> Float[np.ndarray, " N"]:
        """log p(x) of each row by importance sampling, (N,), in nats; see `aevb.evaluate.log_likelihood`.

        Rows that the model saw binarised at random are binarised once, with a fixed key. Densities of scaled data
        are those of the scaled values; add `preprocessing.log_jacobian(D)` to have them in the data's own units.

        Args:
            rows: as everywhere.
            num_samples: K.
            key: of the samples; None: the evaluation's fixed key, so that two calls agree.

        Raises:
            ValueError: the model has no likelihood, because it was fitted to grey pixels with a Bernoulli decoder.
        """
        if self.preprocessing.grey:
            raise ValueError(
                "this model was fitted to grey pixels with a Bernoulli decoder: its objective is a cross-entropy and "
                "there is no log p(x); fit with binarization='dynamic' to have one"
            )
        key = self.evaluation_key(Key.IMPORTANCE) if key is None else key
        x = self.prepare(rows)[1]
        return evaluate.log_likelihood(self.generative, self.recognition, x, key, num_samples=num_samples)

    def compare_estimators(
        self, rows: Any, *, num_rows: int = 100, num_samples: tuple[int, ...] = (1, 2, 5, 10), num_draws: int = 100
    ) -> Iterator[evaluate.EstimatorNoise]:
        """Variance, signal-to-noise ratio and cost of each estimator's gradient at this model's parameters.

        Args:
            rows: data; the first `num_rows` of them are the minibatch.
            num_rows: M.
            num_samples: L or K, each in turn.
            num_draws: gradients for each; see `aevb.evaluate.compare_estimators`.
        """
        dataset = self._dataset(rows)
        x = self._fixed(dataset.take(np.arange(min(_at_least_one(num_rows), len(dataset)))))
        return evaluate.compare_estimators(
            self.generative,
            self.recognition,
            x.astype(np.float32),
            self.evaluation_key(Key.GRADIENTS),
            num_samples=num_samples,
            num_draws=num_draws,
        )

    def evaluate(self, rows: Any, *, num_samples: int = 100) -> Evaluation:
        """The ELBO with its two terms, and log p(x) by importance sampling, with standard errors.

        The ELBO is by estimator B where the KL has a closed form, else by estimator A.

        Args:
            rows: held-out data. Binarised once, with a fixed key, if the model saw its data binarised at random.
            num_samples: K importance samples per row; 0: no log p(x).
        """
        if operator.index(num_samples) < 0:
            raise ValueError(f"num_samples must be at least 0, got {num_samples}")
        dataset, x = self.prepare(rows)
        estimator = evaluate.elbo_estimator(self.generative, self.recognition)
        estimate = evaluate.elbo(
            self.generative, self.recognition, x, self.evaluation_key(Key.ELBO), estimator=estimator
        )
        assert estimate.log_likelihood is not None
        assert estimate.kl is not None
        log_likelihood = None
        if num_samples and not self.preprocessing.grey:
            per_row = evaluate.log_likelihood(
                self.generative, self.recognition, x, self.evaluation_key(Key.IMPORTANCE), num_samples=num_samples
            )
            log_likelihood = evaluate.mean(per_row)
        return Evaluation(
            measures=self.measures,
            bound=evaluate.mean(estimate.bound),
            reconstruction=evaluate.mean(estimate.log_likelihood),
            kl=evaluate.mean(estimate.kl),
            kl_is_exact=isinstance(estimator, SgvbB),
            log_likelihood=log_likelihood,
            num_samples=num_samples if log_likelihood else 0,
            binarization=self.preprocessing.binarization,
            scaling=self.preprocessing.scaling,
            log_jacobian=self.log_jacobian,
            data=DataInfo.of(dataset),
        )

    def save(self, path: str | Path) -> None:
        """Write the model to one file; `aevb.load(path)` gives it back.

        Raises:
            OutputError: the file cannot be written; what was at `path` before is untouched.
        """
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        modelfile.write(path, **parts)

    def prepare(self, rows: Any) -> tuple[Dataset, np.ndarray]:
        """The rows as they are stored and as the models see them, (N, D); binarised once, with a fixed key, if the
        model saw its data binarised at random.
        """
        dataset = self._dataset(rows)
        return dataset, self._fixed(dataset)

    def evaluation_key(self, purpose: Key) -> PRNGKeyArray:
        """The fixed key of one of evaluation's uses of noise, so that two evaluations agree."""
        return jax.random.fold_in(jax.random.key(BINARIZATION_KEY + 1), purpose)

    def _dataset(self, rows: Any) -> Dataset:
        dataset = load_data(rows)
        check_compatible(self.preprocessing, self.data.columns, self.data.event_shape, dataset)
        return dataset

    def _expected(self, rows: Any) -> Float[np.ndarray, "N D"]:
        return self.preprocessing.expected(self._dataset(rows).rows)

    def _fixed(self, dataset: Dataset) -> np.ndarray:
        return fix(self.preprocessing, dataset.rows, jax.random.key(BINARIZATION_KEY))

    def _to_data_units(self, x: np.ndarray) -> np.ndarray:
        return x if self.architecture.likelihood == "bernoulli" else self.preprocessing.inverse(x)


def load(path: str | Path) -> FittedModel:
    """Read a fitted model from its file, or from the run directory that holds it.

    Every array is checked against its SHA-256. That detects damage, not malice; opening a file cannot run code.

    Raises:
        ModelFileError: the file is missing, cut, altered, or of a newer format. Says which and what to do.

    Example:
        >>> load("no/such/run")
        Traceback (most recent call last):
        ...
        aevb.errors.ModelFileError: no/such/run: there is no such file or run directory; give one that `aevb fit` made
    """
    return FittedModel(**modelfile.read(path))


def measures(preprocessing: Preprocessing) -> tuple[str, str, str]:
    """Names of the bound, its reconstruction term and its KL, for data that are prepared in this way."""
    if preprocessing.grey:
        return ("grey_objective", "negative_cross_entropy", "kl")
    return ("elbo", "log_likelihood", "kl")


CHUNK = 10_000


def _in_chunks(fn: Any, rows: np.ndarray) -> Any:
    """Apply a compiled function of many rows piece by piece, so that the device holds one piece at a time."""
    parts = [jax.device_get(fn(jnp.asarray(rows[i : i + CHUNK]))) for i in range(0, max(len(rows), 1), CHUNK)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@eqx.filter_jit
def _encode(recognition: AbstractRecognitionModel, x: Array) -> tuple[Array, Array]:
    def moments(x: Array) -> tuple[Array, Array]:
        return location_and_scale(posterior_of(recognition, x))

    return jax.vmap(moments)(x)


@eqx.filter_jit
def _decode(generative: BernoulliGenerative | GaussianGenerative, z: Array) -> Array:
    return jax.vmap(lambda z: likelihood_of(generative, z).mean)(z)


@eqx.filter_jit
def _sample(
    generative: BernoulliGenerative | GaussianGenerative, key: PRNGKeyArray, index: Array
) -> tuple[Array, Array]:
    x, z = jax.vmap(lambda i: generative.sample(jax.random.fold_in(key, i)))(index)
    return x.astype(jnp.result_type(float)), z.astype(jnp.result_type(float))


def _at_least_one(num: int) -> int:
    num = operator.index(num)
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    return num
