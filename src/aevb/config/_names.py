"""The names of a configuration in one list, as keywords and flags have them, and where each goes."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_type_hints

from aevb.errors import ConfigError

from ._choices import as_table, is_choice, options_of, registry_of
from ._sections import SECTIONS, Section, keyword_of

# What becomes of an option that no choice has.
Idle = Literal["refuse", "drop defaults", "drop"]


class Name(NamedTuple):
    """Where a keyword or flag goes: to a field of a section, or to an option of the choices in such fields."""

    section: str
    fields: tuple[str, ...]
    help: str
    hint: Any  # its type; None: a choice
    option: str | None = None
    default: Any = None


_UNITS = tuple[int, ...]
_FLOWS = ("posterior", "prior")
# Options of the kinds that have a keyword: keyword, section, choices that may have it, its name there, type, help.
_OPTIONS: tuple[tuple[str, str, tuple[str, ...], str, Any, str], ...] = (
    ("hidden", "model", ("network",), "hidden", _UNITS, "units of each hidden layer, the decoder's in reverse order"),
    ("activation", "model", ("network", *_FLOWS), "activation", str, "of the hidden layers"),
    ("sigmoid_mean", "model", ("likelihood",), "sigmoid_mean", bool, "put the mean through a sigmoid: data in [0, 1]"),
    ("min_scale", "model", ("likelihood",), "min_scale", float, "floor of the scale, in units of the scaled data"),
    ("df", "model", ("likelihood",), "df", float, "degrees of freedom, above 2; the fewer, the heavier the tails"),
    ("posterior_df", "model", ("posterior",), "df", float, "degrees of freedom of an elliptical posterior"),
    ("prior_components", "model", ("prior",), "components", int, "of the mixture; pseudo-inputs of vamp"),
    ("flow_steps", "model", _FLOWS, "steps", int, "steps of the flow"),
    ("flow_hidden", "model", _FLOWS, "hidden", _UNITS, "units of the hidden layers of each step's network"),
    ("num_samples", "training", ("estimator",), "num_samples", int, "latent samples per example and step, L or K"),
    ("num_groups", "training", ("estimator",), "num_groups", int, "groups of num_samples samples"),
    ("alpha", "training", ("estimator",), "alpha", float, "order of the divergence; 1: ELBO, 0: iwae"),
    ("ciwae_weight", "training", ("estimator",), "beta", float, "weight of the ELBO"),
    ("baseline", "training", ("estimator",), "baseline", str, "what is subtracted from log w"),
    ("beta1", "training", ("optimizer",), "beta1", float, "decay of the first moment"),
    ("beta2", "training", ("optimizer",), "beta2", float, "decay of the second moment"),
    ("decay", "training", ("optimizer",), "decay", float, "decay of the second moment"),
    ("momentum", "training", ("optimizer",), "momentum", float, "of the steps; 0: none"),
    ("epsilon", "training", ("optimizer",), "epsilon", float, "keeps a division by a root of a moment finite"),
)


def _names() -> Iterator[tuple[str, Name]]:
    for section, cls in SECTIONS.items():
        hints = get_type_hints(cls)
        for f in dataclasses.fields(cls):
            hint = None if is_choice(f) else hints[f.name]
            yield keyword_of(f), Name(section, (f.name,), f.metadata["help"], hint, default=f.default)
    for keyword, section, fields, option, hint, help in _OPTIONS:
        yield keyword, Name(section, fields, help, hint, option)


NAMES: dict[str, Name] = dict(_names())


def with_names(sections: Mapping[str, Any], names: Mapping[str, Any], idle: Idle) -> dict[str, Any]:
    """The sections with the values that go by these names. A kind that is named again keeps its options.

    Args:
        sections: by their names; None in the place of the model: one of one's own.
        names: name -> value; None for an option or a choice: as it is.
        idle: what becomes of an option that no choice has; "drop defaults" refuses it if it is not at its default.

    Raises:
        ConfigError: as `Config`.
    """
    refuse_unknown(names, "name", list(NAMES))
    for name in names:
        if sections[NAMES[name].section] is None:
            raise ConfigError(f"{name} is of presets; models of one's own say it themselves. Leave it out")
    return {name: section and _changed(section, names, idle) for name, section in sections.items()}


def _changed(section: Section, names: Mapping[str, Any], idle: Idle) -> Section:
    own = {name: value for name, value in names.items() if NAMES[name].section == section.name}
    options = {name: value for name, value in own.items() if NAMES[name].option is not None and value is not None}
    values = {NAMES[name].fields[0]: value for name, value in own.items() if NAMES[name].option is None}
    used: set[str] = set()
    for f in filter(is_choice, dataclasses.fields(section)):
        now, given = getattr(section, f.name), values.setdefault(f.name)
        is_old = given is None or given == getattr(now, "kind", None)
        values[f.name] = now if is_old else given
        table = as_table(values[f.name])
        if table is None and is_old and registry_of(f).holds(now):
            table = {"kind": now.kind, **now.options}
        if table is None:
            continue  # an object that is given with its options
        taken = {name: NAMES[name].option for name in options if f.name in NAMES[name].fields}
        taken = {name: option for name, option in taken.items() if option in options_of(f, table["kind"])}
        if taken:
            values[f.name] = table | {option: options[name] for name, option in taken.items()}
            used |= set(taken)
    objects = [name for name, value in own.items() if NAMES[name].hint is None and as_table(value) is None and value]
    for name in options.keys() - used:
        for part in (part for part in objects if part in NAMES[name].fields):
            raise ConfigError(f"{name} is told by the object that was given as {part}; leave it out or change it there")
        _refuse_idle(name, options[name], section, idle)
    return dataclasses.replace(section, **values)


def _refuse_idle(name: str, value: Any, section: Section, idle: Idle) -> None:
    """An option that none of the choices has would be ignored in silence."""
    owners, defaults = [], []
    for f in (f for f in dataclasses.fields(section) if f.name in NAMES[name].fields):
        registry, option = registry_of(f), NAMES[name].option or ""
        owners += [f"{f.name} {kind}" for kind in registry.with_option(option)]
        defaults += [registry.make(kind).options[option] for kind in registry.with_option(option)]
    value = tuple(value) if isinstance(value, list) else value
    if idle == "drop" or (idle == "drop defaults" and value in defaults):
        return
    raise ConfigError(f"{name} is an option of {', '.join(owners)} alone; leave it out, or choose one of them")


def refuse_unknown(values: Mapping[str, Any], what: str, names: list[str]) -> None:
    """Raise a ConfigError for a name that is none of the known ones, with the nearest of them."""
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name).replace("-", "_"), names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"
            raise ConfigError(f"unknown {what}: {name!r}{hint}")
