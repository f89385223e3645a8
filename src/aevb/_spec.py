"""A spec: one choice in plain values, that can be written to a file and read again, and that builds what it names."""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar, get_type_hints

from aevb._plain import checked
from aevb.errors import ConfigError


class Choice(Protocol):
    """What a registry holds: an object with a kind and options, which are plain values. Every `Spec` is one."""

    @property
    def kind(self) -> str:
        """Its name in files and on the command line."""

    @classmethod
    def option_types(cls) -> dict[str, Any]:
        """The names of its options, and their types."""

    @property
    def options(self) -> dict[str, Any]:
        """The values of its options."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """A choice: a frozen dataclass of plain values (numbers, texts, tuples of them). A subclass says what it builds.

    `kind` is its name in files and on the command line. Fields of its own make the kind's options.

    Raises:
        ConfigError: a value is not of its field's type.
    """

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for name, hint in self.option_types().items():
            object.__setattr__(self, name, checked(f"{name} of {self.kind!r}", getattr(self, name), hint))

    @classmethod
    def option_types(cls) -> dict[str, Any]:
        """Of each field, its type."""
        hints = get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    @property
    def options(self) -> dict[str, Any]:
        """Of each field, its value."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def require(self, condition: bool, name: str, what: str) -> None:
        """Refuse a value: `what` it must be."""
        if not condition:
            raise ConfigError(f"{name} of {self.kind!r} {what}, got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Its kind and its options, as JSON and TOML have them."""
        return to_plain(self)


@dataclasses.dataclass(frozen=True)
class Auto(Spec):
    """No choice: it is left to the data, and what is chosen for them is given these options.

    Args:
        given: names and values of options.

    Example:
        >>> Auto.of(min_scale=0.01).to_dict()
        {'kind': 'auto', 'min_scale': 0.01}
    """

    kind: ClassVar[str] = "auto"
    given: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Nothing can be checked before it is known what they are options of."""

    @classmethod
    def of(cls, **options: Any) -> "Auto":
        """With these options."""
        return cls(tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in options.items())))

    @property
    def options(self) -> dict[str, Any]:
        """As they were given."""
        return dict(self.given)


@dataclasses.dataclass(frozen=True)
class Own(Spec):
    """An object of one's own that no file can hold, by its name.

    Args:
        name: of its class.
    """

    kind: ClassVar[str] = "own"
    name: str = ""


C = TypeVar("C", bound=Choice)


class Registry(Generic[C]):
    """The choices that there are for one part of a model or a fit, by their kinds.

    A program can add one of its own; a file never can.

    Args:
        part: what they are choices of, for messages.
        classes: each with its own `kind`.
        base: what all of them are.
    """

    def __init__(self, part: str, *classes: type[C], base: type[Any] = object):
        self.part = part
        self.base = base
        self._classes: dict[str, type[C]] = {}
        for cls in classes:
            self.register(cls)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all that there are."""
        return tuple(self._classes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes

    def register(self, cls: type[C]) -> type[C]:
        """Add a class of one's own (as a decorator, too), so that its kind can be named, in files as well.

        Raises:
            TypeError: it is no class of such choices.
            ValueError: its kind is taken.
        """
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TypeError(f"a {self.part} must be derived from {self.base.__name__}, got {cls!r:.80}")
        kind = kind_of(cls)
        if kind in (*self._classes, Auto.kind, Own.kind):
            raise ValueError(f"there is a {self.part} {kind!r} already; give yours another kind")
        self._classes[kind] = cls
        return cls

    def __getitem__(self, kind: str) -> type[C]:
        if kind in self._classes:
            return self._classes[kind]
        close = difflib.get_close_matches(str(kind), self._classes, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; choose one of {', '.join(self._classes)}"
        raise ConfigError(f"unknown {self.part} {kind!r}{hint}")

    def make(self, kind: str, **options: Any) -> C:
        """The choice of a kind with some of its options.

        Raises:
            ConfigError: there is no such kind, or it has no such option, or a value is out of range.
        """
        cls = self[kind]
        hints = cls.option_types()
        for name in options:
            if name not in hints:
                there_are = f"it has {', '.join(hints)}" if hints else "it has none"
                raise ConfigError(f"the {self.part} {kind!r} has no option {name!r}; {there_are}")
        return cls(**{k: _plain_value(f"{k} of {kind!r}", v, hints[k]) for k, v in options.items()})

    def from_dict(self, content: Any) -> C:
        """What `to_plain` gave.

        Raises:
            ConfigError: it is not of that form, or as for `make`.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("kind"), str):
            raise ConfigError(
                f"the {self.part} must be a table that names its kind ({', '.join(self._classes)}), got {content!r:.80}"
            )
        return self.make(**content)

    def holds(self, choice: Any) -> bool:
        """Whether a file that names this choice can be read again."""
        return self._classes.get(getattr(choice, "kind", "")) is type(choice)

    def options_of(self, kind: Any) -> tuple[str, ...]:
        """Names of the options of a kind; none where there is no such kind."""
        return tuple(self._classes[kind].option_types()) if kind in self._classes else ()

    def with_option(self, option: str) -> list[str]:
        """The kinds that have such an option."""
        return [kind for kind, cls in self._classes.items() if option in cls.option_types()]


def to_plain(choice: Choice) -> dict[str, Any]:
    """Kind and options of a choice, as JSON and TOML have them."""
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in choice.options.items()}
    return {"kind": choice.kind, **options}


def kind_of(choice: Any) -> str:
    """The kind of a choice, or of its class; of another object, the name of its class."""
    kind: str = getattr(choice, "kind", type(choice).__name__)
    return kind


def _plain_value(name: str, value: Any, hint: Any) -> Any:
    value = checked(name, value, hint)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be finite here, got {value}")
    return value
