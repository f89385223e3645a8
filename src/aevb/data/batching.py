"""Which rows come when: the order of an epoch, and the split into training and validation rows."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from numpy.typing import NDArray

from aevb.errors import ConfigError, DataError


def epoch_order(key: PRNGKeyArray, epoch: int | Int[Array, ""], num_examples: int) -> Int[Array, " N"]:
    """The order of the rows 0..num_examples-1 in one epoch, int32: a permutation that only (key, epoch) decide.

    Can be jitted with `num_examples` static; so any epoch can be recomputed without those before it.
    """
    if not 1 <= num_examples < 2**31:
        raise ValueError(f"an epoch has from 1 to 2**31 - 1 examples, not {num_examples}")
    return jax.random.permutation(jax.random.fold_in(key, epoch), jnp.arange(num_examples, dtype=jnp.int32))


def split(num_examples: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of the training and the validation part, each sorted; `fraction` (in (0, 1)) is the validation's.

    The same arguments give the same parts on every machine and NumPy version: the parts come from ranking raw draws of
    PCG64, a stream that NumPy promises not to change.

    Raises:
        ConfigError: if `fraction` is not strictly between 0 and 1, or `seed` is negative.
        DataError: if one part would have no rows.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"the validation fraction must lie strictly between 0 and 1, not {fraction!r}")
    if seed < 0:
        raise ConfigError(f"the seed of the validation split must not be negative, not {seed!r}")
    held_out = round(num_examples * fraction)
    if held_out < 1 or held_out >= num_examples:
        raise DataError(
            f"a validation fraction of {fraction!r} of {num_examples} rows leaves {max(num_examples - held_out, 0)} "
            f"for training and {held_out} for validation, and both need at least one: set validation=0 for no "
            "validation, or give another fraction or more rows"
        )
    order = np.argsort(np.random.PCG64(seed).random_raw(num_examples), kind="stable")
    return np.sort(order[held_out:]).astype(np.int64), np.sort(order[:held_out]).astype(np.int64)
