"""What x is: an array, or any structure of arrays; and many of them."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

# One example: an array, or any structure of arrays, such as (observed, given) in a conditional model.
X: TypeAlias = PyTree[Array | np.ndarray]

# N examples: an array of them, or a structure of arrays with N rows each.
Rows: TypeAlias = PyTree[Shaped[Array | np.ndarray, "..."]]


def as_floats(x: X) -> X:
    """An example as the models see it: every leaf as floats."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(float), x)


def num_rows_of(rows: Rows) -> int:
    """N, the same for every array of a structure.

    Raises:
        ValueError: they differ, or there is no array.

    Example:
        >>> num_rows_of(np.zeros((5, 2))), num_rows_of((np.zeros((5, 2)), np.zeros(5)))
        (5, 5)
    """
    sizes = {len(leaf) for leaf in jax.tree.leaves(rows)}
    if len(sizes) != 1:
        raise ValueError(f"all arrays of the rows must have one length, got {sorted(sizes)}")
    return sizes.pop()


def take(rows: Rows, index: Any) -> Any:
    """Some of the rows, or one of them: indexing of each array."""
    return jax.tree.map(lambda leaf: leaf[index], rows)
