"""Checks of the numbers and keys that users give as arguments."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from aevb.errors import ConfigError

MOST = 10_000_000  # samples and the like for each row, as in `Config`


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """The whole number that was given, of NumPy too.

    Raises:
        ConfigError: it is none, or below `least`, or above `most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ConfigError(f"{name} must be a whole number, got {value!r:.80}")
    if number < least:
        raise ConfigError(f"{name} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ConfigError(f"{name} must be at most {most:,}, got {number:,}")
    return number


def one_key(key: Any, seed: Any) -> PRNGKeyArray:
    """The key that was given, or that of the seed.

    Raises:
        ConfigError: neither or both were given, or what was given is no key or no seed that a fit would take.
    """
    if (key is None) == (seed is None):
        raise ConfigError(
            "say what the draws are made from: give seed=0, or another whole number"
            if key is None
            else "give a seed or a key, not both"
        )
    if seed is not None:
        seed = whole("seed", seed, 0)
        if seed >= 2**63:
            raise ConfigError(f"seed must be below 2^63, got {seed}")
        return jax.random.key(seed)
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise ConfigError(f"key must be one JAX key, as jax.random.key(0) is, got {key!r:.80}; seed=0 needs no JAX")
    return key
