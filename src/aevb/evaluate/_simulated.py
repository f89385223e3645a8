"""Data that a model makes itself, given what the rows of a data set have given."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from aevb.errors import UnavailableError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    Rows,
    as_floats,
    check_join,
    given_of,
    num_rows_of,
    take,
)


def given_rows(
    generative: AbstractGenerativeModel, like: Rows | None, index: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " N"], tuple[Any, ...]]:
    """Rows to be simulated, for `map_rows`: their numbers, and what `generative.sample(key, *given)` is given for each.

    Args:
        generative: p(x, z).
        like: rows of data; number i is given what row i modulo their number has. None: nothing.
        index: (N,), the numbers.

    Raises:
        UnavailableError: the model is conditional, and there are no rows.
        ValueError: its `join` does not undo its `split`.
    """
    if not (isinstance(generative, AbstractPriorLikelihood) and generative.is_conditional):
        return index, ()
    if like is None:
        raise UnavailableError(
            f"{type(generative).__name__} makes x for what is given; name rows of data that have it, with like=..."
        )
    check_join(generative, as_floats(take(like, 0)))
    rows = take(like, index % num_rows_of(like))
    return index, jax.device_get(jax.vmap(lambda x: given_of(generative, as_floats(x)))(rows))
