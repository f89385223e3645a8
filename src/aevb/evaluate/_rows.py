"""Apply a function of one row to every row, in bounded memory, and bring the results to the host."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb.models import Rows, num_rows_of, take

# Rows that are on the device at once.
HOST_CHUNK = 10_000


@eqx.filter_jit
def _map_chunk(fn: Callable[..., Any], args: Any, rows: Any, index: Array, key: PRNGKeyArray, batch_size: int) -> Any:
    def one(item: tuple[Any, Array]) -> Any:
        row, i = item
        return fn(*args, jax.random.fold_in(key, i), row)

    return jax.lax.map(one, (rows, index), batch_size=min(batch_size, len(index)))


def map_rows(
    fn: Callable[..., Any],
    args: Any,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    batch_size: int,
    first_row: int = 0,
    rows_at_once: int | None = None,
) -> Any:
    """`fn(*args, key_i, row_i)` for each row i, vectorised over `batch_size` rows at a time.

    Row i's key is `fold_in(key, first_row + i)`, so that the result depends neither on how the rows are cut into
    batches nor on how the data set is cut into parts. The last, smaller batch is computed like the others; no row is
    dropped or counted twice.

    Args:
        fn: pure function of one row that returns a pytree of arrays. Give the same function object at each call, or
            it is compiled anew.
        args: arguments that all rows share (models, say).
        rows: N >= 1 of them.
        key: for all rows.
        batch_size: rows at once, which bounds the memory.
        first_row: where `rows` begins in the data set that it is a part of.
        rows_at_once: rows in one call of the device, which Ctrl-C waits for; None: as many as it should hold.

    Returns:
        The pytree that `fn` returns, as NumPy arrays with a leading axis of length N.
    """
    parts = []
    size = HOST_CHUNK if rows_at_once is None else min(rows_at_once, HOST_CHUNK)
    for start in range(0, num_rows_of(rows), size):
        chunk = jax.tree.map(jnp.asarray, take(rows, slice(start, start + size)))
        index = jnp.arange(num_rows_of(chunk), dtype=jnp.uint32) + jnp.uint32(first_row + start)
        parts.append(jax.device_get(_map_chunk(fn, args, chunk, index, key, batch_size)))
    if not parts:
        raise ValueError("there are 0 rows to evaluate")
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
