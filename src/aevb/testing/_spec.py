"""What a spec must do, whoever wrote it."""

import copy
import dataclasses
import json
import tomllib
from typing import Any

import jax
import jax.numpy as jnp
import tomli_w
from jaxtyping import PRNGKeyArray

from aevb.errors import ConfigError
from aevb.models import (
    AbstractGenerativeModel,
    AbstractRecognitionModel,
    BernoulliLikelihood,
    LikelihoodSpec,
    Mlp,
    NetworkSpec,
    PosteriorSpec,
    PriorSpec,
    Registry,
    Spec,
    Vae,
    choose_latents,
    tie,
)

from ._compare import first_difference, require
from ._model import check_model

D, J = 4, 2


def check_spec(spec: Spec, registry: Registry[Any], key: PRNGKeyArray, *, models: bool = True) -> None:
    """Hold a spec against what the library asks of it; nothing comes back if all is well.

    It is a frozen, hashable value, equal to what a dictionary, JSON and TOML make of it and back; an option that it has
    not got, or of another type, is refused. In a small `Vae`, with the parts that go with it, the same key builds the
    same arrays and another one others, of one static structure, so that nothing compiles twice; and its models pass
    `check_model`.

    Args:
        spec: of a network, a likelihood, a posterior or a prior; give options that are not its defaults.
        registry: where its class is registered, or a `Registry` made for the check.
        key: of parameters and noise.
        models: whether its models are checked, which takes seconds.

    Raises:
        AssertionError: something is amiss; says what, and what to do.

    Example:
        >>> from aevb.models import LIKELIHOODS, LaplaceLikelihood
        >>> check_spec(LaplaceLikelihood(min_scale=0.1), LIKELIHOODS, jax.random.key(0), models=False)
    """
    require(isinstance(spec, Spec) and hasattr(spec, "kind"), f"got {type(spec).__name__}, no spec with a kind")
    who = f"the {registry.part} {spec.kind!r}"
    require(registry.holds(spec), f"{who} is not of the class that the registry has by this kind; register it")
    _check_value(who, spec)
    _check_files(who, spec, registry)
    _check_options(who, spec, registry)
    vae = vae_with(spec)
    first, again, other = (_build(vae, k) for k in (key, key, jax.random.fold_in(key, 1)))
    difference = first_difference(first, again, exact=True)
    require(not difference, f"{who}: built twice with one key, {difference}; draw parameters with the key alone")
    forms: list[Any] = [jax.tree.structure(pair) for pair in (first, other)]
    require(
        forms[0] == forms[1],
        f"{who}: with another key it builds another structure, so that each model would be compiled anew; static "
        "fields must be equal plain values",
    )
    require(bool(first_difference(first, other, exact=True)), f"{who}: another key builds the same arrays; use the key")
    if models:
        generative, _ = first
        rows = jnp.stack([generative.sample(jax.random.fold_in(key, 2 + i))[0] for i in range(2)])
        check_model(*first, rows, key)


def vae_with(spec: Spec) -> Vae:
    """A small model with this spec in its place, and what goes with it in the others.

    Raises:
        AssertionError: it is of no part of a model.
    """
    posterior, prior = choose_latents(
        spec if isinstance(spec, PosteriorSpec) else None, spec if isinstance(spec, PriorSpec) else None
    )
    require(
        isinstance(spec, NetworkSpec | LikelihoodSpec | PosteriorSpec | PriorSpec),
        f"{type(spec).__name__} is no spec of a network, a likelihood, a posterior or a prior; derive it from one",
    )
    network = spec if isinstance(spec, NetworkSpec) else Mlp((3,))
    likelihood = spec if isinstance(spec, LikelihoodSpec) else BernoulliLikelihood()
    return Vae(D, J, network, likelihood, posterior, prior)


def _build(vae: Vae, key: PRNGKeyArray) -> tuple[AbstractGenerativeModel, AbstractRecognitionModel]:
    generative, recognition = vae.build(key=key)
    return tie(generative, recognition), recognition


def _check_value(who: str, spec: Spec) -> None:
    parameters = getattr(type(spec), "__dataclass_params__", None)
    own = "__dataclass_params__" in vars(type(spec))
    require(
        own and parameters is not None and parameters.frozen,
        f"{who}: its class must be a frozen dataclass; decorate it with @dataclass(frozen=True)",
    )
    twin = copy.deepcopy(spec)
    require(twin == spec and hash(twin) == hash(spec), f"{who}: a copy is not equal to it; fields must be plain values")


def _check_files(who: str, spec: Spec, registry: Registry[Any]) -> None:
    told = spec.to_dict()
    names = {"kind", *(field.name for field in dataclasses.fields(spec))}
    require(
        set(told) == names,
        f"{who}: to_dict() has {', '.join(sorted(told))}, and must have {', '.join(sorted(names))}: an option that is "
        "left out is lost in files, and another could not be read",
    )
    without_none = {name: value for name, value in told.items() if value is not None}  # TOML has no null
    for way, content in (
        ("a dictionary", told),
        ("JSON", json.loads(json.dumps(told))),
        ("TOML", tomllib.loads(tomli_w.dumps(without_none))),
    ):
        again = registry.from_dict(content)
        require(
            again == spec and hash(again) == hash(spec),
            f"{who}: written to {way} and read again, {spec} becomes {again}; fields must be plain values (numbers, "
            "texts, tuples of them), which to_dict() gives as they are",
        )


def _check_options(who: str, spec: Spec, registry: Registry[Any]) -> None:
    unknown = "no_such_option"
    wrong: list[tuple[str, Any]] = [(unknown, 1), *((field.name, {}) for field in dataclasses.fields(spec))]
    for name, value in wrong:
        try:
            made = registry.make(spec.kind, **{name: value}) if name == unknown else type(spec)(**{name: value})
        except (ConfigError, TypeError):
            continue
        raise AssertionError(
            f"{who}: {name}={value!r} must be refused with a ConfigError, and {made} was made; give the field "
            "a type that says what it is, and call super().__post_init__() in a __post_init__ of its own"
        )
