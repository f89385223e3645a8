"""What a transform of rows must do, whoever wrote it."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb import AbstractTransform
from aevb.models import Rows, num_rows_of, take

from ._compare import ROWS, SIGMA, check_compiled, first_difference, first_non_finite, require, some_rows, within

NUM_DRAWS = 400


def check_transform(
    transform: AbstractTransform,
    rows: Rows,
    key: PRNGKeyArray,
    *,
    observed: Callable[[Any], Any] = lambda x: x,
    density: bool = True,
) -> None:
    """Hold a transform against what the library asks of it; nothing comes back if all is well.

    The same key gives the same x, compiled, under `vmap` and in a `lax.scan` as in plain Python; `expected` is the mean
    of x over keys; what `inverse` gives is transformed into the same x again, and is the row where x is a smooth
    one-to-one map of it, whose `log_jacobian` is that of its derivative; `to_dict` is plain values.

    Args:
        transform: to be checked.
        rows: N rows as they are stored; a few are looked at. Float32 must hold them: see `aevb.fit_model`.
        key: of the noise.
        observed: of a row and of an x that are structures, the array that is modelled, and that `inverse` gives back.
        density: whether the likelihood is to be a density, which changes with the units of x; of probabilities (of
            pixels, of counts), `log_jacobian` must be 0.

    Raises:
        AssertionError: something is amiss; says what, and what to do.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Scaled(AbstractTransform):
        ...     scale: float
        ...     def __call__(self, key, row):
        ...         return row / self.scale
        ...     def inverse(self, x):
        ...         return x * self.scale
        ...     def log_jacobian(self):
        ...         return -2 * float(np.log(self.scale))
        >>> check_transform(Scaled(10.0), np.ones((5, 2)), jax.random.key(0))
        >>> check_transform(Scaled(10.0), np.ones((5, 3)), jax.random.key(0))
        Traceback (most recent call last):
        ...
        AssertionError: Scaled: log_jacobian() gives -4.60517, and log |det dx/d row| of row 0 is -6.90776; ...
    """
    require(isinstance(transform, AbstractTransform), f"got {type(transform).__name__}, which is no AbstractTransform")
    who, many = type(transform).__name__, some_rows(rows, num_rows_of(rows))
    _check_plain(who, transform.to_dict())
    keys = jax.random.split(key, ROWS)

    def values(fixed: Any, one: Any) -> dict[str, Any]:
        key, row = one
        return {"x": transform(key, row), "expected(row)": transform.expected(row)}

    def with_draws(fixed: Any, one: Any) -> tuple[dict[str, Any], Any]:
        key, row = one
        draws = jax.vmap(lambda k: transform(k, row))(jax.random.split(key, NUM_DRAWS))
        return values(fixed, one), draws

    found, draws, _ = check_compiled(who, values, (), (keys, many), with_draws)
    bad = first_non_finite(found)
    require(not bad, f"{who}: {bad}; x must be finite for every row that is stored")
    random = _check_expected(who, found, draws)
    back = _check_inverse(who, transform, take(many, 0), keys, jax.tree.map(np.asarray, found["x"]), many, observed)
    told = transform.log_jacobian()
    require(
        isinstance(told, float | int) and np.isfinite(told), f"{who}: log_jacobian() must give a number, gave {told!r}"
    )
    if not density:
        require(told == 0.0, f"{who}: log_jacobian() gives {told:.6g}, but x has probabilities; let it give 0")
        return
    fixed = ", at a fixed key," if random else ""  # of x = (row + noise) / s, say, log p(x) bounds that of the row
    slopes = [_log_det(transform, keys[i], take(many, i), observed) for i in range(ROWS)]
    for i, slope in enumerate(slopes):
        if slope is None:
            require(
                told == 0.0,
                f"{who}: log_jacobian() gives {told:.6g}, but x is{fixed} no one-to-one map of row {i}; let it give 0",
            )
            continue
        require(
            abs(slope - told) <= 1e-3 * (1 + abs(told)),
            f"{who}: log_jacobian() gives {told:.6g}, and log |det dx/d row|{fixed} of row {i} is {slope:.6g}; "
            + (
                "the two must be equal, for every row"
                if len({round(s or 0, 3) for s in slopes}) == 1
                else _NOT_CONSTANT
            ),
        )
        row = np.asarray(observed(take(many, i)), float)
        require(
            within(np.asarray(back[i], np.float32), row.astype(np.float32), slack=10.0),
            f"{who}: inverse(x) gives {np.ravel(back[i])[:3]} for row {i}, which is {row.ravel()[:3]}; let it undo the "
            "transform",
        )


_NOT_CONSTANT = (
    "it differs from row to row, and log_jacobian() is one number for all: make such a map of the rows before they are "
    "given, and add its Jacobian yourself"
)


def _check_plain(who: str, told: Any) -> None:
    again = json.loads(json.dumps(told))  # what is not plain is json's own TypeError
    require(
        isinstance(told, dict) and json.loads(json.dumps(again)) == again and again.keys() == told.keys(),
        f"{who}: to_dict() must give a table of plain values by name, as JSON has them, gave {told!r:.200}",
    )


def _check_expected(who: str, found: dict[str, Any], draws: Any) -> bool:
    """`expected` is the mean of x over keys. Gives whether x is random."""
    forms: list[Any] = [jax.tree.structure(found[name]) for name in ("x", "expected(row)")]
    require(forms[0] == forms[1], f"{who}: expected(row) has the structure {forms[1]}, and x {forms[0]}; give it x's")
    random = False
    leaves = zip(*map(jax.tree.leaves, (found["x"], found["expected(row)"], draws)), strict=True)
    for x, expected, many in ((np.asarray(a), np.asarray(b, float), np.asarray(c, float)) for a, b, c in leaves):
        require(
            x.shape == expected.shape,
            f"{who}: expected(row) has shape {expected.shape[1:]} where x has {x.shape[1:]}; give it x's shape",
        )
        spread = float(np.ptp(many, axis=1).max(initial=0.0))  # over keys; 0 where x needs none
        error = many.std(axis=1, ddof=1) / np.sqrt(NUM_DRAWS)
        # A value that is rare may not have been drawn at all: of ten in expectation one is, for certain.
        off = (
            np.abs(many.mean(axis=1) - expected)
            - SIGMA * error
            - 10 / NUM_DRAWS * spread
            - 1e-4 * (1 + np.abs(expected))
        )
        require(
            np.all(off <= 0),
            f"{who}: expected(row) is not the mean of x over {NUM_DRAWS} keys: it is off by {off.max(initial=0.0):.4g} "
            "more than noise could make it; write an expected(row) that averages over the noise",
        )
        random |= spread > 0
    return random


def _check_inverse(
    who: str, transform: AbstractTransform, row: Any, keys: Array, x: Any, many: Any, observed: Callable[[Any], Any]
) -> np.ndarray:
    """Of x, `inverse` gives rows that are transformed into it again."""
    of_x = observed(x)
    require(
        isinstance(of_x, np.ndarray),
        f"{who}: x is a structure; say by observed= which array of it is modelled, and is given to inverse()",
    )
    back = np.asarray(transform.inverse(of_x))
    stored = observed(many)
    require(
        back.shape == np.shape(stored),
        f"{who}: inverse() gives shape {back.shape} for {ROWS} x, and the rows have {np.shape(stored)}",
    )
    if isinstance(row, jax.Array | np.ndarray):
        again = jax.vmap(transform)(keys, jnp.asarray(back).astype(row.dtype))
        difference = first_difference(np.asarray(again, np.float32), np.asarray(x, np.float32))
        require(
            not difference,
            f"{who}: what inverse() gives is not transformed into the x that it came from: {difference}; let inverse() "
            "undo the transform",
        )
    return back


def _log_det(transform: AbstractTransform, key: PRNGKeyArray, row: Any, observed: Callable[[Any], Any]) -> float | None:
    """log |det dx/d row| of what is observed, in float64; None where x is no smooth one-to-one map of it."""
    with jax.enable_x64(True):
        floats = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), row)
        jacobian = jax.jacfwd(lambda part: observed(transform(key, _with(floats, part, observed))))(observed(floats))
        size = observed(floats).size
        if jacobian.size != size * size:
            return None
        sign, log_det = np.linalg.slogdet(np.asarray(jacobian, float).reshape(size, size))
        return float(log_det) if sign != 0 else None


def _with(row: Any, part: Array, observed: Callable[[Any], Any]) -> Any:
    """A row with another value of what is observed."""
    leaves, structure = jax.tree.flatten(row)
    target = observed(row)
    return jax.tree.unflatten(structure, [part if leaf is target else leaf for leaf in leaves])
