"""The loop: an epoch compiled into one `lax.scan` over data that stay on the device as stored."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from aevb.data import epoch_order
from aevb.errors import DivergenceError
from aevb.models import Rows, num_rows_of, take

from ._algorithm import Algorithm, Batch, Metrics, TrainState

# So many skipped steps in a row end the run.
MAX_SKIPPED_IN_A_ROW = 10

# So many compiled epochs are kept, each for an algorithm and a shape of its data.
_KEPT = 4

CompiledEpoch = Callable[[TrainState, Any, PRNGKeyArray, Int[Array, ""]], tuple[TrainState, Metrics]]


@functools.lru_cache(maxsize=_KEPT)
def compile_epoch(algorithm: Algorithm, *, num_examples: int, batch_size: int) -> CompiledEpoch:
    """One pass over all rows, as one compiled function: the same one for the same arguments.

    The order of the rows is `epoch_order(order_key, epoch, N)`, a pure function of its arguments. Every row is seen
    once: where N is not a multiple of M, the last minibatch is smaller (and is compiled apart).

    Args:
        algorithm: what to do with a minibatch.
        num_examples: N.
        batch_size: M, at most N.

    Returns:
        `epoch(state, rows, order_key, epoch) -> (state, metrics)`. `rows` is an array of any dtype, or a structure of
        arrays, with N rows each; `metrics` has one entry per step. The state that is passed in is donated: its buffers
        are reused, do not use it again.

    Raises:
        ValueError: M > N or M < 1.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must lie between 1 and the {num_examples} rows of the data, got {batch_size}")
    num_full, remainder = divmod(num_examples, batch_size)

    def epoch(
        state: TrainState, rows: Rows, order_key: PRNGKeyArray, epoch: Int[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        order = epoch_order(order_key, epoch, num_examples)

        def step(state: TrainState, index: Int[Array, " M"]) -> tuple[TrainState, Metrics]:
            return algorithm.step(state, Batch(take(rows, index), index))

        full = order[: num_full * batch_size].reshape(num_full, batch_size)
        state, metrics = jax.lax.scan(step, state, full)
        if remainder:
            state, last = step(state, order[num_full * batch_size :])
            metrics = jax.tree.map(lambda many, one: jnp.append(many, one), metrics, last)
        return state, metrics

    return jax.jit(epoch, donate_argnums=0)


class EpochSummary(NamedTuple):
    """One epoch's outcome. Means are over rows, in nats per example, summed in float64 on the host.

    They average over the epoch while the parameters move, as training curves commonly do; steps that were skipped
    are left out of them, and NaN is what an epoch has in which all were. None: what the algorithm does not tell.
    """

    epoch: int  # counted from 1
    objective: float
    bound: float | None
    log_likelihood: float | None
    kl: float | None
    grad_norm: float
    skipped_steps: int
    seconds: float
    examples_per_second: float
    kl_per_layer: dict[str, float] | None = None  # of a latent in layers; see `aevb.estimators.Estimate`


def epochs(
    algorithm: Algorithm,
    state: TrainState,
    rows: Rows,
    *,
    order_key: PRNGKeyArray,
    batch_size: int,
    num_epochs: int,
    first_epoch: int = 0,
    row_numbers: np.ndarray | None = None,
) -> Iterator[tuple[TrainState, EpochSummary]]:
    """Train, epoch by epoch.

    Args:
        algorithm: what to do with a minibatch.
        state: where to start; donated, do not use it again.
        rows: the data as stored: an array (N, ...), or a structure of arrays with N rows each.
        order_key: key of the shuffling.
        batch_size: M.
        num_epochs: number of passes over the data.
        first_epoch: how many went before this call: with the state that they ended with, the run goes on as if it had
            not been interrupted.
        row_numbers: (N,), what the rows are called in the message of an error; None: 0..N-1.

    Yields:
        After each epoch the state and its summary. The state belongs to the loop until the next one is asked for;
        copy what you want to keep. The host waits for the device once an epoch.

    Raises:
        ValueError: the arrays of the rows have different lengths.
        DivergenceError: ten steps in a row did not count, for want of a finite bound or gradient. Names the step, its
            rows and the first bad tensor; its attribute `state` is the last good one.

    Example:
        See `examples/own_model.py`.
    """
    num_examples = num_rows_of(rows)
    run_epoch = compile_epoch(algorithm, num_examples=num_examples, batch_size=batch_size)
    on_device = jax.device_put(jax.tree.map(jnp.asarray, rows))
    sizes = np.full(-(-num_examples // batch_size), batch_size, dtype=np.float64)
    sizes[-1] = num_examples - batch_size * (len(sizes) - 1)
    in_a_row = 0
    for epoch in range(first_epoch, first_epoch + num_epochs):
        start = time.perf_counter()
        state, metrics = run_epoch(state, on_device, order_key, jnp.asarray(epoch, jnp.int32))
        metrics = jax.device_get(metrics)  # waits for the epoch to end
        seconds = time.perf_counter() - start
        for step, ok in enumerate(metrics.ok):
            in_a_row = 0 if ok else in_a_row + 1
            if in_a_row == MAX_SKIPPED_IN_A_ROW:
                order = np.asarray(epoch_order(order_key, jnp.asarray(epoch, jnp.int32), num_examples))
                index = order[step * batch_size : (step + 1) * batch_size]
                again = state._replace(step=state.step - (len(metrics.ok) - step))  # that step's noise
                names = index if row_numbers is None else row_numbers[index]
                error = DivergenceError(_describe(algorithm, again, on_device, index, names, epoch, step))
                error.state = state  # steps that were skipped left it as it was
                raise error
        yield state, _summarize(epoch, metrics, sizes, seconds)


def _summarize(epoch: int, metrics: Metrics, sizes: np.ndarray, seconds: float) -> EpochSummary:
    weights = np.where(metrics.ok, sizes, 0.0)
    total = float(weights.sum())

    def mean(values: Any) -> float:
        return float(np.sum(np.where(metrics.ok, values, 0.0) * weights) / total) if total else float("nan")

    def mean_if_told(values: Any) -> float | None:
        return None if values is None else mean(values)

    layers: Any = metrics.kl_per_layer
    return EpochSummary(
        epoch=epoch + 1,
        objective=mean(metrics.objective),
        bound=mean_if_told(metrics.bound),
        log_likelihood=mean_if_told(metrics.log_likelihood),
        kl=mean_if_told(metrics.kl),
        grad_norm=mean(metrics.grad_norm),
        skipped_steps=int(np.sum(~np.asarray(metrics.ok))),
        seconds=seconds,
        examples_per_second=float(sizes.sum()) / seconds,
        kl_per_layer=layers and {name: mean(layer) for name, layer in layers.items()},
    )


def _describe(
    algorithm: Algorithm,
    state: TrainState,
    rows: Rows,
    index: np.ndarray,
    names: np.ndarray,
    epoch: int,
    step: int,
) -> str:
    """Where training broke: skipped steps changed nothing, so the last good parameters show the culprit again."""
    grads = jax.jit(algorithm.gradients)(state, Batch(take(rows, index), jnp.asarray(index)))
    bad = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        if not bool(jnp.all(jnp.isfinite(leaf)))
    ]
    where = f"the first bad tensor is the gradient of model{bad[0]}" if bad else "the gradients of a re-run are finite"
    shown = ", ".join(str(i) for i in names[:8]) + (", ..." if len(names) > 8 else "")
    return (
        f"training stopped: {MAX_SKIPPED_IN_A_ROW} steps in a row had a non-finite bound or gradient, the last of them "
        f"step {step + 1} of epoch {epoch + 1} (rows {shown}); {where}. The last good parameters are kept. Try a "
        "smaller learning rate, or look at these rows for extreme values"
    )
