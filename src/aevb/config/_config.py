"""The whole configuration: four sections, read from and written to TOML."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from aevb._spec import Own
from aevb.errors import ConfigError

from ._names import NAMES, Idle, refuse_unknown, with_names
from ._sections import SECTIONS, Data, Evaluation, Model, Training


@dataclass(frozen=True, init=False)
class Config:
    """What to fit and how.

    Args:
        **fields: sections as a whole (`data=Data(...)`, `model=`, `training=`, `evaluation=`), fields of them by their
            own names, and options of the choices by the names that their flags have. `model=None`: one of one's own.

    `auto` is resolved from the data when a fit begins; a run directory's `config.toml` holds what it became.

    Raises:
        ConfigError: a name is unknown (says which is the nearest), a value has the wrong type, is out of range, or
            contradicts another; or it is an option of a kind that was not chosen.

    Example:
        >>> config = Config(latent_dim=10, posterior="iaf", flow_steps=8, optimizer="sgd", momentum=0.9)
        >>> config.model.posterior.steps, config.training.optimizer
        (8, Sgd(momentum=0.9))
    """

    data: Data
    model: Model | None
    training: Training
    evaluation: Evaluation

    def __init__(self, **fields: Any) -> None:
        whole, names = {}, dict(fields)
        for name, cls in SECTIONS.items():
            if name in names and (isinstance(names[name], cls) or (name == "model" and names[name] is None)):
                whole[name] = names.pop(name)
            elif name in names and name not in NAMES:
                raise ConfigError(f"{name} must be an aevb.config.{cls.__name__}, got {names[name]!r:.80}")
        self._set({name: whole[name] if name in whole else cls() for name, cls in SECTIONS.items()}, names, "refuse")

    def _set(self, sections: Mapping[str, Any], names: Mapping[str, Any], idle: Idle) -> None:
        for name, section in with_names(sections, names, idle).items():
            object.__setattr__(self, name, section)
        self.data.require(
            not self.training.early_stopping or self.data.validation not in (0.0, ""),
            "validation",
            "must be a share such as 0.1, or a path, when early_stopping is on",
        )
        group = self.training.free_bits_group
        if self.model is not None and self.model.latent_dim % group:
            raise ConfigError(f"free_bits_group must divide latent_dim {self.model.latent_dim}, got {group}")

    def replace(self, **changes: Any) -> "Config":
        """A copy with some fields changed, by the names that the constructor takes.

        A kind that is named again keeps its options.
        """
        return Config(**({name: getattr(self, name) for name in SECTIONS} | changes))

    def without_objects(self) -> "Config":
        """With names in the place of objects that no file can hold."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return Config(**{name: section and section.without_objects() for name, section in sections.items()})

    def to_dict(self) -> dict[str, Any]:
        """The sections as TOML and JSON have them. A field that is None is left out; a model of one's own is "own"."""
        sections = {name: getattr(self, name) for name in SECTIONS}
        return {name: Own.kind if section is None else section.to_dict() for name, section in sections.items()}

    def to_toml(self) -> str:
        """As TOML: a table for each section, and one in it for each choice that has options."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, path: str | Path) -> "Config":
        """Read a TOML file; what it does not name keeps its default.

        Raises:
            ConfigError: the file is missing, is no TOML, or has an unknown key or a bad value.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
            values = tomllib.loads(text)
        except OSError as e:
            raise ConfigError(f"cannot read the configuration file {path}: {e.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path} is not valid TOML: {e}") from None
        try:
            return cls.from_dict(values, f"key in {path}")
        except ConfigError as e:
            where = "" if str(path) in str(e) else f"in {path}: "
            raise ConfigError(f"{where}{e}") from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], what: str = "key", *, drop_idle: bool = False) -> "Config":
        """From what `to_dict` gave, or a part of it; or from one table of names and values, as there was before.

        Args:
            values: tables by their names, and other names of `Config`.
            what: what a name is called in a message.
            drop_idle: whether options of kinds that were not chosen are dropped whatever they are, as old files have
                them. Else those at their defaults are.
        """
        tables = {k: v for k, v in values.items() if k in SECTIONS and isinstance(v, Mapping)}
        is_own = values.get("model") == Own.kind
        names = {k: v for k, v in values.items() if k not in tables and not (is_own and k == "model")}
        for section, table in tables.items():
            known = [f.name for f in dataclasses.fields(SECTIONS[section])]
            for key in (key for key in table if key not in known and key in NAMES):
                raise ConfigError(f"unknown {what}, in its table [{section}]: {key!r}; {_place_of(key)}")
            refuse_unknown(table, f"{what}, in its table [{section}]", known)
        for key in (key for key in names if key in SECTIONS and key not in NAMES):
            raise ConfigError(f"{key} must be a table, [{key}], got {names[key]!r:.80}")
        refuse_unknown(names, what, [*SECTIONS, *NAMES])
        sections: dict[str, Any] = {name: section(**tables.get(name, {})) for name, section in SECTIONS.items()}
        if is_own:
            sections["model"] = None
        config = object.__new__(cls)
        config._set(sections, names, "drop" if drop_idle else "drop defaults")
        return config


def _place_of(name: str) -> str:
    """Where in a file a keyword has its place."""
    where = NAMES[name]
    if where.option is None:
        return f"write {where.fields[0]} in the table [{where.section}]"
    return f'it is an option: write {where.fields[0]} = {{kind = "...", {where.option} = ...}} in [{where.section}]'
