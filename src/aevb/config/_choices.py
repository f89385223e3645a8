"""A field that holds a choice: what it may be given, and the object that this stands for."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from aevb._spec import Auto, Own, Registry, to_plain
from aevb.errors import ConfigError

Field = dataclasses.Field[Any]


def choice(
    registry: Callable[[], Registry[Any]], default: str, help: str, *, auto_options: tuple[str, ...] = ()
) -> Any:
    """A field that holds a choice.

    Args:
        registry: gives what its kinds are in; called when the first value is looked up.
        default: a kind; "auto": it may be left to the data.
        help: a line on it.
        auto_options: that whatever the data are given has, or may have.
    """
    return field(default=default, metadata={"help": help, "registry": registry, "auto_options": auto_options})


def is_choice(f: Field) -> bool:
    """Whether a field holds one."""
    return "registry" in f.metadata


def registry_of(f: Field) -> Registry[Any]:
    """The registry of its kinds."""
    registry: Registry[Any] = f.metadata["registry"]()
    return registry


def as_choice(f: Field, value: Any, defaults: Mapping[str, Any]) -> Any:
    """The object that a value of a choice's field stands for.

    Args:
        f: the field.
        value: the object itself, or a kind, or a table of kind and options.
        defaults: options for a kind that is not given them and has them.

    Raises:
        ConfigError: there is no such kind or option, or a value is out of range.
    """
    registry = registry_of(f)
    table = as_table(value)
    if table is None:
        # An Optax optimiser is a pair of functions, in the place of the spec that would make it.
        is_optimizer = f.name == "optimizer" and hasattr(value, "init") and hasattr(value, "update")
        if not (isinstance(value, registry.base | Own) or is_optimizer):
            raise ConfigError(
                f"{f.name} must be the name of a kind ({', '.join(registry)}) or a {registry.base.__name__}, got "
                f"{value!r:.80}"
            )
        return value
    kind, options = table.get("kind"), {k: v for k, v in table.items() if k != "kind"}
    if kind == Own.kind:
        if set(options) != {"name"}:
            raise ConfigError(f"{f.name} of the kind 'own' has a name and nothing else, got {options}")
        return Own(**options)
    if kind != Auto.kind or f.default != Auto.kind:
        known = registry.options_of(kind)
        return registry.from_dict({**{k: v for k, v in defaults.items() if k in known}, **table})
    for name, option in options.items():
        if name not in options_of(f, kind):
            raise ConfigError(f"{name} is no option of a {registry.part} that is left to the data; name its kind")
        registry.make(registry.with_option(name)[0], **{name: option})  # is it one that a kind would take?
    return Auto.of(**options)


def as_table(value: Any) -> dict[str, Any] | None:
    """A kind and options as a table; None for another object."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, Auto):
        return {"kind": value.kind, **value.options}
    return dict(value) if isinstance(value, Mapping) else None


def options_of(f: Field, kind: Any) -> tuple[str, ...]:
    """Names of the options of a kind; none where there is no such kind."""
    if kind == Auto.kind:
        auto: tuple[str, ...] = f.metadata["auto_options"]
        return auto
    return registry_of(f).options_of(kind)


def resolve(choice: Any, kind: str, registry: Registry[Any]) -> Any:
    """The choice, or where it was left to the data, one of the kind that they ask for, with the options given.

    Raises:
        ConfigError: that kind has no such option.
    """
    if not isinstance(choice, Auto):
        return choice
    for name in choice.options:
        if name not in registry[kind].option_types():
            raise ConfigError(
                f"{name} is an option of the {_several(registry.part)} {', '.join(registry.with_option(name))} alone, "
                f"and these data are given the {registry.part} {kind!r}; leave it out, or name the {registry.part}"
            )
    return registry.make(kind, **choice.options)


def _several(part: str) -> str:
    return f"{part[:-1]}ies" if part.endswith("y") else f"{part}s"


def plain_choice(f: Field, value: Any) -> Any:
    """A choice as TOML has it: its kind, or a table where it has options. Of one's own object, the name."""
    if not registry_of(f).holds(value) and not isinstance(value, Auto | Own):
        name = "an Optax gradient transformation" if hasattr(value, "update") else type(value).__name__
        value = Own(getattr(value, "options", {}).get("name", name))
    table = to_plain(value)
    return table if len(table) > 1 else table["kind"]
