"""What a training algorithm must do, whoever wrote it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows, num_rows_of, take
from aevb.train import Algorithm, Batch, Metrics, TrainState

from ._compare import CountTraces, first_difference, first_non_finite, named_leaves, plain, require


def check_algorithm(algorithm: Algorithm, rows: Rows, key: PRNGKeyArray, *, batch_size: int = 4) -> None:
    """Hold a training algorithm against what the loop asks of it; nothing comes back if all is well.

    The state is a `TrainState` of arrays, whose structure, shapes and dtypes no step changes, so that it can be carried
    by a `lax.scan`; a step raises its counter by one and leaves the key; compiled it does what it does in plain Python,
    twice the same, and a second step compiles nothing; the order of a batch's rows changes nothing; `ok` is one
    boolean, and a batch of NaN either is not ok and moves nothing, or leaves every parameter finite; `init` can be
    called again after its state was donated; `model` gives models and `gradients` finite arrays.

    Args:
        algorithm: to be checked.
        rows: N rows as they are stored, for which the algorithm was made.
        key: of the run.
        batch_size: rows of a step; N where there are fewer.

    Raises:
        AssertionError: something is amiss; says what, and what to do.

    Example:
        >>> import optax
        >>> from aevb import estimators, train
        >>> from aevb.models import Mlp, Vae
        >>> pair = Vae(4, 2, Mlp((3,))).build(key=jax.random.key(0))
        >>> algorithm = train.aevb(*pair, estimators.SgvbB(), optax.adam(1e-3), num_examples=8)
        >>> check_algorithm(algorithm, np.eye(4), jax.random.key(1))
    """
    require(isinstance(algorithm, Algorithm), f"got {type(algorithm).__name__}, which is no aevb.train.Algorithm")
    state = algorithm.init(key)
    require(isinstance(state, TrainState), f"init(key) must give a TrainState, gave {type(state).__name__}")
    stray = [name for name, leaf in _with_names(state) if not isinstance(leaf, jax.Array)]
    require(not stray, f"the state must hold JAX arrays alone, and {', '.join(stray)} of it is none; use jnp.asarray")
    require(_is_key(state.key, key), "init(key): the state's key must be the key that is given")
    require(int(state.step) == 0, f"init(key): the state's step must be 0, is {state.step}")
    index = np.arange(min(batch_size, num_rows_of(rows)))
    batch = Batch(jax.tree.map(jnp.asarray, take(rows, index)), jnp.asarray(index))
    counted = CountTraces(algorithm.step)
    step = jax.jit(counted)
    after, metrics = step(state, batch)
    _check_form(state, after)
    _check_metrics(metrics)
    require(int(after.step) == 1, f"step: the state's step must rise by 1, and is {after.step} after the first")
    require(_is_key(after.key, key), "step: the state's key must stay as it is; fold it with the step, do not split it")
    traced = counted.count
    step(after, batch)
    require(
        counted.count == traced,
        "step: the second one compiles again; let init give every array the dtype that it has after a step "
        "(one made of a Python number, as by jnp.array(1.0), has a weak type, which the first step changes)",
    )
    _same("step: asked twice the same, it", step(state, batch), (after, metrics), exact=True)
    _same("step: in plain Python, it", algorithm.step(state, batch), (after, metrics))
    turned = jax.tree.map(lambda leaf: leaf[::-1], batch)
    difference = first_difference(step(state, turned)[1], metrics)
    require(
        not difference,
        f"step: with the rows of a batch in another order {difference}; let a row's noise depend on batch.indices and "
        "not on its place",
    )
    require(bool(metrics.ok), "step: the first one, on the rows that were given, is not ok")
    bad = first_non_finite((metrics, after.params))
    require(not bad, f"step: of (metrics, params), {bad}, and the step says that it is ok")
    _check_nan(step, after, batch)
    bad = first_non_finite(algorithm.gradients(state, batch))
    require(not bad, f"gradients: {bad}, of a step that is ok")
    _check_model(algorithm.model(after))
    _check_donation(algorithm, jnp.array(key))


def _with_names(tree: PyTree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _is_key(found: Any, key: PRNGKeyArray) -> bool:
    return np.array_equal(plain(found), plain(key))


def _same(what: str, found: PyTree, expected: PyTree, *, exact: bool = False) -> None:
    difference = first_difference(found, expected, exact=exact)
    require(
        not difference,
        f"{what} gives another result than compiled: {difference}; a step must be a pure function of state and batch",
    )


def _check_form(before: TrainState, after: TrainState) -> None:
    require(isinstance(after, TrainState), f"step must give (TrainState, Metrics), gave {type(after).__name__}")
    structures: list[Any] = [jax.tree.structure(state) for state in (before, after)]
    require(
        structures[0] == structures[1],
        f"step changes the structure of the state from {structures[0]} to {structures[1]}; a scan carries one",
    )
    for (name, a), (_, b) in zip(_with_names(before), _with_names(after), strict=True):
        require(
            (a.shape, a.dtype) == (b.shape, b.dtype),
            f"step changes state{name} from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}; a scan carries "
            "arrays of one dtype and shape",
        )


def _check_metrics(metrics: Metrics) -> None:
    require(isinstance(metrics, Metrics), f"step must give (TrainState, Metrics), gave {type(metrics).__name__}")
    for name, value in metrics._asdict().items():
        told = name in ("objective", "grad_norm", "ok")
        require(value is not None or not told, f"step: metrics.{name} is None, and every algorithm must tell it")
        shape = None if value is None else jnp.shape(value)
        require(shape in ((), None), f"step: metrics.{name} must be one number, but has shape {shape}")
    require(
        jnp.asarray(metrics.ok).dtype == bool,
        f"step: metrics.ok must be a boolean, is {jnp.asarray(metrics.ok).dtype}",
    )


def _check_nan(step: Any, state: TrainState, batch: Batch) -> None:
    """A batch of NaN, where its rows can hold any."""
    rows = jax.tree.map(lambda leaf: leaf * jnp.nan if leaf.dtype.kind == "f" else leaf, batch.rows)
    if not any(leaf.dtype.kind == "f" for _, leaf in named_leaves(rows)):
        return
    after, metrics = step(state, Batch(rows, batch.indices))
    require(int(after.step) == int(state.step) + 1, "step: on a batch of NaN the state's step must rise by 1, too")
    if bool(metrics.ok):
        bad = first_non_finite(after.params)
        require(not bad, f"step: on a batch of NaN it says ok, and of the parameters {bad}; say ok=False, and skip it")
        return
    moving = [(s.params, s.opt_state, s.carry) for s in (after, state)]
    difference = first_difference(*moving, exact=True)
    require(
        not difference,
        f"step: on a batch of NaN it says that it is not ok, and moves (params, opt_state, carry){difference}; skip "
        "such a step whole",
    )


def _check_model(models: Any) -> None:
    good = isinstance(models, tuple) and len(models) == 2
    require(good, f"model(state) must give (generative, recognition), gave {type(models).__name__}")
    generative, recognition = models
    require(
        isinstance(generative, AbstractGenerativeModel) and isinstance(recognition, AbstractRecognitionModel | None),
        f"model(state) must give an AbstractGenerativeModel and an AbstractRecognitionModel or None, gave "
        f"{type(generative).__name__} and {type(recognition).__name__}",
    )


def _check_donation(algorithm: Algorithm, key: PRNGKeyArray) -> None:
    """The loop gives the state's memory away: what the algorithm keeps must not lie in it."""
    first = algorithm.init(key)
    kept = jax.tree.map(plain, first)
    for leaf in jax.tree.leaves(first):
        leaf.delete()  # as the compiled epoch does, whose argument it is
    require(not key.is_deleted(), "init: the state's key is the caller's own array, which training gives away; copy it")
    again = algorithm.init(key)
    gone = [name for name, leaf in _with_names(again) if leaf.is_deleted()]
    require(
        not gone, f"init: a second state shares {', '.join(gone[:3])} with the first, whose memory is gone; copy there"
    )
    _same("init: asked again, it", jax.tree.map(plain, again), kept, exact=True)
