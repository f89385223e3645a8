"""What an estimator of a bound must do, whoever wrote it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from aevb.estimators import AbstractEstimator, Estimate

from ._compare import ROWS, SIGMA, check_compiled, first_difference, require
from ._linear_gaussian import Known, LinearGaussian, LinearRecognition, exact_terms, flat, known_problem

Slopes = tuple[np.ndarray, np.ndarray]  # of each draw, for p and for q
Ask = Callable[[LinearGaussian, LinearRecognition], tuple[Estimate, Slopes, Slopes]]


def check_estimator(
    estimator: AbstractEstimator,
    key: PRNGKeyArray,
    *,
    lower_bound: bool | None = None,
    own_gradient: bool = False,
    num_draws: int = 2000,
) -> None:
    """Hold an estimator against a linear-Gaussian model whose log p(x) and ELBO are known; in float64.

    One number for one example; compiled, under `vmap` and in a `lax.scan` as in plain Python. Where q is the true
    posterior the mean is log p(x), its gradient that of log p(x), and none for q: so it is for every bound that is a
    smooth function of weights w = p(x, z) / q(z | x). Where q is wrong the mean is not above log p(x); it is the ELBO,
    value and gradient, of one that calls itself so. There, too, the gradient is that of the mean bound, by differences
    of equal noise. `log_likelihood` and `kl` are those of q in the mean; where they are `differentiable_terms`, their
    difference is the bound, draw by draw and in its gradient. The state keeps its form.

    Args:
        estimator: to be checked.
        key: of the noise.
        lower_bound: whether its mean is at most log p(x). None: as `bound_name` says, which ends in "elbo" or "bound"
            where it is so, and in another word, "objective" say, where it is not.
        own_gradient: whether the gradient is meant to be another than that of the mean bound, as that of `Piwae` is.
        num_draws: means are over so many, and are held to five standard errors.

    Raises:
        AssertionError: something is amiss; says what, and what to do.

    Example:
        >>> from aevb.estimators import Iwae
        >>> check_estimator(Iwae(3), jax.random.key(0))
    """
    require(isinstance(estimator, AbstractEstimator), f"got {type(estimator).__name__}, which is no AbstractEstimator")
    if lower_bound is None:
        lower_bound = estimator.bound_name.endswith(("elbo", "bound"))
    who = type(estimator).__name__
    with jax.enable_x64(True):
        known = known_problem()
        keys = jax.random.split(key, (ROWS, num_draws // ROWS))
        ask = _compiled(who, estimator, known, keys)
        found, of_wrong, terms = ask(known.generative, known.wrong)
        require(np.ptp(found.bound) > 0, f"{who}: the bound is the same for every key; draw with the key that is given")
        truth, gradients, _ = ask(known.generative, known.true)
        exact = float(known.generative.log_marginal(known.x))
        _check_mean(f"{who}: with the true posterior, the bound", truth.bound, exact, "log p(x)")
        slope = jax.grad(lambda g: g.log_marginal(known.x))(known.generative)
        of_truth = (flat(slope), jnp.zeros(gradients[1].shape[-1]))
        _check_gradients(f"{who}: with the true posterior", gradients, of_truth, "log p(x)")
        value, slopes = jax.value_and_grad(_exact_elbo)((known.generative, known.wrong), known.x)
        if estimator.bound_name == "elbo":
            _check_mean(f"{who}: with a wrong posterior, the bound", found.bound, float(value), "the ELBO")
            _check_gradients(f"{who}: with a wrong posterior", of_wrong, tuple(map(flat, slopes)), "the ELBO")
        if not own_gradient:
            _check_slopes(who, ask, known, of_wrong)
        if lower_bound:
            _check_below(who, found.bound, exact)
        for name, term in zip(
            ("log_likelihood", "kl"), exact_terms(known.generative, known.wrong, known.x), strict=True
        ):
            values = getattr(found, name)
            require(values is not None, f"{who}: {name} is None for a model in two parts, of which it can be told")
            _check_mean(f"{who}: with a wrong posterior, {name}", values, float(term), "its exact value")
        if estimator.differentiable_terms:
            _check_terms(who, found, of_wrong, terms)
        _check_state(estimator, found)


def _exact_elbo(pair: tuple[LinearGaussian, LinearRecognition], x: Array) -> Array:
    reconstruction, kl = exact_terms(pair[0], pair[1], x)
    return reconstruction - kl


def _compiled(who: str, estimator: AbstractEstimator, known: Known, keys: PRNGKeyArray) -> Ask:
    """Of a pair of models, the estimates of all keys, in NumPy, and the gradients, for p and for q, of their bounds and
    of log_likelihood - kl."""

    def values(fixed: Any, keys: PRNGKeyArray) -> Estimate:
        generative, recognition = fixed
        estimate = estimator(keys, generative, recognition, known.x)
        require(isinstance(estimate, Estimate), f"{who}: must give an Estimate, but gave {type(estimate).__name__}")
        for name, value in estimate._asdict().items():
            shape = None if value is None else jnp.shape(value)
            require(shape in ((), None), f"{who}: {name} must be one number for one example, but has shape {shape}")
        return estimate

    def slopes(fixed: Any, keys: PRNGKeyArray) -> tuple[Estimate, Any, Any]:
        def bound(pair: Any) -> tuple[Array, Estimate]:
            estimate = values(pair, keys)
            return estimate.bound, estimate

        def difference(pair: Any) -> Array:
            estimate = values(pair, keys)
            if estimate.log_likelihood is None or estimate.kl is None:
                return jnp.zeros(())
            return estimate.log_likelihood - estimate.kl

        of_bound, estimate = jax.grad(bound, has_aux=True)(fixed)
        of_terms = jax.grad(difference)(fixed) if estimator.differentiable_terms else of_bound
        return estimate, tuple(map(flat, of_bound)), tuple(map(flat, of_terms))

    each = jax.vmap(slopes, in_axes=(None, 0))

    def first(fixed: Any, keys: PRNGKeyArray) -> Estimate:
        return values(fixed, keys[0])  # of a row's many keys

    def both(fixed: Any, keys: PRNGKeyArray) -> tuple[Estimate, Any]:
        return first(fixed, keys), each(fixed, keys)

    _, _, program = check_compiled(who, first, (known.generative, known.wrong), keys, both)

    def ask(generative: LinearGaussian, recognition: LinearRecognition) -> tuple[Estimate, Slopes, Slopes]:
        _, many = program((generative, recognition), keys)
        asked: tuple[Estimate, Slopes, Slopes] = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), many
        )
        return asked

    return ask


def _check_slopes(who: str, ask: Ask, known: Known, gradients: Slopes) -> None:
    """E[gradient] against d/dt E[bound] along a direction of theta and one of phi, by central differences.

    The bounds at both ends have the same noise, so that little of it is left in their difference.
    """
    step = 1e-4
    for part, (name, gradient) in enumerate(zip(("p(x, z)", "q(z | x)"), gradients, strict=True)):
        ends, along = [], np.cos(np.arange(gradient.shape[1]))
        for moved in (step * along, -step * along):
            models: list[Any] = [known.generative, known.wrong]
            values, unravel = ravel_pytree(models[part])
            models[part] = unravel(values + moved)
            ends.append(ask(*models)[0])
        difference, found = (ends[0].bound - ends[1].bound) / (2 * step), gradient @ along
        error = np.hypot(*(values.std(ddof=1) / np.sqrt(len(values)) for values in (difference, found)))
        require(
            abs(found.mean() - difference.mean()) <= SIGMA * error + 1e-5 * (1 + abs(difference.mean())),
            f"{who}: with a wrong posterior, the gradient for {name} is {found.mean():.6g} along a direction in which "
            f"the mean bound changes by {difference.mean():.6g} (+- {error:.2g}); mend it, or, if another is meant, "
            "say own_gradient=True",
        )


def _check_terms(who: str, found: Estimate, of_bound: Slopes, of_terms: Slopes) -> None:
    """bound = log_likelihood - kl, draw by draw, and in the mean so are their gradients, which a weight sets apart."""
    log_likelihood, kl = np.asarray(found.log_likelihood), np.asarray(found.kl)
    difference = first_difference(log_likelihood - kl, np.asarray(found.bound))
    require(
        not difference,
        f"{who}: differentiable_terms says that bound = log_likelihood - kl, but {difference}; mend it, or say False",
    )
    for name, ours, theirs in zip(("p(x, z)", "q(z | x)"), of_terms, of_bound, strict=True):
        off, error = (ours - theirs).mean(axis=0), (ours - theirs).std(axis=0, ddof=1) / np.sqrt(len(ours))
        require(
            bool(np.all(np.abs(off) <= SIGMA * error + 1e-7)),
            f"{who}: differentiable_terms says that log_likelihood and kl can be climbed, but in the mean the "
            f"gradient of their difference for {name} is not the bound's; mend it, or say False",
        )


def _check_mean(what: str, values: Any, exact: float, of: str) -> None:
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    require(
        abs(mean - exact) <= SIGMA * error + 1e-8,
        f"{what} is {mean:.6g} +- {error:.2g} in the mean of {len(values)}, where {of} is {exact:.6g}",
    )


def _check_below(who: str, values: Any, exact: float) -> None:
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    require(
        mean <= exact + SIGMA * error,
        f"{who}: with a wrong posterior, the bound is {mean:.6g} +- {error:.2g} in the mean, above log p(x) = "
        f"{exact:.6g}; if it is no lower bound, let its bound_name end in 'objective'",
    )


def _check_gradients(what: str, found: tuple[np.ndarray, ...], exact: tuple[Array, ...], of: str) -> None:
    for part, values, expected in zip(("p(x, z)", "q(z | x)"), found, exact, strict=True):
        require(np.isfinite(values).all(), f"{what}, the gradient for {part} is not finite")
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        off = np.abs(mean - np.asarray(expected)) - SIGMA * error
        i = int(np.argmax(off))
        require(
            off[i] <= 1e-7,
            f"{what}, the gradient for {part} is {mean[i]:.6g} +- {error[i]:.2g} in the mean of {len(values)}, at "
            f"number {i + 1}, where that of {of} is {expected[i]:.6g}",
        )


def _check_state(estimator: AbstractEstimator, estimates: Estimate) -> None:
    """The state has one form for ever, and is taken in."""
    who, before = type(estimator).__name__, estimator.init_state()
    some = jax.tree.map(lambda leaf: jnp.asarray(leaf[:3]), estimates)
    after = jax.jit(estimator.next_state)(before, some)
    forms = [jax.eval_shape(lambda state=state: state) for state in (before, after)]
    require(
        forms[0] == forms[1],
        f"{who}: next_state gives a state of the form {forms[1]}, and init_state one of {forms[0]}; training "
        "carries it from step to step, so the two must have the same arrays, shapes and dtypes",
    )
    require(
        isinstance(estimator.with_state(after), AbstractEstimator), f"{who}: with_state must give an estimator back"
    )
    again = eqx.filter_jit(lambda state: estimator.next_state(state, some))(before)
    require(not first_difference(again, after), f"{who}: next_state gives another state when it is asked again")
