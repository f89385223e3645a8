"""The registries that choices are made from, loaded when they are first asked for: JAX takes seconds to import."""

from typing import Any

from aevb._spec import Registry


def networks() -> Registry[Any]:
    """Of encoder and decoder."""
    from aevb.models import NETWORKS

    return NETWORKS


def likelihoods() -> Registry[Any]:
    """p(x | z)."""
    from aevb.models import LIKELIHOODS

    return LIKELIHOODS


def posteriors() -> Registry[Any]:
    """q(z | x)."""
    from aevb.models import POSTERIORS

    return POSTERIORS


def priors() -> Registry[Any]:
    """p(z)."""
    from aevb.models import PRIORS

    return PRIORS


def estimators() -> Registry[Any]:
    """Of bounds on log p(x)."""
    from aevb.estimators import ESTIMATORS

    return ESTIMATORS


def optimizers() -> Registry[Any]:
    """Of the parameters."""
    from aevb.train import OPTIMIZERS

    return OPTIMIZERS


def schedules() -> Registry[Any]:
    """Of the learning rate."""
    from aevb.train import SCHEDULES

    return SCHEDULES
