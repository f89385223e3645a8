"""What a configuration comes to on given data: each `auto` resolved, preprocessing, the model's spec, estimators."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from aevb import estimators, evaluate, train
from aevb.config import Config
from aevb.data import (
    NAMES,
    Dataset,
    Preprocessing,
    check_compatible,
    choose_preprocessing,
    guess_likelihood,
    levels_taken,
)
from aevb.errors import ConfigError, DataError, UnavailableError
from aevb.models import (
    LIKELIHOODS,
    POSTERIORS,
    PRIORS,
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    BernoulliLikelihood,
    Decoder,
    Encoder,
    Mlp,
    PosteriorSpec,
    PriorSpec,
    Registry,
    Rows,
    Spec,
    Vae,
    choose_latents,
    tie,
)

from ._splits import VALIDATION_SHARE, Splits

_S = TypeVar("_S", bound=Spec)

BATCH_SIZE = 100  # rows a step, unless another number is asked for or there are fewer


class Plan(NamedTuple):
    """What is going to be fitted, and how."""

    config: Config  # with values in the place of each `auto`
    preprocessing: Preprocessing
    spec: Vae
    estimator: estimators.AbstractEstimator  # to train with
    for_evaluation: estimators.AbstractEstimator  # of the ELBO
    guessed: str  # words on a choice that the data do not make evident, or nothing


def make_plan(config: Config, splits: Splits) -> Plan:
    """Resolve a configuration, and check it, by shapes alone: nothing is computed or compiled yet.

    Raises:
        ConfigError: the configuration does not fit together, or does not fit the data.
        DataError: the parts of the data do not fit each other or the likelihood, or are too few.
    """
    asked = config.likelihood
    config, preprocessing = _resolve(config, splits)
    guessed = guess_likelihood(splits.train).words if asked == "auto" else levels_taken(splits.train, preprocessing)
    spec = spec_of(config, preprocessing, splits.train.rows.shape[1])
    generative, recognition = eqx.filter_eval_shape(spec.build, key=jax.random.key(0))
    generative = tie(generative, recognition)
    x = jnp.zeros((1, spec.data_dim))
    config, estimator, for_evaluation = choose_estimator(config, generative, recognition, like=x)
    return Plan(config, preprocessing, spec, estimator, for_evaluation, guessed)


def choose_estimator(
    config: Config,
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel,
    *,
    like: Rows,
    given: estimators.AbstractEstimator | None = None,
) -> tuple[Config, estimators.AbstractEstimator, estimators.AbstractEstimator]:
    """The estimators to train with and to evaluate the ELBO with, and the configuration that names the first.

    Args:
        config: its name and options.
        generative, recognition: the models, or their shapes; tied.
        like: a row of x.
        given: an estimator that goes before the configuration's.

    Raises:
        ConfigError: the estimator, or the free bits, cannot be used with these models; says why.
    """
    for_evaluation = evaluate.elbo_estimator(generative, recognition, like=like)
    name = config.estimator
    if name == "auto":
        name = "sgvb-b" if isinstance(for_evaluation, estimators.SgvbB) else "sgvb-a"
    try:
        estimator = given or estimators.make_estimator(
            name,
            config.num_samples,
            num_groups=config.num_groups,
            alpha=config.alpha,
            ciwae_weight=config.ciwae_weight,
            baseline=config.baseline,
        )
        evaluate.try_estimator(estimator, generative, recognition, like=like)
    except ConfigError as error:
        raise ConfigError(f"estimator {name if given is None else given} cannot be used here: {error}") from None
    if config.free_bits:
        free_bits = train.FreeBits(config.free_bits, config.free_bits_group)
        try:
            eqx.filter_eval_shape(train.free_bits_kl, generative, recognition, like, free_bits)
        except UnavailableError as error:
            raise ConfigError(f"free_bits cannot be used here: {error}") from None
    if given is None:
        config = config.replace(estimator=name, num_samples=estimator.num_samples)
    return config, estimator, for_evaluation


def build(plan: Plan, data: Dataset, key: PRNGKeyArray) -> tuple[Decoder, Encoder]:
    """The models of a plan, which begin where the training rows say."""
    config, spec = plan.config, plan.spec
    rows = None
    if spec.prior.needs_rows:
        index = np.random.default_rng(config.seed).choice(
            len(data.rows), config.prior_components, replace=len(data.rows) < config.prior_components
        )
        rows = plan.preprocessing.expected(data.rows[np.sort(index)])
    return spec.build(
        initialization=config.initialization,
        biases=spec.likelihood.start(_centre_of(plan, data)) if config.data_bias else None,
        pseudo_inputs=rows,
        key=key,
    )


def _centre_of(plan: Plan, data: Dataset) -> Float[np.ndarray, " D"]:
    """The mean of the rows as the models see them, or their median where outliers must not move it."""
    if plan.spec.likelihood.heavy_tailed:
        return np.median(plan.preprocessing.expected(data.rows), axis=0).astype(np.float64)
    return _mean_of(plan.preprocessing, data)


def _mean_of(preprocessing: Preprocessing, data: Dataset) -> Float[np.ndarray, " D"]:
    """The mean of the rows as the models see them."""
    total = np.zeros(data.rows.shape[1])
    for start in range(0, len(data), 10_000):
        total += preprocessing.expected(data.rows[start : start + 10_000]).sum(axis=0, dtype=np.float64)
    return total / len(data)


def _resolve(config: Config, splits: Splits) -> tuple[Config, Preprocessing]:
    """Replace each `auto` by what the data ask for; check data and configuration against each other."""
    data = splits.train
    kind = guess_likelihood(data).likelihood if config.likelihood == "auto" else config.likelihood
    likelihood = _choice(LIKELIHOODS, kind, config)
    preprocessing = choose_preprocessing(data, likelihood, config.binarization, config.scaling)
    for other in (splits.validation, splits.test):
        if other is not None:
            check_compatible(preprocessing, data.columns, data.event_shape, other, likelihood=likelihood)
    batch_size = min(BATCH_SIZE, len(data)) if config.batch_size is None else config.batch_size
    if batch_size > len(data):
        raise DataError(
            f"{data.name} has {len(data)} training rows, fewer than the batch of {batch_size} that was asked for; "
            f"set batch_size to {len(data)} or less, or leave it out"
        )
    if config.sigmoid_mean and not hasattr(likelihood, "sigmoid_mean"):
        raise ConfigError(f"sigmoid_mean is an option of the gaussian likelihood; the {kind} one has it built in")
    if config.sigmoid_mean and preprocessing.scaling == "standardize":
        raise ConfigError("sigmoid_mean needs data in [0, 1], but these are standardised; use scaling 'unit' or 'none'")
    validation = _absolute(config.validation) if isinstance(config.validation, str) else config.validation
    if validation is None:
        validation = 0.0 if splits.validation is None else VALIDATION_SHARE
    q, p = _latents(config)
    resolved = config.replace(
        data=data.name if data.name in NAMES else _absolute(data.name),
        validation=validation,
        test=_absolute(config.test),
        likelihood=kind,
        binarization=preprocessing.binarization,
        scaling=preprocessing.scaling,
        posterior=q.kind,
        prior=p.kind,
        batch_size=batch_size,
    )
    return resolved, preprocessing


# Options of a choice, by the part that it is of -> the fields of `Config` that have them.
_FLOW = {"steps": "flow_steps", "hidden": "flow_hidden", "activation": "activation"}
_OPTIONS = {
    LIKELIHOODS.part: {"sigmoid_mean": "sigmoid_mean", "min_scale": "min_scale", "df": "df"},
    POSTERIORS.part: _FLOW,
    PRIORS.part: {"components": "prior_components", **_FLOW},
}


def spec_of(config: Config, preprocessing: Preprocessing, data_dim: int) -> Vae:
    """The model of a configuration in which every `auto` is resolved.

    Raises:
        ConfigError: its parts do not fit together.
    """
    likelihood = _choice(LIKELIHOODS, config.likelihood, config)
    if isinstance(likelihood, BernoulliLikelihood):
        likelihood = dataclasses.replace(likelihood, grey=preprocessing.grey)
    posterior, prior = _latents(config)
    return Vae(data_dim, config.latent_dim, Mlp(config.hidden, config.activation), likelihood, posterior, prior)


def _latents(config: Config) -> tuple[PosteriorSpec, PriorSpec]:
    posterior = None if config.posterior == "auto" else _choice(POSTERIORS, config.posterior, config)
    prior = None if config.prior == "auto" else _choice(PRIORS, config.prior, config)
    return choose_latents(posterior, prior)


def _choice(registry: Registry[_S], kind: str, config: Config) -> _S:
    """The spec of a kind, with those of its options that the configuration has."""
    known = {field.name for field in dataclasses.fields(registry[kind])}
    fields = {name: field for name, field in _OPTIONS[registry.part].items() if name in known}
    return registry.make(kind, **{name: getattr(config, field) for name, field in fields.items()})


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path and Path(path).exists() else path
