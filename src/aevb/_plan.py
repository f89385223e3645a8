"""What a configuration comes to on given data: each `auto` resolved, preprocessing, architecture, estimators."""

import os
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from aevb import estimators, evaluate, train
from aevb.config import Config
from aevb.data import NAMES, Dataset, Preprocessing, check_compatible, choose_preprocessing, is_binary
from aevb.errors import ConfigError, DataError, UnavailableError
from aevb.models import Architecture, build, choose_latents, tie

from ._splits import Splits


class Plan(NamedTuple):
    """What is going to be fitted, and how."""

    config: Config  # with values in the place of each `auto`
    preprocessing: Preprocessing
    architecture: Architecture
    estimator: estimators.AbstractEstimator  # to train with
    for_evaluation: estimators.AbstractEstimator  # of the ELBO


def make_plan(config: Config, splits: Splits) -> Plan:
    """Resolve a configuration, and check it, by shapes alone: nothing is computed or compiled yet.

    Raises:
        ConfigError: the configuration does not fit together, or does not fit the data.
        DataError: the parts of the data do not fit each other or the likelihood, or are too few.
    """
    config, preprocessing = _resolve(config, splits)
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
    return Plan(config, preprocessing, architecture, estimator, for_evaluation)


def _resolve(config: Config, splits: Splits) -> tuple[Config, Preprocessing]:
    """Replace each `auto` by what the data ask for; check data and configuration against each other."""
    data = splits.train
    likelihood = config.likelihood
    if likelihood == "auto":
        likelihood = "bernoulli" if _looks_like_pixels(data) else "gaussian"
    preprocessing = choose_preprocessing(data, likelihood, config.binarization, config.scaling)
    for other in (splits.validation, splits.test):
        if other is not None:
            check_compatible(preprocessing, data.columns, data.event_shape, other)
    if config.batch_size > len(data):
        raise DataError(
            f"{data.name} has {len(data)} training rows, fewer than the batch of {config.batch_size}; "
            f"set batch_size to {len(data)} or less"
        )
    if config.sigmoid_mean and likelihood in ("bernoulli", "continuous-bernoulli"):
        raise ConfigError(f"sigmoid_mean is an option of the gaussian likelihood; the {likelihood} one has it built in")
    if config.sigmoid_mean and preprocessing.scaling == "standardize":
        raise ConfigError("sigmoid_mean needs data in [0, 1], but these are standardised; use scaling 'unit' or 'none'")
    posterior, prior = choose_latents(config.posterior, config.prior)
    resolved = config.replace(
        data=data.name if data.name in NAMES else _absolute(data.name),
        validation=_absolute(config.validation) if isinstance(config.validation, str) else config.validation,
        test=_absolute(config.test),
        likelihood=likelihood,
        binarization=preprocessing.binarization,
        scaling=preprocessing.scaling,
        posterior=posterior,
        prior=prior,
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


def _looks_like_pixels(data: Dataset) -> bool:
    """Binary values anywhere, and uint8 or [0, 1] in an array; a table with named columns must be binary."""
    if data.columns is not None:
        return is_binary(data.rows)
    return data.rows.dtype == np.uint8 or bool(data.rows.min() >= 0 and data.rows.max() <= 1)
