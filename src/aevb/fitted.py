"""The fitted object: the trained pair of models with what is needed to use it on data."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Real

from aevb import evaluate, modelfile
from aevb.config import Config
from aevb.data import DataInfo, Dataset, Preprocessing, check_compatible, fix
from aevb.data import load as load_data
from aevb.distributions import location_and_scale
from aevb.errors import ConfigError
from aevb.estimators import Estimate, SgvbB
from aevb.models import (
    AbstractRecognitionModel,
    Architecture,
    BernoulliGenerative,
    GaussianGenerative,
    as_floats,
    likelihood_given,
    posterior_of,
)

from ._arguments import MOST, one_key, whole
from ._html import summary_html
from ._measures import log_jacobian, measures

# Fixed, and not the run's seed: evaluation data that are binarised, are binarised alike for every model.
BINARIZATION_KEY = 784
# Training rows that are held against them have noise of their own: with one noise, row i of each part would be alike.
_TRAINING_KEY = 786


# How log p(x) is computed; "auto" is "quadrature" for one or two latent dimensions, and "is", importance sampling, for
# more or where a number of samples is given.
Method = Literal["auto", "quadrature", "is"]
_NUM_SAMPLES = 100  # of importance sampling, where none are named
_KEYS = {"quadrature": "quadrature_log_likelihood", "is": "importance_sampled_log_likelihood"}


class Purpose(enum.IntEnum):
    """What the noise of evaluation is for, and what its key is folded with."""

    ELBO, IMPORTANCE, GRADIENTS, CHOICE, CHAINS, SIMULATED, LATENT, GAPS, CALIBRATION, PREDICTIVE, GENERATION = range(
        11
    )


class Latents(NamedTuple):
    """Mean and standard deviation of q(z | x) for each row: two arrays of shape (N, J).

    Families whose moments need not exist or overflow (Cauchy, Student's t, Pareto, log-normal, Weibull), or that have
    none in closed form (F, Gompertz, flows), give their median and half the distance between their 16 % and 84 %
    quantiles; for a Gaussian the two are the same. A flow's quantiles are those of 1,000 draws with a fixed key.
    """

    mean: Float[np.ndarray, "N J"]
    scale: Float[np.ndarray, "N J"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good a model is on some rows; all in nats per example, higher is better (but `kl`).

    Log densities are in the data's own units; less `log_jacobian` they are those of the scaled data.

    `bound` is the ELBO, `reconstruction` its term E_q[log p(x | z)], `kl` its other term, D_KL(q(z | x) || p(z)): in
    closed form, or where there is none, from the same sample of z (`kl_is_exact` says which).
    `log_likelihood` is log p(x) by `method`, "quadrature" or "is" (importance sampling, with `num_samples` a row); None
    where it was not asked for, or where the model has no likelihood (grey pixels under a Bernoulli decoder).
    """

    measures: tuple[str, str, str]
    bound: evaluate.Mean
    reconstruction: evaluate.Mean
    kl: evaluate.Mean
    kl_is_exact: bool
    log_likelihood: evaluate.Mean | None
    method: Method
    num_samples: int
    binarization: str
    scaling: str
    log_jacobian: float
    data: DataInfo

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        bound, reconstruction, kl = self.measures
        return {
            bound: self.bound.to_dict(),
            reconstruction: self.reconstruction.to_dict(),
            kl: self.kl.to_dict(),
            "kl_is_exact": self.kl_is_exact,
            _KEYS[self.method]: None if self.log_likelihood is None else self.log_likelihood.to_dict(),
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
    (N, D) or (N, *event_shape), a `Dataset`, a data name or a path. What comes back as data has the shape
    (N, *event_shape) and these units, too: for images of 0 to 255 the values are 0 to 255.

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

    def _repr_html_(self) -> str:
        return summary_html(self)

    @property
    def latent_dim(self) -> int:
        """J."""
        return self.architecture.latent_dim

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example: (28, 28) for an image, (D,) for a table's row."""
        return self.data.event_shape

    @property
    def makes_levels(self) -> bool:
        """Whether x ~ p(x | z) is a whole number in the data's units: a level of 0 to 255, or 0 or 1."""
        of_levels = self.architecture.likelihood in ("bernoulli", "discretized-logistic")
        return of_levels and (self.preprocessing.maximum == 255 or self.preprocessing.binary)

    @property
    def white(self) -> float | None:
        """The value of white, 0 being black: 255 for images of 0 to 255, 1 for those in [0, 1] and for 0s and 1s; None
        where the data are taken for measurements, which have no such value.
        """
        return self.preprocessing.white

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
        """Nats by which a log density in the data's own units, as it is told everywhere, is above that of the scaled
        data, as the models have it; 0 for probabilities, which have no unit.
        """
        return log_jacobian(self.architecture, self.preprocessing)

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

    def decode(self, z: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "N *event_shape"]:
        """E[x | z] for latent vectors z, (N, J) -> (N, *event_shape), in the units of the data.

        Floats: for a Bernoulli decoder the probability that a pixel is white, times what is white in the data: 255 for
        images of 0 to 255, else 1.

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

    def reconstruct(self, rows: Any) -> Float[np.ndarray, "N *event_shape"]:
        """E[x | z] at the posterior mean of each row, as `decode` gives it. Deterministic."""
        return self.decode(self.encode(rows).mean)

    def sample_prior(
        self, num: int, key: PRNGKeyArray | None = None, *, seed: int | None = None
    ) -> Float[np.ndarray, "num J"]:
        """Draws z ~ p(z), (num, J): those that `sample` with the same key or seed decodes.

        Raises:
            ConfigError: num < 1 or too large for the memory, or not one of key and seed was given, or it is none.
        """
        key = one_key(key, seed)
        index = _numbered(num, self.latent_dim)
        drawn: np.ndarray = _in_chunks(lambda chunk: _sample(self.generative, key, chunk)[1], index)
        return drawn

    def sample(
        self, num: int, key: PRNGKeyArray | None = None, *, seed: int | None = None
    ) -> Real[np.ndarray, "num *event_shape"]:
        """Ancestral samples x ~ p(x | z), z ~ p(z), (num, *event_shape), in the units of the data.

        Sample i uses fold_in(key, i). A Bernoulli decoder draws black or white, as the model saw its pixels in
        training: 0 or 255 for images of 0 to 255, uint8; 0 or 1 otherwise. `decode(sample_prior(...))` has grey means.

        Args:
            num: how many.
            key: `jax.random.key(seed)`; or else
            seed: a whole number, from which that key is made.

        Raises:
            ConfigError: num < 1 or too large for the memory, or not one of key and seed was given, or it is none.
        """
        key = one_key(key, seed)
        index = _numbered(num, self.architecture.data_dim)
        x = self._to_data_units(_in_chunks(lambda chunk: _sample(self.generative, key, chunk)[0], index))
        return np.rint(x).astype(np.uint8) if self.makes_levels else x

    def log_likelihood(
        self,
        rows: Any,
        *,
        method: Method = "auto",
        num_samples: int | None = None,
        key: PRNGKeyArray | None = None,
        seed: int | None = None,
    ) -> Float[np.ndarray, " N"]:
        """log p(x) of each row, (N,), in nats: by quadrature or by importance sampling.

        See `aevb.evaluate.quadrature_log_likelihood` and `aevb.evaluate.log_likelihood`.

        Rows that the model saw binarised at random are binarised once, with a fixed key. Densities are in the data's
        own units, whatever the scaling.

        Args:
            rows: as everywhere.
            method: "quadrature", for one or two latent dimensions, refined to 0.001 nats; "is": importance sampling;
                "auto": the first where it can be and no `num_samples` are given, else the second.
            num_samples: K, of importance sampling; None: 100.
            key, seed: of the samples, one of them, as for `sample`; None: the evaluation's fixed key, so that two calls
                agree.

        Raises:
            ConfigError: num_samples < 1, or both key and seed were given, or what was given is none.
            ValueError: the model has no likelihood, because it was fitted to grey pixels with a Bernoulli decoder.
        """
        if self.preprocessing.grey:
            raise ValueError(
                "this model was fitted to grey pixels with a Bernoulli decoder: its objective is a cross-entropy and "
                "there is no log p(x); fit with binarization='dynamic' to have one"
            )
        method, num_samples = self._resolved(method, num_samples, 1)
        fixed = key is None and seed is None
        key = self.evaluation_key(Purpose.IMPORTANCE) if fixed else one_key(key, seed)
        return self._log_p(self.prepare(rows)[1], method, num_samples, key)

    def compare_estimators(
        self,
        rows: Any,
        *,
        num_rows: int = 100,
        num_samples: int | tuple[int, ...] = (1, 2, 5, 10),
        num_draws: int = 100,
    ) -> Iterator[evaluate.EstimatorNoise]:
        """Variance, signal-to-noise ratio and cost of each estimator's gradient at this model's parameters.

        Args:
            rows: data; the first `num_rows` of them are the minibatch.
            num_rows: M.
            num_samples: L or K, each in turn, or one.
            num_draws: gradients for each; see `aevb.evaluate.compare_estimators`.
        """
        dataset = self._dataset(rows)
        x = self._fixed(dataset.take(np.arange(min(whole("num_rows", num_rows, 1), len(dataset)))))
        return evaluate.compare_estimators(
            self.generative,
            self.recognition,
            x.astype(np.float32),
            self.evaluation_key(Purpose.GRADIENTS),
            num_samples=tuple(whole("num_samples", n, 1, MOST) for n in np.atleast_1d(np.asarray(num_samples, object))),
            num_draws=num_draws,
        )

    def evaluate(self, rows: Any, *, method: Method = "auto", num_samples: int | None = None) -> Evaluation:
        """The ELBO with its two terms, and log p(x), with standard errors.

        The ELBO is by estimator B where the KL has a closed form, else by estimator A.

        Args:
            rows: held-out data. Binarised once, with a fixed key, if the model saw its data binarised at random.
            method: of log p(x), as in `log_likelihood`.
            num_samples: K importance samples per row, None: 100; 0: no log p(x).
        """
        method, num_samples = self._resolved(method, num_samples, 0)
        dataset, x = self.prepare(rows)
        estimate, kl_is_exact = self.elbo_of(x)
        assert estimate.log_likelihood is not None
        assert estimate.kl is not None
        log_likelihood = None
        if num_samples and not self.preprocessing.grey:
            log_likelihood = evaluate.mean(self._log_p(x, method, num_samples, self.evaluation_key(Purpose.IMPORTANCE)))
        return Evaluation(
            measures=self.measures,
            bound=evaluate.mean(np.asarray(estimate.bound, np.float64) + self.log_jacobian),
            reconstruction=evaluate.mean(np.asarray(estimate.log_likelihood, np.float64) + self.log_jacobian),
            kl=evaluate.mean(estimate.kl),
            kl_is_exact=kl_is_exact,
            log_likelihood=log_likelihood,
            method=method,
            num_samples=num_samples if log_likelihood and method == "is" else 0,
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

    def prepare(self, rows: Any, *, part: Literal["held-out", "training"] = "held-out") -> tuple[Dataset, np.ndarray]:
        """The rows as they are stored and as the models see them, (N, D); binarised once, with a fixed key, if the
        model saw its data binarised at random.

        Args:
            rows: as everywhere.
            part: of the data: row i of the training part is not binarised with the noise of held-out row i.
        """
        dataset = self._dataset(rows)
        return dataset, self._fixed(dataset, BINARIZATION_KEY if part == "held-out" else _TRAINING_KEY)

    def elbo_of(self, x: np.ndarray) -> tuple[Estimate, bool]:
        """The ELBO and its terms for rows as the models see them, with the evaluation's fixed noise, and whether the KL
        is in closed form. Log densities are of the data as the models see them.

        One draw of z for each of many rows; more for few rows, whose mean would be noisy else.
        """
        draws = int(np.clip(ELBO_DRAWS // max(len(x), 1), 1, 100))
        estimator = evaluate.elbo_estimator(self.generative, self.recognition, draws)
        key = self.evaluation_key(Purpose.ELBO)
        estimate = evaluate.elbo(self.generative, self.recognition, x, key, estimator=estimator)
        return estimate, isinstance(estimator, SgvbB)

    def evaluation_key(self, purpose: Purpose) -> PRNGKeyArray:
        """The fixed key of one of evaluation's uses of noise, so that two evaluations agree."""
        return jax.random.fold_in(jax.random.key(BINARIZATION_KEY + 1), purpose)

    def _resolved(self, method: Method, num_samples: int | None, least: int) -> tuple[Method, int]:
        """The method and the number of samples, which asks for importance sampling where it is given."""
        samples = _NUM_SAMPLES if num_samples is None else whole("num_samples", num_samples, least, MOST)
        if method not in get_args(Method):
            raise ConfigError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
        if method == "auto":
            asked = num_samples is not None and samples > 0
            method = "quadrature" if evaluate.has_quadrature(self.generative) and not asked else "is"
        return method, samples

    def _log_p(self, x: np.ndarray, method: Method, num_samples: int, key: PRNGKeyArray) -> Float[np.ndarray, " N"]:
        if method == "quadrature":
            log_p = evaluate.quadrature_log_likelihood(self.generative, x, self.recognition).log_likelihood
        else:
            log_p = evaluate.log_likelihood(self.generative, self.recognition, x, key, num_samples=num_samples)
        return np.asarray(log_p, np.float64) + self.log_jacobian

    def _dataset(self, rows: Any) -> Dataset:
        dataset = load_data(rows)
        likelihood = self.architecture.likelihood
        check_compatible(self.preprocessing, self.data.columns, self.data.event_shape, dataset, likelihood=likelihood)
        return dataset

    def _expected(self, rows: Any) -> Float[np.ndarray, "N D"]:
        return self.preprocessing.expected(self._dataset(rows).rows)

    def _fixed(self, dataset: Dataset, seed: int = BINARIZATION_KEY) -> np.ndarray:
        return fix(self.preprocessing, dataset.rows, jax.random.key(seed))

    def _to_data_units(self, x: np.ndarray) -> np.ndarray:
        return self.preprocessing.inverse(x).reshape(len(x), *self.event_shape)


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


CHUNK = 10_000
ELBO_DRAWS = 20_000  # of z for the ELBO of all rows together, if there are fewer rows


def _in_chunks(fn: Any, rows: np.ndarray) -> Any:
    """Apply a compiled function of many rows piece by piece, so that the device holds one piece at a time."""
    parts = [jax.device_get(fn(jnp.asarray(rows[i : i + CHUNK]))) for i in range(0, max(len(rows), 1), CHUNK)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _numbered(num: int, width: int) -> np.ndarray:
    """The numbers of the samples, if so many of `width` numbers each can be held: asked before any is drawn.

    Raises:
        ConfigError: num < 1, or they cannot be held, or not be numbered in 32 bits, as their keys are.
    """
    num = whole("num", num, 1)
    try:
        np.empty((num, width), np.float32)  # takes no memory yet, but is refused where there is not enough
        if num <= 2**32:
            return np.arange(num, dtype=np.uint32)
    except (MemoryError, ValueError):  # the latter for what no machine could address
        pass
    raise ConfigError(
        f"num is too large: {num:,} samples are {num * width:,} numbers, more than can be held in memory; draw fewer "
        "at a time, each time with another seed"
    )


@eqx.filter_jit
def _encode(recognition: AbstractRecognitionModel, x: Array) -> tuple[Array, Array]:
    def moments(x: Array) -> tuple[Array, Array]:
        return location_and_scale(posterior_of(recognition, x))

    return jax.vmap(moments)(x)


@eqx.filter_jit
def _decode(generative: BernoulliGenerative | GaussianGenerative, z: Array) -> Array:
    return jax.vmap(lambda z: likelihood_given(generative, z).mean)(z)


@eqx.filter_jit
def _sample(
    generative: BernoulliGenerative | GaussianGenerative, key: PRNGKeyArray, index: Array
) -> tuple[Array, Array]:
    x, z = jax.vmap(lambda i: generative.sample(jax.random.fold_in(key, i)))(index)
    return as_floats(x), as_floats(z)
