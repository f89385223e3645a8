"""What a configuration comes to on given data: each `auto` resolved, preprocessing, architecture, estimators."""

import os
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from aevb import estimators, evaluate, train
from aevb.config import Config
from aevb.data import NAMES, Preprocessing, check_compatible, choose_preprocessing, guess_likelihood, levels_taken
from aevb.errors import ConfigError, DataError, UnavailableError
from aevb.models import Architecture, build, choose_latents, tie

from ._splits import VALIDATION_SHARE, Splits

BATCH_SIZE = 100  # rows a step, unless another number is asked for or there are fewer


class Plan(NamedTuple):
    """What is going to be fitted, and how."""

    config: Config  # with values in the place of each `auto`
    preprocessing: Preprocessing
    architecture: Architecture
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
    architecture = _architecture(config, preprocessing, splits.train.rows.shape[1])
    generative, recognition = eqx.filter_eval_shape(build, architecture, key=jax.random.key(0))
    generative = tie(generative, recognition)
    for_evaluation = evaluate.elbo_estimator(generative, recognition)
    name = config.estimator
    if name == "auto":
        name = "sgvb-b" if isinstance(for_evaluation, estimators.SgvbB) else "sgvb-a"
    try:
        estimator = estimators.make_estimator(
            name,
            config.num_samples,
            num_groups=config.num_groups,
            alpha=config.alpha,
            ciwae_weight=config.ciwae_weight,
            baseline=config.baseline,
        )
        evaluate.try_estimator(estimator, generative, recognition)
    except ConfigError as error:
        raise ConfigError(f"estimator {name} cannot be used here: {error}") from None
    if config.free_bits:
        x = jnp.zeros((1, architecture.data_dim))
        free_bits = train.FreeBits(config.free_bits, config.free_bits_group)
        try:
            eqx.filter_eval_shape(train.free_bits_kl, generative, recognition, x, free_bits)
        except UnavailableError as error:
            raise ConfigError(f"free_bits cannot be used here: {error}") from None
    config = config.replace(estimator=name, num_samples=estimator.num_samples)
    return Plan(config, preprocessing, architecture, estimator, for_evaluation, guessed)


def _resolve(config: Config, splits: Splits) -> tuple[Config, Preprocessing]:
    """Replace each `auto` by what the data ask for; check data and configuration against each other."""
    data = splits.train
    likelihood = config.likelihood
    if likelihood == "auto":
        likelihood = guess_likelihood(data).likelihood
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
    if config.sigmoid_mean and likelihood in ("bernoulli", "continuous-bernoulli"):
        raise ConfigError(f"sigmoid_mean is an option of the gaussian likelihood; the {likelihood} one has it built in")
    if config.sigmoid_mean and preprocessing.scaling == "standardize":
        raise ConfigError("sigmoid_mean needs data in [0, 1], but these are standardised; use scaling 'unit' or 'none'")
    validation = _absolute(config.validation) if isinstance(config.validation, str) else config.validation
    if validation is None:
        validation = 0.0 if splits.validation is None else VALIDATION_SHARE
    posterior, prior = choose_latents(config.posterior, config.prior)
    resolved = config.replace(
        data=data.name if data.name in NAMES else _absolute(data.name),
        validation=validation,
        test=_absolute(config.test),
        likelihood=likelihood,
        binarization=preprocessing.binarization,
        scaling=preprocessing.scaling,
        posterior=posterior,
        prior=prior,
        batch_size=batch_size,
    )
    return resolved, preprocessing


def _architecture(config: Config, preprocessing: Preprocessing, data_dim: int) -> Architecture:
    flows = config.posterior in ("iaf", "coupling") or config.prior == "flow"
    try:
        return Architecture(
            data_dim=data_dim,
            latent_dim=config.latent_dim,
            hidden=config.hidden,
            activation=config.activation,
            likelihood=config.likelihood,  # type: ignore[arg-type]  # `auto` was resolved
            grey=preprocessing.grey,
            sigmoid_mean=config.sigmoid_mean,
            min_scale=config.min_scale,
            posterior=config.posterior,
            prior=config.prior,
            prior_components=config.prior_components if config.prior in ("mixture", "vamp") else 0,
            flow_steps=config.flow_steps if flows else 0,
            flow_hidden=config.flow_hidden if flows else (),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path and Path(path).exists() else path
