"""How noisy an estimator's gradient is: the comparison that section 2.2 of the paper is about."""

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel, Rows, as_floats, num_rows_of, tie, untie

from ._base import AbstractEstimator, Estimate, minibatch_bound

Pair = tuple[AbstractGenerativeModel, AbstractRecognitionModel]


class GradientStatistics(NamedTuple):
    """The gradient of the bound per example, over draws of its noise, for one group of P parameters."""

    mean_norm: float  # |E g|, the Euclidean norm of the mean gradient, freed of what the finite number of draws adds
    variance: float  # tr Cov g, the variances summed over the group's parameters
    signal_to_noise: float  # |E g| / sqrt(tr Cov g); NaN for a gradient that is zero in every draw
    num_parameters: int  # P
    num_draws: int
    seconds_per_draw: float  # of the whole gradient, all groups together, compilation left out


def gradient_statistics(
    estimator: AbstractEstimator,
    model: Pair,
    batch: Rows,
    key: PRNGKeyArray,
    *,
    num_draws: int = 100,
) -> dict[str, GradientStatistics]:
    """Mean, variance, signal-to-noise ratio and cost of an estimator's gradient at fixed parameters and rows.

    Draw i takes fresh noise for all M rows and differentiates the mean of their bounds. Give two estimators the same
    model, batch and key, and what differs is the estimators. One with a running mean is given that of one draw.

    Args:
        estimator: whose gradient.
        model: (generative, recognition).
        batch: M rows x, as the models see them.
        key: of the noise; draw i and row m use fold_in(fold_in(key, i), m).
        num_draws: how many; the variance has a relative standard error of about sqrt(2 / num_draws).

    Returns:
        Statistics by group of parameters: `generative`, `recognition`, and within each by attribute, as
        `recognition.loc`. Gradients are those of a bound in nats per example.

    Raises:
        ValueError: fewer than two draws.
        UnavailableError: the estimator does not go with the model; says why.

    Example:
        >>> from aevb.estimators import SgvbB
        >>> from aevb.models import Decoder, Encoder, Mlp
        >>> g = Decoder(4, 2, Mlp((3,)), key=jax.random.key(0))
        >>> q = Encoder(4, 2, Mlp((3,)), key=jax.random.key(1))
        >>> table = gradient_statistics(SgvbB(), (g, q), np.ones((5, 4), np.float32), jax.random.key(2))
        >>> sorted(table)[:2], table["recognition"].num_parameters
        (['generative', 'generative.logits'], 31)
    """
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2 to tell a variance, got {num_draws}")
    rows = as_floats(batch)  # as training has them: integers would wrap in the model's own arithmetic
    if estimator.init_state() != ():
        estimates = _estimates(estimator, tied(model), rows, jax.random.fold_in(key, num_draws))
        estimator = estimator.with_state(estimator.next_state(estimator.init_state(), estimates))
    # Untied, as in training: an encoder that the prior looks at belongs to the recognition model alone.
    generative, recognition = model
    params, static = eqx.partition((untie(generative), recognition), eqx.is_inexact_array)
    run = jax.jit(lambda params, estimator, rows, key: _moments(params, static, estimator, rows, key, num_draws))
    arguments = (params, estimator, rows, key)
    compiled = run.lower(*arguments).compile()
    seconds = 0.0
    for _ in range(2):  # a first run of a program is slow; a long one need not be repeated for that
        start = time.perf_counter()
        mean, squares = jax.device_get(compiled(*arguments))
        seconds = time.perf_counter() - start
        if seconds > 0.5:
            break
    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"generative": [], "recognition": []}
    leaves = zip(jax.tree_util.tree_leaves_with_path(mean), jax.tree.leaves(squares), strict=True)
    for (path, first), second in leaves:
        part = ("generative", "recognition")[path[0].idx]
        moment = (np.asarray(first, np.float64), np.asarray(np.asarray(second, np.float64) / (num_draws - 1)))
        # A dictionary of layers is told layer by layer.
        named = isinstance(path[2], jax.tree_util.DictKey) if len(path) > 2 else False
        for name in (part, f"{part}.{path[2].key}" if named else f"{part}{jax.tree_util.keystr(path[1:2])}"):
            groups.setdefault(name, []).append(moment)
    return {name: _summary(group, num_draws, seconds / num_draws) for name, group in groups.items()}


def tied(model: Pair) -> Pair:
    """The pair with its prior knowing the encoder, where it asks for it."""
    generative, recognition = model
    return tie(generative, recognition), recognition


def _summary(moments: list[tuple[np.ndarray, np.ndarray]], num_draws: int, seconds: float) -> GradientStatistics:
    variance = sum(float(v.sum()) for _, v in moments)
    # |mean of n draws|^2 exceeds |E g|^2 by tr Cov / n on average.
    squared_norm = max(sum(float(np.square(m).sum()) for m, _ in moments) - variance / num_draws, 0.0)
    ratio = float(np.sqrt(squared_norm / variance)) if variance else float("inf" if squared_norm else "nan")
    size = sum(m.size for m, _ in moments)
    return GradientStatistics(float(np.sqrt(squared_norm)), variance, ratio, size, num_draws, seconds)


@eqx.filter_jit
def _estimates(estimator: AbstractEstimator, model: Pair, rows: Rows, key: PRNGKeyArray) -> Estimate:
    num_rows = num_rows_of(rows)
    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(num_rows))
    return minibatch_bound(estimator, keys, *model, rows, num_rows)[1]


def _moments(
    params: PyTree[Array],
    static: Any,
    estimator: AbstractEstimator,
    rows: Rows,
    key: PRNGKeyArray,
    num_draws: int,
) -> tuple[PyTree[Array], PyTree[Array]]:
    """The mean of the gradients, and their squared distances from it, summed: Welford's recursion, draw by draw."""

    def bound(params: PyTree[Array], key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.mean(_estimates(estimator, tied(eqx.combine(params, static)), rows, key).bound)

    def draw(carry: tuple[PyTree[Array], PyTree[Array]], i: Array) -> tuple[tuple[PyTree[Array], PyTree[Array]], None]:
        mean, squares = carry
        g = jax.grad(bound)(params, jax.random.fold_in(key, i))
        new = jax.tree.map(lambda m, g: m + (g - m) / (i + 1.0), mean, g)
        return (new, jax.tree.map(lambda s, g, m, n: s + (g - m) * (g - n), squares, g, mean, new)), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(draw, (zero, zero), jnp.arange(num_draws))[0]
