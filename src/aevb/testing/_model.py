"""What a pair of models must do, whoever wrote it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from aevb.distributions import Reparameterized, rsample_and_log_prob, sample_and_log_prob
from aevb.models import (
    AbstractGenerativeModel,
    AbstractPriorLikelihood,
    AbstractRecognitionModel,
    Rows,
    as_floats,
    check_join,
    given_of,
    likelihood_given,
    log_joint_of,
    log_likelihood_of,
    log_prior_of,
    num_rows_of,
    posterior_of,
    take,
)

from ._compare import ROWS, SIGMA, check_compiled, first_non_finite, named_leaves, require, some_rows, within

Pair = tuple[AbstractGenerativeModel, AbstractRecognitionModel | None]


def check_model(
    generative: AbstractGenerativeModel,
    recognition: AbstractRecognitionModel | None,
    rows: Rows,
    key: PRNGKeyArray,
) -> None:
    """Hold a pair of models against what the library asks of it; nothing comes back if all is well.

    Shapes fit and each log-density is one number; compiled, under `vmap` over rows and in a `lax.scan` the numbers are
    those of plain Python, and other parameters compile nothing anew; log p(x, z) is the sum of its two parts, where it
    has two; `split` and `join` undo each other; samples have the form of an example, and no two share their noise; q's
    draws lie where p(x, z) has a density; the gradient of a lower bound is finite.

    Args:
        generative: p(x, z).
        recognition: q(z | x); None where there is none.
        rows: N examples as the models see them, after any transform; a few are looked at.
        key: of the noise.

    Raises:
        AssertionError: something is amiss; says what, where, and what to do.
        ValueError, TypeError: shapes do not fit, as the library says it anywhere. What the models themselves raise is
            let through as it is.

    Example:
        >>> from aevb.models import Mlp, Vae
        >>> pair = Vae(4, 2, Mlp((3,))).build(key=jax.random.key(0))
        >>> check_model(*pair, np.eye(4), jax.random.key(1))
    """
    for model, base in ((generative, AbstractGenerativeModel), (recognition, AbstractRecognitionModel)):
        if not (model is None and base is AbstractRecognitionModel):
            require(isinstance(model, base), f"got {type(model).__name__} where an {base.__name__} should be")
    many = as_floats(some_rows(rows, num_rows_of(rows)))
    check_join(generative, take(many, 0))
    who = f"{type(generative).__name__}" + (f" and {type(recognition).__name__}" if recognition is not None else "")
    keys = jax.random.split(key, (ROWS, 2, 2))  # made out here, for each costs time to compile
    values, gradients, _ = check_compiled(who, _values, (generative, recognition), (keys, many), _with_gradients)
    _check_samples(who, values, many)
    for i in range(ROWS):
        for name in (name for name in values if name in _WHY):
            require(
                not first_non_finite(values[name][i]), f"{who}: of row {i}, {name} is {values[name][i]}; {_WHY[name]}"
            )
    if isinstance(generative, AbstractPriorLikelihood):
        total = values["log p(x | z)"] + values["log p(z)"]
        require(
            within(values["log p(x, z)"], total, slack=3.0),
            f"{who}: log_joint gives {values['log p(x, z)'][0][0]} where log_likelihood and the prior sum to "
            f"{total[0][0]}; leave log_joint out, or make it their sum",
        )
    bad = first_non_finite(gradients)
    require(not bad, f"{who}: in the gradient of a lower bound, {bad}; guard what is not differentiable there")


# Draws of (x, z) for each row, and for each of them draws of x at its z.
_NUM_OWN, _NUM_OTHERS = 64, 8

_WHY = {
    "log p(x, z)": "the row must lie where the likelihood has a density, and z, a draw of q, where the prior has one",
    "log p(z)": "a draw of q must lie where the prior has a density",
    "log p(x | z)": "the row must lie where the likelihood has a density; is it for data of another kind?",
    "log q(z | x)": "a posterior must have a density at its own draws",
}


def _values(pair: Pair, one: Any) -> dict[str, Any]:
    """What is asked of one row, at two draws."""
    generative, recognition = pair
    (q_keys, p_keys), x = one
    given = given_of(generative, x)
    simulated, z_of_p = jax.vmap(lambda k: generative.sample(k, *given))(p_keys)
    found = {"simulated x": simulated, "simulated z": z_of_p}
    z = z_of_p
    if recognition is not None:
        q = posterior_of(recognition, x)
        draw = rsample_and_log_prob if q.has_rsample or isinstance(q, Reparameterized) else sample_and_log_prob
        z, found["log q(z | x)"] = jax.vmap(lambda k: draw(q, k))(q_keys)
        found["z of q"] = z
    found["log p(x, z)"] = jax.vmap(lambda z: log_joint_of(generative, x, z))(z)
    if isinstance(generative, AbstractPriorLikelihood):
        found["log p(z)"] = jax.vmap(lambda z: log_prior_of(generative, x, z))(z)
        found["log p(x | z)"] = jax.vmap(lambda z: log_likelihood_of(generative, x, z))(z)
        found |= _at_own_samples(generative, p_keys, given)
    return found


def _at_own_samples(generative: AbstractPriorLikelihood, keys: Array, given: tuple[Any, ...]) -> dict[str, Array]:
    """log p(x | z) of many (x, z) of `sample`, and of others x that the likelihood draws at the same z."""

    def of(key: PRNGKeyArray) -> tuple[Array, Array] | None:
        x, z = generative.sample(key, *given)
        likelihood = likelihood_given(generative, z, *given)
        others = likelihood.sample(jax.random.fold_in(key, 1), (_NUM_OTHERS,))
        observed = generative.split(x)[0]
        if jnp.shape(observed) != likelihood.event_shape:
            return None  # which is told where forms are compared
        return likelihood.log_prob(observed), likelihood.log_prob(others)

    many = jax.vmap(lambda i: jax.random.fold_in(keys[0], i))(jnp.arange(_NUM_OWN))
    found = jax.vmap(of)(many)
    return {} if found is None else {"log p(x | z) of own": found[0], "log p(x | z) of others": found[1]}


def _with_gradients(pair: Pair, one: Any) -> tuple[dict[str, Any], PyTree[Array]]:
    params, static = eqx.partition(pair, eqx.is_inexact_array)

    def bound(params: PyTree[Array]) -> tuple[Array, dict[str, Any]]:
        values = _values(eqx.combine(params, static), one)
        return jnp.mean(values["log p(x, z)"] - values.get("log q(z | x)", 0.0)), values

    gradients, values = jax.grad(bound, has_aux=True)(params)
    return values, gradients


def _check_samples(who: str, values: dict[str, Any], many: Rows) -> None:
    simulated = values["simulated x"]
    forms = [
        [(name, leaf.shape[skip:]) for name, leaf in named_leaves(tree)] for tree, skip in ((simulated, 2), (many, 1))
    ]
    same_form = str(jax.tree.structure(simulated)) == str(jax.tree.structure(many)) and forms[0] == forms[1]
    require(
        same_form,
        f"{who}: sample() gives x of the form {_spoken(forms[0])}, and a row has the form {_spoken(forms[1])}; "
        "let sample() give (x, z) with x as the rows are, in a conditional model by join()",
    )
    for name in ("simulated x", "simulated z", "z of q"):
        if name in values:
            bad = first_non_finite(values[name])
            require(not bad, f"{who}: of {name}, {bad}; a draw must be finite")
    for name, method in (("simulated z", "sample()"), ("z of q", "the posterior's sampler")):
        if name in values:
            z = np.asarray(values[name])
            require(
                z.size == 0 or not np.array_equal(z[:, 0], z[:, 1]),
                f"{who}: {method} gives the same z for two keys, in all of {ROWS} rows; draw with the key it is given",
            )
    if "log p(x | z) of own" in values:
        _check_ancestral(who, *(np.asarray(values[name]) for name in ("log p(x | z) of own", "log p(x | z) of others")))


def _check_ancestral(who: str, own: np.ndarray, others: np.ndarray) -> None:
    """log p(x | z) at x of `sample()`, and at draws of `likelihood(z)` at the same z: equal in the mean, and as varied.

    With one noise for all keys the first would hardly vary, and what is left of the gap comes from the mean of the few
    others: a ninth of its variance. Where one value makes up half of them (a rare event) nothing is told.
    """
    own, others = own.ravel(), others.reshape(own.size, -1)
    gap = own - others.mean(axis=1)
    error = np.sqrt((1 + 1 / others.shape[1]) * np.mean(others.var(axis=1, ddof=1)) / own.size)
    require(
        abs(gap.mean()) <= SIGMA * error + 1e-4 * (1 + np.abs(own).mean()),
        f"{who}: log p(x | z) is {gap.mean():.4g} higher at the (x, z) of sample() than at draws of likelihood(z), +- "
        f"{error:.2g} in the mean of {own.size}; let sample() draw x from the likelihood",
    )
    one_value = np.mean(np.isclose(others, np.median(others))) > 0.5
    require(
        one_value or gap.var(ddof=1) > 0.2 * error**2 * own.size,
        f"{who}: the x of sample() have one noise for all keys; draw x with a part of the key that it is given",
    )


def _spoken(form: list[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name or 'array'} {shape}" for name, shape in form) or "nothing"
