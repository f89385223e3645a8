"""The options of `aevb fit`: one for each name of a configuration. Help in one screen, and by topics."""

import argparse
import shutil
import textwrap
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from aevb.config import NAMES, SECTIONS, Name, registry_of

from ._words import as_flags, did_you_mean, flag_of

# What most people set: shown by --help. The others are shown by topics.
_COMMON = (
    "validation", "test", "latent_dim", "hidden", "likelihood", "posterior", "prior", "estimator", "num_samples",
    "epochs", "batch_size", "optimizer", "learning_rate", "early_stopping", "seed",
)  # fmt: skip
TOPICS = (*SECTIONS, "all")
_MORE = "aevb fit --help TOPIC"


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Data, configuration, and all its names."""
    parser.usage = "aevb fit [DATA] [OPTION ...]"
    parser.add_argument("data", nargs="?", metavar="DATA", help="data name (mnist) or path (.npy .npz .csv IDX)")
    run = parser.add_argument_group("the run")
    run.add_argument("--out", metavar="DIR", help="directory for it (default: the next free runs/NAME-1, -2, ...)")
    run.add_argument("--config", metavar="FILE", help="TOML file of the options; flags override it")
    run.add_argument("--print-config", "--print_config", action="store_true", help="print the configuration and stop")
    run.add_argument("--quiet", action="store_true", help="print errors only")
    run.add_argument("-h", "--help", nargs="?", metavar="TOPIC", action=_Help, help="this page, or one on a topic")
    run.add_argument("--help-all", nargs=0, action=_Help, const="all", help=argparse.SUPPRESS)
    common = parser.add_argument_group("what most people set")
    for name in _COMMON:
        _add(common, name, NAMES[name], short=True)
    for name, where in NAMES.items():
        if name not in _COMMON and name != "data":
            _add(parser, name, where, short=None)
    parser.epilog = f"All options, and all kinds that there are: {_MORE}, with TOPIC one of {', '.join(TOPICS)}."


def _add(parser: Any, name: str, where: Name, *, short: bool | None) -> None:
    help = argparse.SUPPRESS if short is None else _line(where, default=True)
    options: dict[str, Any] = {"help": help, "default": None, "dest": name}
    hint = where.hint
    if hint is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(hint) is tuple:
        options |= {"type": _units, "nargs": "*", "metavar": "UNITS"}
    elif get_origin(hint) in (Union, types.UnionType):
        kinds = get_args(hint)
        kind = _number_or_text if str in kinds else _whole
        options |= {"type": kind, "metavar": "N" if kind is _whole else "VALUE"}
    elif hint in (int, float):
        options |= {"type": _whole if hint is int else _real, "metavar": "N" if hint is int else "X"}
    elif get_origin(hint) is Literal:
        options |= {"choices": get_args(hint), "metavar": "NAME"}
    else:
        options["metavar"] = "PATH" if name == "test" else "NAME"
    parser.add_argument(flag_of(name), **options)


def _line(where: Name, *, default: bool) -> str:
    shown = ""
    if default and where.default not in (None, "") and where.option is None:
        value = where.default
        shown = (" (on)" if value else " (off)") if isinstance(value, bool) else f" ({value})"
    return where.help.replace("%", "%%") + shown


# --- topics -----------------------------------------------------------------------------------------------------------


class _Help(argparse.Action):
    """`--help`, `--help TOPIC`, `--help-all`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        topic = self.const if self.nargs == 0 else values
        if topic is None:
            parser.print_help()
        elif topic in TOPICS:
            print("\n".join(topic_lines(topic)))
        else:
            hint = did_you_mean(topic, TOPICS)
            parser.error(f"there is no help on {topic!r}{hint}; topics are {', '.join(TOPICS)}")
        parser.exit()


def topic_lines(topic: str, columns: int | None = None) -> list[str]:
    """All options of a section, or of all, with the kinds of each choice. Loads what they are kinds of."""
    columns = max(min(columns or shutil.get_terminal_size().columns, 110), 30)
    lines: list[str] = []
    for section in SECTIONS if topic == "all" else (topic,):
        lines.append(f"[{section}]")  # as the table of a TOML file is called
        for name, where in NAMES.items():
            if where.section == section and where.option is None and name != "data":
                lines += _flag_lines(name, where, columns)
        lines.append("")
    return lines[:-1]


def _flag_lines(name: str, where: Name, columns: int) -> Iterator[str]:
    value = {bool: "", int: " N", int | None: " N", float: " X", str: " PATH", None: " KIND"}.get(where.hint, " VALUE")
    value = " NAME" if get_origin(where.hint) is Literal else value
    flag = f"{flag_of(name)}, --no-{flag_of(name)[2:]}" if where.hint is bool else flag_of(name) + value
    text = where.help + (f"; one of {', '.join(get_args(where.hint))}" if get_origin(where.hint) is Literal else "")
    yield from _entry(flag, f"{as_flags(text)}{_default(where.default)}", 2, columns)
    if where.hint is not None:
        return
    registry = registry_of(SECTIONS[where.section].__dataclass_fields__[where.fields[0]])
    plain = [kind for kind in registry if not registry[kind].option_types()]
    if plain:
        yield from _entry("", "without options: " + ", ".join(plain), 4, columns)
    for kind in registry:
        options = registry[kind].option_types()
        if not options:
            continue
        says = (registry[kind].__doc__ or "").strip().splitlines()[0].replace("`", "").partition(" Options:")[0]
        yield from _entry(kind, says, 4, columns)
        defaults = registry.make(kind).options
        for keyword, of in NAMES.items():
            if of.option in options and where.fields[0] in of.fields and of.section == where.section:
                takes = {bool: "", int: " N", float: " X", str: " NAME"}.get(of.hint, " UNITS")
                yield from _entry(
                    flag_of(keyword) + takes, as_flags(of.help) + _default(defaults[of.option]), 6, columns
                )


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return " (on)" if value else " (off)"
    return f" ({' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def _entry(left: str, right: str, indent: int, columns: int) -> list[str]:
    """A flag or a kind, and beside it what it means."""
    column = min(28, columns // 2)
    first = " " * indent + left
    if not left:
        return [" " * indent + line for line in textwrap.wrap(right, columns - indent)]
    lines = textwrap.wrap(right, columns - column)
    if len(first) > column - 2 or not lines:
        return [first, *(" " * column + line for line in lines)]
    return [first.ljust(column) + lines[0], *(" " * column + line for line in lines[1:])]


# --- values -----------------------------------------------------------------------------------------------------------


def config_values(args: argparse.Namespace) -> dict[str, Any]:
    """The names of a configuration that were given as flags."""
    return {name: value for name, value in vars(args).items() if name in NAMES and value is not None}


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _units(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number; if it is the data, put it before the options: aevb fit DATA --hidden 64"
        ) from None
