"""What the checks share: numbers compared to rounding, and one function compiled in every way against plain Python."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from aevb.models import take

ROWS = 4  # that a check looks at: two pieces of two, so that a scan goes over a `vmap`
SIGMA = 5.0  # standard errors that a mean may lie off


def require(condition: Any, message: str) -> None:
    """Not an `assert`, which `python -O` leaves out."""
    if not condition:
        raise AssertionError(message)


def within(found: Any, expected: Any, slack: float = 1.0) -> bool:
    """Whether the numbers are equal to rounding of their dtype, measured by the largest of them; NaN equals NaN."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return False
    if found.dtype.kind not in "fc":
        return bool(np.array_equal(found, expected))
    finite = np.abs(expected[np.isfinite(expected)])
    rounding = 1e-9 if found.dtype == np.float64 else 1e-4
    allowed = slack * rounding * max(1.0, float(finite.max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        close = np.abs(found - expected) <= allowed
    return bool(np.all(close | (found == expected) | (np.isnan(found) & np.isnan(expected))))


def named_leaves(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Each array of a structure, as NumPy has it, and where it is."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path), plain(leaf)


def plain(leaf: Any) -> np.ndarray:
    """An array, or the data of a key."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def first_difference(found: PyTree, expected: PyTree, *, exact: bool = False) -> str:
    """Where two structures of arrays differ, in words; nothing where they do not."""
    forms: list[Any] = [jax.tree.structure(tree) for tree in (found, expected)]
    if forms[0] != forms[1]:
        return f"its structure is {forms[0]}, not {forms[1]}"
    for (name, a), (_, b) in zip(named_leaves(found), named_leaves(expected), strict=True):
        if a.shape != b.shape or not (np.array_equal(a, b, equal_nan=a.dtype.kind == "f") if exact else within(a, b)):
            return f"{name or 'it'} is {_brief(a)} where {_brief(b)} was expected"
    return ""


def first_non_finite(tree: PyTree) -> str:
    """Where a structure of arrays holds NaN or an infinite number, in words; nothing where it does not."""
    for name, leaf in named_leaves(tree):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            return f"{name or 'it'} holds {leaf[~np.isfinite(leaf)].ravel()[0]}"
    return ""


def some_rows(rows: PyTree, num_rows: int) -> PyTree:
    """`ROWS` of them, from the first on, and from the front again where there are fewer."""
    return jax.tree.map(jnp.asarray, take(rows, np.arange(ROWS) % num_rows))


class CountTraces:
    """A function, and how often it was traced."""

    def __init__(self, fn: Callable[..., Any]):
        self.fn, self.count = fn, 0

    def __call__(self, *args: Any) -> Any:
        """As the function."""
        self.count += 1
        return self.fn(*args)


def moved(tree: PyTree) -> PyTree:
    """The same structure with other numbers, as after a step of training."""
    return jax.tree.map(lambda leaf: leaf * 1.01 if eqx.is_inexact_array(leaf) else leaf, tree)


def check_compiled(
    what: str,
    fn: Callable[[Any, Any], PyTree],
    fixed: Any,
    many: PyTree,
    more: Callable[[Any, Any], tuple[PyTree, PyTree]] | None = None,
) -> tuple[PyTree, PyTree, Callable[[Any, Any], tuple[PyTree, PyTree]]]:
    """Hold a function of one row, compiled under `jit`, `vmap` and `lax.scan` at once, against plain Python.

    Args:
        what: is tested, for messages.
        fn: (fixed, one) -> arrays, by name.
        fixed: the same for all rows: modules, say.
        many: of each array, `ROWS` rows.
        more: fn's arrays, and others that are made in the compiled program alone.

    Returns:
        fn's arrays, and the others, with `ROWS` rows each; and the compiled function of (fixed, many).

    Raises:
        AssertionError: they differ, or a second call with other values compiles again.
    """
    both = more or (lambda fixed, one: (fn(fixed, one), ()))
    counted = CountTraces(lambda fixed, pieces: jax.lax.map(jax.vmap(lambda one: both(fixed, one)), pieces))
    program = eqx.filter_jit(counted)

    def compiled(fixed: Any, many: PyTree) -> tuple[PyTree, PyTree]:
        halves = jax.tree.map(lambda leaf: leaf.reshape(2, ROWS // 2, *leaf.shape[1:]), many)
        found = program(fixed, halves)
        flat = jax.tree.map(lambda leaf: leaf.reshape(ROWS, *leaf.shape[2:]), found)
        values, others = flat
        return values, others

    values, others = compiled(fixed, many)
    for i in (0, ROWS - 1):
        if difference := first_difference(take(values, i), fn(fixed, take(many, i))):
            raise AssertionError(f"{what}: compiled, {difference} in plain Python; {_culprit(fn, fixed, many)}")
    traced = counted.count
    compiled(moved(fixed), many)
    require(
        counted.count == traced,
        f"{what}: a second call with other numbers compiles again. A static field that is not equal to itself (a NaN, "
        "an object made anew) does this; make it a plain value",
    )
    return values, others, compiled


def _culprit(fn: Callable[[Any, Any], PyTree], fixed: Any, many: PyTree) -> str:
    """Which of the three ways to compile changes the numbers, asked one by one once they are known to differ."""
    eager = [fn(fixed, take(many, i)) for i in range(ROWS)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *eager)
    if first_difference(eqx.filter_jit(fn)(fixed, take(many, 0)), eager[0]):
        return "jit alone changes it: code that runs when it is traced must not look at values, or at whether it is"
    if first_difference(jax.vmap(lambda one: fn(fixed, one))(many), stacked):
        return (
            "vmap changes it: something is shared by the rows. A distribution that is stored, closed over or returned "
            "from a vmap does this; make it anew within the function of one row"
        )
    return "lax.scan changes it: something outlives a row"


def _brief(values: np.ndarray) -> str:
    shown = np.array2string(values.ravel()[:3], precision=6, separator=", ")[1:-1]
    return f"({shown}{', ...' if values.size > 3 else ''}) of shape {values.shape}" if values.ndim else f"{shown}"
