"""The fitted object: the trained pair of models with what is needed to use it on data."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray, Real

from aevb import evaluate, modelfile
from aevb._evaluation import NUM_SAMPLES, Evaluation, Latents, Method
from aevb._evaluation import Purpose as Purpose
from aevb._feed import AbstractTransform, DatasetFeed, Feed, in_chunks
from aevb.config import Config
from aevb.data import DataInfo, Dataset, Preprocessing, Values
from aevb.data import load as load_data
from aevb.errors import ConfigError, UnavailableError
from aevb.estimators import Estimate, SgvbB
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    Vae,
    as_floats,
    num_rows_of,
    standard,
)

from ._arguments import MOST, one_key, whole
from ._html import summary_html
from ._measures import measures
from ._verbs import decode_rows, encode_rows, given_rows, numbered_samples, reconstruct_rows, sample_rows

ELBO_DRAWS = 20_000  # of z for the ELBO of all rows together, if there are fewer rows
# Fixed, and not the run's seed: evaluation data that are binarised, are binarised alike for every model.
BINARIZATION_KEY = 784
# Training rows that are held against them have noise of their own: with one noise, row i of each part would be alike.
_TRAINING_KEY = 786


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedModel:
    """A fitted model and the verbs of the field: what `fit` and `fit_model` return.

    `rows` in the methods below are data of the same shape and units as those that the model was fitted to: an array
    (N, D) or (N, *event_shape), a `Dataset`, a data name or a path. What comes back as data has the shape
    (N, *event_shape) and these units, too: for images of 0 to 255 the values are 0 to 255. Of a model of one's own,
    rows are arrays of the structure and shapes that it was fitted to, and what comes back has been through the inverse
    of its transform. What a model has not got, a verb says (`UnavailableError`).

    Example:
        >>> import numpy as np
        >>> import aevb
        >>> rows = np.random.default_rng(0).integers(0, 2, (64, 9), dtype=np.uint8)
        >>> fitted = aevb.fit(rows, latent_dim=2, hidden=(8,), epochs=1, batch_size=16, evaluation_samples=0)
        >>> fitted.encode(rows).mean.shape
        (64, 2)
    """

    config: Config
    spec: Vae | None  # what a preset was built from; None for a model of one's own
    generative: AbstractGenerativeModel
    recognition: AbstractRecognitionModel | None
    feed: Feed
    latent_shape: tuple[int, ...]  # of z; (J,) in a preset
    history: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]
    aevb_version: str

    def __repr__(self) -> str:
        if self.spec is None:
            return f"FittedModel({self.data.name}, {type(self.generative).__name__}, {len(self.history)} epochs)"
        kind = self.spec.likelihood.kind
        return f"FittedModel({self.data.name}, {self.spec.sizes}, {kind}, {len(self.history)} epochs)"

    def _repr_html_(self) -> str:
        return summary_html(self)

    @property
    def preset(self) -> Vae:
        """What the model was built from.

        Raises:
            UnavailableError: it is one of the user's own.
        """
        if self.spec is None:
            raise UnavailableError(
                f"{type(self.generative).__name__} is a model of one's own, and only a preset has a spec, a likelihood "
                "and a preprocessing by name"
            )
        return self.spec

    @property
    def preprocessing(self) -> Preprocessing:
        """Of a preset: how its data were prepared.

        Raises:
            UnavailableError: the model is one of the user's own.
        """
        if not isinstance(self.feed, DatasetFeed):
            _ = self.preset
        assert isinstance(self.feed, DatasetFeed)
        return self.feed.preprocessing

    @property
    def data(self) -> DataInfo:
        """Of the data that it was fitted to."""
        return self.feed.data

    @property
    def encoder(self) -> AbstractRecognitionModel:
        """q(z | x).

        Raises:
            UnavailableError: the algorithm that trained the model has none.
        """
        if self.recognition is None:
            raise UnavailableError("this model was trained without a recognition model q(z | x), which this asks for")
        return self.recognition

    @property
    def latent_dim(self) -> int:
        """J, of all axes together."""
        return int(np.prod(self.latent_shape))

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example: (28, 28) for an image, (D,) for a table's row."""
        return self.data.event_shape

    @property
    def makes_levels(self) -> bool:
        """Whether x ~ p(x | z) is a whole number in the data's units: a level of 0 to 255, or 0 or 1."""
        if self.spec is None or self.spec.likelihood.has_density:
            return False
        return self.preprocessing.maximum == 255 or self.preprocessing.binary

    @property
    def white(self) -> float | None:
        """The value of white, 0 being black: 255 for images of 0 to 255, 1 for those in [0, 1] and for 0s and 1s; None
        where the data are taken for measurements, which have no such value.
        """
        return None if self.spec is None else self.preprocessing.white

    @property
    def values(self) -> Values | None:
        """Which values the likelihood of a preset is for; None for a model of one's own."""
        return None if self.spec is None else self.spec.likelihood.values

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of a table's columns, if it had any."""
        return self.data.columns

    @property
    def measures(self) -> tuple[str, str, str]:
        """Names of the bound and its two terms. Grey pixels have no likelihood, and the names say so."""
        return measures(None if self.spec is None else self.preprocessing)

    @property
    def log_jacobian(self) -> float:
        """Nats by which a log density in the data's own units, as it is told everywhere, is above that of the scaled
        data, as the models have it; 0 for probabilities, which have no unit.
        """
        return self.feed.log_jacobian

    @property
    def has_standard_normal_prior(self) -> bool:
        """Whether p(z) = N(0, I)."""
        return self.spec is not None and isinstance(self.spec.prior, standard("normal"))

    @property
    def has_simplex_latent(self) -> bool:
        """Whether the latent coordinates are positive and sum to 1."""
        return self.spec is not None and self.spec.posterior.is_simplex

    def encode(self, rows: Any) -> Latents:
        """Mean and standard deviation of q(z | x), each (N, J).

        Deterministic: pixels that the model saw binarised at random enter as their expectation, the grey value.
        """
        x = self.feed.expected(self.feed.stored(rows))
        return Latents(*in_chunks(lambda chunk: encode_rows(self.encoder, chunk), x))

    def decode(self, z: Float[np.ndarray, "N J"]) -> Float[np.ndarray, "N *event_shape"]:
        """E[x | z] for latent vectors z, (N, J) -> (N, *event_shape), in the units of the data.

        Floats: for a Bernoulli decoder the probability that a pixel is white, times what is white in the data: 255 for
        images of 0 to 255, else 1.

        Raises:
            ValueError: z is not (N, J), or not finite.
            UnavailableError: the model has no `likelihood` of z alone.
        """
        generative = self.in_two_parts("decode")
        if generative.is_conditional:
            raise UnavailableError(
                f"x of {type(generative).__name__} depends on what is given, too: use reconstruct(rows), or "
                "sample(num, given=...)"
            )
        z = np.asarray(z)
        if z.dtype.kind not in "fiub":
            raise ValueError(f"latent vectors must be real numbers, got dtype {z.dtype}")
        if z.ndim < 1 or z.shape[1:] != self.latent_shape:
            expected = ", ".join(map(str, self.latent_shape))
            raise ValueError(f"latent vectors must have shape (N, {expected}), got {z.shape}")
        if not (np.abs(z) <= np.finfo(np.float32).max).all():
            raise ValueError("latent vectors must be finite numbers within float32's range")
        z = z.astype(np.float32)
        return self.feed.restored(in_chunks(lambda chunk: decode_rows(generative, chunk), z))

    def reconstruct(self, rows: Any) -> Float[np.ndarray, "N *event_shape"]:
        """E[x | z] at the posterior mean of each row, as `decode` gives it. Deterministic."""
        generative = self.in_two_parts("reconstruct")
        if not generative.is_conditional:
            return self.decode(self.encode(rows).mean)
        x = self.feed.expected(self.feed.stored(rows))
        return self.feed.restored(in_chunks(lambda chunk: reconstruct_rows(generative, self.encoder, chunk), x))

    def sample_prior(
        self, num: int, key: PRNGKeyArray | None = None, *, seed: int | None = None
    ) -> Float[np.ndarray, "num J"]:
        """Draws z ~ p(z), (num, J): those that `sample` with the same key or seed decodes.

        Raises:
            ConfigError: num < 1 or too large for the memory, or not one of key and seed was given, or it is none.
        """
        key = one_key(key, seed)
        index, given = numbered_samples(num, self.latent_dim), given_rows(self.generative, self.feed, num, None)
        drawn: np.ndarray = in_chunks(lambda part: sample_rows(self.generative, key, *part)[1], (index, given))
        return drawn

    def sample(
        self, num: int, key: PRNGKeyArray | None = None, *, seed: int | None = None, given: Any = None
    ) -> Real[np.ndarray, "num *event_shape"]:
        """Ancestral samples x ~ p(x | z), z ~ p(z), (num, *event_shape), in the units of the data.

        Sample i uses fold_in(key, i). A Bernoulli decoder draws black or white, as the model saw its pixels in
        training: 0 or 255 for images of 0 to 255, uint8; 0 or 1 otherwise. `decode(sample_prior(...))` has grey means.

        Args:
            num: how many.
            key: `jax.random.key(seed)`; or else
            seed: a whole number, from which that key is made.
            given: of a conditional model, what is given for each sample: an array (num, ...), or a tuple of arrays, as
                its `split` has them. What comes back is what is observed.

        Raises:
            ConfigError: num < 1 or too large for the memory, or not one of key and seed was given, or it is none; or
                what is given does not go with the model or with num.
        """
        key = one_key(key, seed)
        width = self.spec.data_dim if self.spec is not None else self.latent_dim
        index, given = numbered_samples(num, width), given_rows(self.generative, self.feed, num, given)
        x = self.feed.restored(in_chunks(lambda part: sample_rows(self.generative, key, *part)[0], (index, given)))
        return np.rint(x).astype(np.uint8) if self.makes_levels else x

    def in_two_parts(self, verb: str) -> AbstractPriorLikelihood:
        """The generative model, if it tells p(x | z) and p(z) apart, as the verb needs.

        Raises:
            UnavailableError: it does not.
        """
        if not isinstance(self.generative, AbstractPriorLikelihood):
            raise UnavailableError(
                f"{verb} needs p(x | z), and {type(self.generative).__name__} has log p(x, z) in one piece; derive it "
                "from aevb.models.AbstractPriorLikelihood, with a likelihood(z)"
            )
        return self.generative

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
        if self.is_grey:
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
        stored = self.feed.stored(rows)
        some = self.feed.first(stored, whole("num_rows", num_rows, 1))
        return evaluate.compare_estimators(
            self.generative,
            self.encoder,
            as_floats(self.feed.fixed(some, BINARIZATION_KEY)),
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
        stored, x = self.prepare(rows)
        estimate, kl_is_exact = self.elbo_of(x)
        reconstruction = None
        if estimate.log_likelihood is not None:
            reconstruction = np.asarray(estimate.log_likelihood, np.float64) + self.log_jacobian
        log_likelihood = None
        if num_samples and not self.is_grey:
            log_likelihood = evaluate.mean(self._log_p(x, method, num_samples, self.evaluation_key(Purpose.IMPORTANCE)))
        return Evaluation(
            measures=self.measures,
            bound=evaluate.mean(np.asarray(estimate.bound, np.float64) + self.log_jacobian),
            reconstruction=None if reconstruction is None else evaluate.mean(reconstruction),
            kl=None if estimate.kl is None else evaluate.mean(estimate.kl),
            kl_is_exact=kl_is_exact,
            log_likelihood=log_likelihood,
            method=method,
            num_samples=num_samples if log_likelihood and method == "is" else 0,
            binarization="none" if self.spec is None else self.preprocessing.binarization,
            scaling="none" if self.spec is None else self.preprocessing.scaling,
            log_jacobian=self.log_jacobian,
            data=self.feed.info(stored),
            kl_per_layer=evaluate.means(estimate.kl_per_layer),
        )

    def save(self, path: str | Path) -> None:
        """Write the model to one file, in the place of what was there before; `aevb.load(path)` gives it back.

        Raises:
            OutputError: the file cannot be written; what was at `path` before is untouched.
        """
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        modelfile.write(path, **parts)

    def prepare(self, rows: Any, *, part: Literal["held-out", "training"] = "held-out") -> tuple[Any, Any]:
        """The rows as they are stored (a `Dataset`, or arrays for a model of one's own) and as the models see them,
        (N, D); binarised once, with a fixed key, if the model saw its data binarised at random.

        Args:
            rows: as everywhere.
            part: of the data: row i of the training part is not binarised with the noise of held-out row i.
        """
        stored = self.feed.stored(rows)
        return stored, self.feed.fixed(stored, BINARIZATION_KEY if part == "held-out" else _TRAINING_KEY)

    def observed(self, x: Rows) -> Any:
        """What is observed of rows as the models see them: x itself, but in a conditional model."""
        if isinstance(self.generative, AbstractPriorLikelihood) and self.generative.is_conditional:
            split = self.generative.split
            return jax.device_get(jax.vmap(lambda row: split(as_floats(row))[0])(x))
        return x

    def shown(self, stored: Any) -> Dataset | None:
        """What is observed of stored rows as a data set, to be told and pictured; None where it is no single array."""
        if isinstance(stored, Dataset):
            return stored
        observed = self.observed(self.feed.expected(stored))
        if not isinstance(observed, np.ndarray):
            return None
        return load_data(self.feed.restored(observed))

    def elbo_of(self, x: Rows) -> tuple[Estimate, bool]:
        """The ELBO and its terms for rows as the models see them, with the evaluation's fixed noise, and whether the KL
        is in closed form. Log densities are of the data as the models see them.

        One draw of z for each of many rows; more for few rows, whose mean would be noisy else.
        """
        draws = int(np.clip(ELBO_DRAWS // max(num_rows_of(x), 1), 1, 100))
        estimator = evaluate.elbo_estimator(self.generative, self.encoder, draws, like=x)
        key = self.evaluation_key(Purpose.ELBO)
        estimate = evaluate.elbo(self.generative, self.encoder, x, key, estimator=estimator)
        return estimate, isinstance(estimator, SgvbB)

    def evaluation_key(self, purpose: Purpose) -> PRNGKeyArray:
        """The fixed key of one of evaluation's uses of noise, so that two evaluations agree."""
        return jax.random.fold_in(jax.random.key(BINARIZATION_KEY + 1), purpose)

    def _resolved(self, method: Method, num_samples: int | None, least: int) -> tuple[Method, int]:
        """The method and the number of samples, which asks for importance sampling where it is given."""
        samples = NUM_SAMPLES if num_samples is None else whole("num_samples", num_samples, least, MOST)
        if method not in get_args(Method):
            raise ConfigError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
        if method == "auto":
            asked = num_samples is not None and samples > 0
            method = "quadrature" if evaluate.has_quadrature(self.generative) and not asked else "is"
        return method, samples

    @property
    def is_grey(self) -> bool:
        """Whether the model has a cross-entropy of grey pixels and no likelihood."""
        return self.spec is not None and self.preprocessing.grey

    def _log_p(self, x: Rows, method: Method, num_samples: int, key: PRNGKeyArray) -> Float[np.ndarray, " N"]:
        if method == "quadrature":
            generative = self.in_two_parts("quadrature")
            log_p = evaluate.quadrature_log_likelihood(generative, x, self.recognition).log_likelihood
        else:
            log_p = evaluate.log_likelihood(self.generative, self.encoder, x, key, num_samples=num_samples)
        return np.asarray(log_p, np.float64) + self.log_jacobian


def load(
    path: str | Path,
    *,
    like: tuple[AbstractGenerativeModel, AbstractRecognitionModel | None] | None = None,
    transform: AbstractTransform | None = None,
    network: tuple[Any, Any] | None = None,
) -> FittedModel:
    """Read a fitted model from its file, or from the run directory that holds it.

    Every array is checked against its SHA-256. That detects damage, not malice; opening a file cannot run code.

    Args:
        path: of the file or directory.
        like: for a model of one's own, its pair of models with any values, whose places the file's arrays take: no file
            can say what a class does.
        transform: for a model of one's own, the transform of rows that it was fitted with, if there was one.
        network: for a preset that was given two modules as its network, these, with any values.

    Raises:
        ModelFileError: the file is missing, cut, altered, or of a newer format, or its arrays have not the names and
            shapes of `like`. Says which and what to do.

    Example:
        >>> load("no/such/run")
        Traceback (most recent call last):
        ...
        aevb.errors.ModelFileError: no/such/run: there is no such file or run directory; give one that `aevb fit` made
    """
    return FittedModel(**modelfile.read(path, like=like, transform=transform, network=network))
