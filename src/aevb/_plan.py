"""What a configuration comes to on given data: each `auto` resolved, preprocessing, the model's spec, estimators."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from aevb import estimators, evaluate, train
from aevb._spec import Auto, Own
from aevb.config import Config, Model, resolve
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
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    BernoulliLikelihood,
    Decoder,
    Encoder,
    LikelihoodSpec,
    NetworkSpec,
    PosteriorSpec,
    PriorSpec,
    Rows,
    Vae,
    choose_latents,
    tie,
)

from ._splits import VALIDATION_SHARE, Splits

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
    is_guessed = config.model is not None and isinstance(config.model.likelihood, Auto)
    config, preprocessing, spec = _resolve(config, splits)
    guessed = guess_likelihood(splits.train).words if is_guessed else levels_taken(splits.train, preprocessing)
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
) -> tuple[Config, estimators.AbstractEstimator, estimators.AbstractEstimator]:
    """The estimators to train with and to evaluate the ELBO with, and the configuration with the first in it.

    Args:
        config: that has the first, or `auto`.
        generative, recognition: the models, or their shapes; tied.
        like: a row of x.

    Raises:
        ConfigError: the estimator, or the free bits, cannot be used with these models; says why.
    """
    for_evaluation = evaluate.elbo_estimator(generative, recognition, like=like)
    asked, has_closed_form = config.training.estimator, isinstance(for_evaluation, estimators.SgvbB)
    kind = estimators.SgvbB.kind if has_closed_form else estimators.SgvbA.kind
    estimator = resolve(asked, kind, estimators.ESTIMATORS)
    if isinstance(estimator, Own):
        raise ConfigError(
            f"the estimator was an object of the class {estimator.name}, which a file cannot hold; give it"
        )
    try:
        evaluate.try_estimator(estimator, generative, recognition, like=like)
    except ConfigError as error:
        name = estimator.kind if estimators.ESTIMATORS.holds(estimator) else estimator
        raise ConfigError(f"estimator {name} cannot be used here: {error}") from None
    training = config.training
    if training.free_bits:
        free_bits = train.FreeBits(training.free_bits, training.free_bits_group)
        try:
            eqx.filter_eval_shape(train.free_bits_kl, generative, recognition, like, free_bits)
        except UnavailableError as error:
            raise ConfigError(f"free_bits cannot be used here: {error}") from None
    return config.replace(estimator=estimator), estimator, for_evaluation


def build(plan: Plan, data: Dataset, key: PRNGKeyArray) -> tuple[Decoder, Encoder]:
    """The models of a plan, which begin where the training rows say."""
    model, spec, rows = plan.config.model, plan.spec, None
    assert model is not None
    if num_rows := spec.prior.num_rows:
        index = np.random.default_rng(plan.config.training.seed).choice(
            len(data.rows), num_rows, replace=len(data.rows) < num_rows
        )
        rows = plan.preprocessing.expected(data.rows[np.sort(index)])
    return spec.build(
        initialization=model.initialization,
        biases=spec.likelihood.start(_centre_of(plan, data)) if model.data_bias else None,
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


def _resolve(config: Config, splits: Splits) -> tuple[Config, Preprocessing, Vae]:
    """Replace each `auto` by what the data ask for; check data and configuration against each other."""
    data, model = splits.train, config.model
    if model is None:
        raise ConfigError("this configuration is of models of one's own; fit them with aevb.fit_model")
    for name in ("network", "likelihood", "posterior", "prior"):
        if isinstance(own := getattr(model, name), Own):
            raise ConfigError(f"the {name} was an object of one's own, {own.name}, which a file cannot hold; give it")
    likelihood = resolve(model.likelihood, guess_likelihood(data).likelihood, LIKELIHOODS)
    preprocessing = choose_preprocessing(data, likelihood, config.data.binarization, config.data.scaling)
    for other in (splits.validation, splits.test):
        if other is not None:
            check_compatible(preprocessing, data.columns, data.event_shape, other, likelihood=likelihood)
    batch_size = config.training.batch_size
    if batch_size is None:
        batch_size = min(BATCH_SIZE, len(data))
    if batch_size > len(data):
        raise DataError(
            f"{data.name} has {len(data)} training rows, fewer than the batch of {batch_size} that was asked for; "
            f"set batch_size to {len(data)} or less, or leave it out"
        )
    if getattr(likelihood, "sigmoid_mean", False) and preprocessing.scaling == "standardize":
        raise ConfigError("sigmoid_mean needs data in [0, 1], but these are standardised; use scaling 'unit' or 'none'")
    validation = config.data.validation
    if validation is None:
        validation = 0.0 if splits.validation is None else VALIDATION_SHARE
    spec = _spec_of(model, likelihood, preprocessing, data.rows.shape[1])
    resolved = config.replace(
        data=data.name if data.name in NAMES else _absolute(data.name),
        validation=_absolute(validation) if isinstance(validation, str) else validation,
        test=_absolute(config.data.test),
        likelihood=spec.likelihood,
        binarization=preprocessing.binarization,
        scaling=preprocessing.scaling,
        posterior=spec.posterior,
        prior=spec.prior,
        batch_size=batch_size,
    )
    return resolved, preprocessing, spec


def _spec_of(model: Model, likelihood: LikelihoodSpec, preprocessing: Preprocessing, data_dim: int) -> Vae:
    """The model of a configuration.

    Raises:
        ConfigError: its parts do not fit together.
    """
    if isinstance(likelihood, BernoulliLikelihood):
        if likelihood.grey and not preprocessing.grey:
            raise ConfigError("grey of 'bernoulli' must be left to the data: these are binary, or are made so")
        likelihood = dataclasses.replace(likelihood, grey=preprocessing.grey)
    network, posterior, prior = model.network, model.posterior, model.prior
    assert isinstance(network, NetworkSpec)  # as names they were given, and the section made them objects
    posterior, prior = choose_latents(
        posterior if isinstance(posterior, PosteriorSpec) else None, prior if isinstance(prior, PriorSpec) else None
    )
    return Vae(data_dim, model.latent_dim, network, likelihood, posterior, prior)


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path and Path(path).exists() else path
