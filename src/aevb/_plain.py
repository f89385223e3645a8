"""Plain values, as TOML and JSON have them, in the type that a field asks for."""

import contextlib
import difflib
import numbers
import types
from typing import Any, Literal, Union, get_args, get_origin

from aevb.errors import ConfigError


def checked(name: str, value: Any, hint: Any) -> Any:
    """The value in the field's type. Only lossless conversions: list to tuple, int to float.

    Raises:
        ConfigError: it is not of that type.

    Example:
        >>> checked("hidden", [64, 32], tuple[int, ...]), checked("alpha", 1, float)
        ((64, 32), 1.0)
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in args and isinstance(value, str):
            return value
        close = difflib.get_close_matches(str(value), args, n=1)
        hint_text = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, args))}, got {value!r}{hint_text}")
    if origin is tuple:
        if isinstance(value, (list, tuple)):
            with contextlib.suppress(ConfigError):
                return tuple(checked(name, v, args[0]) for v in value)
    elif origin in (Union, types.UnionType):
        for option in args:
            if option is type(None):
                if value is None:
                    return None
                continue
            try:
                return checked(name, value, option)
            except ConfigError:
                continue
    elif hint is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        if value != value:
            raise ConfigError(f"{name} must be a number, got nan")
        return float(value)
    elif hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    elif hint in (str, bool) and isinstance(value, hint):
        return value
    raise ConfigError(f"{name} must be {_spoken(hint)}, got {value!r}")


def _spoken(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if get_origin(hint) is tuple:
        return "a list of whole numbers"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_spoken(a) for a in get_args(hint) if a is not type(None))
    return words.get(hint, str(hint))
