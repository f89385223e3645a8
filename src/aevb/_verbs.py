"""The verbs of a fitted model as compiled functions of many rows."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb.distributions import location_and_scale
from aevb.errors import ConfigError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    as_floats,
    given_of,
    likelihood_given,
    posterior_of,
)

from ._arguments import whole
from ._feed import Feed, RowsFeed, spoken


def numbered_samples(num: int, width: int) -> np.ndarray:
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
def encode_rows(recognition: AbstractRecognitionModel, x: Rows) -> tuple[Array, Array]:
    def moments(x: Any) -> tuple[Array, Array]:
        return location_and_scale(posterior_of(recognition, as_floats(x)))

    return jax.vmap(moments)(x)


@eqx.filter_jit
def decode_rows(generative: AbstractPriorLikelihood, z: Array) -> Array:
    return jax.vmap(lambda z: likelihood_given(generative, z).mean)(z)


@eqx.filter_jit
def reconstruct_rows(generative: AbstractPriorLikelihood, recognition: AbstractRecognitionModel, rows: Rows) -> Array:
    def of(row: Any) -> Array:
        x = as_floats(row)
        q = posterior_of(recognition, x)
        z = location_and_scale(q)[0].reshape(q.event_shape)
        return likelihood_given(generative, z, *given_of(generative, x)).mean

    return jax.vmap(of)(rows)


@eqx.filter_jit
def sample_rows(
    generative: AbstractGenerativeModel, key: PRNGKeyArray, index: Array, given: tuple[Any, ...]
) -> tuple[Array, Array]:
    """x, of a conditional model what is observed of it, and z."""

    def of(i: Array, given: tuple[Any, ...]) -> tuple[Any, Array]:
        x, z = generative.sample(jax.random.fold_in(key, i), *as_floats(given))
        return (generative.split(x)[0] if isinstance(generative, AbstractPriorLikelihood) else x), z

    x, z = jax.vmap(of)(index, given)
    return as_floats(x), as_floats(z)


def given_rows(generative: AbstractGenerativeModel, feed: Feed, num: int, given: Any) -> tuple[Any, ...]:
    """What is given for `num` samples, as arrays of so many rows each.

    Raises:
        ConfigError: the model is given nothing, or something; or what is given is no finite numbers, or has not a row
            for each sample, or rows of another shape than the rows that the model was fitted to.
    """
    name = type(generative).__name__
    if not (isinstance(generative, AbstractPriorLikelihood) and generative.is_conditional):
        if given is not None:
            raise ConfigError(f"{name} is given nothing; leave out given=...")
        return ()
    if given is None:
        raise ConfigError(f"{name} is a conditional model: say with given=... what is given for each sample")
    parts: tuple[Any, ...] = jax.tree.map(np.asarray, given if isinstance(given, tuple) else (given,))
    leaves = jax.tree.leaves(parts)
    if not leaves or any(leaf.shape[:1] != (num,) for leaf in leaves):
        shapes = [leaf.shape for leaf in leaves]
        raise ConfigError(f"what is given must be arrays of {num} rows, one for each sample, got shapes {shapes}")
    if any(leaf.dtype.kind not in "biuf" or not np.isfinite(leaf).all() for leaf in leaves):
        raise ConfigError("what is given must be finite numbers")
    if isinstance(feed, RowsFeed) and (made := feed.form_of_example(generative, parts)) not in (None, feed.form):
        raise ConfigError(
            f"of what is given {name} makes an example of {spoken(made)}, and its rows are of {spoken(feed.form)}; "
            "give what it was fitted with, in the same shape"
        )
    return parts
