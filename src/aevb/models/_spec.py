"""A spec: one choice in plain values, that can be written to a file and read again, and that builds what it names."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

from aevb._plain import checked
from aevb.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Spec:
    """A choice: a frozen dataclass of plain values (numbers, texts, tuples of them). A subclass says what it builds.

    `kind` is its name in files and on the command line. Fields of its own make the kind's options.

    Raises:
        ConfigError: a value is not of its field's type.
    """

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = checked(f"{field.name} of {self.kind!r}", getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)

    def require(self, condition: bool, name: str, what: str) -> None:
        """Refuse a value: `what` it must be."""
        if not condition:
            raise ConfigError(f"{name} of {self.kind!r} {what}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Its kind and its options, as JSON and TOML have them."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}}


S = TypeVar("S", bound=Spec)


class Registry(Generic[S]):
    """The specs of one part of a model, by their kinds. A program can add one of its own; a file never can.

    Args:
        part: what they are specs of, for messages.
        specs: the classes, each with its own `kind`.
    """

    def __init__(self, part: str, *specs: type[S]):
        self.part = part
        self._makers: dict[str, type[S]] = {}
        for spec in specs:
            self.register(spec)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all that there are."""
        return tuple(self._makers)

    def register(self, spec: type[S]) -> type[S]:
        """Add a spec class of one's own (as a decorator, too), so that files that name its kind can be read.

        Raises:
            ValueError: its kind is taken.
        """
        if spec.kind in self._makers:
            raise ValueError(f"there is a {self.part} {spec.kind!r} already; give yours another kind")
        self._makers[spec.kind] = spec
        return spec

    def __getitem__(self, kind: str) -> type[S]:
        if kind in self._makers:
            return self._makers[kind]
        close = difflib.get_close_matches(str(kind), self._makers, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; choose one of {', '.join(self._makers)}"
        raise ConfigError(f"unknown {self.part} {kind!r}{hint}")

    def make(self, kind: str, **options: Any) -> S:
        """The spec of a kind with some of its options.

        Raises:
            ConfigError: there is no such kind, or it has no such option, or a value is out of range.
        """
        spec = self[kind]
        known, hints = [field.name for field in dataclasses.fields(spec)], get_type_hints(spec)
        for name in options:
            if name not in known:
                there_are = f"it has {', '.join(known)}" if known else "it has none"
                raise ConfigError(f"the {self.part} {kind!r} has no option {name!r}; {there_are}")
        return spec(**{k: checked(f"{k} of the {self.part} {kind!r}", v, hints[k]) for k, v in options.items()})

    def from_dict(self, content: Any) -> S:
        """What `Spec.to_dict` gave.

        Raises:
            ConfigError: it is not of that form, or as for `make`.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
            raise ConfigError(f"the {self.part} must be a table that names its kind, got {content!r:.80}")
        return self.make(**content)

    def holds(self, spec: Spec) -> bool:
        """Whether a file that names this spec can be read again."""
        return self._makers.get(spec.kind) is type(spec)
