"""Words for the terminal: in any encoding, and with the names that the command line has for things."""

import codecs
import difflib
import io
import re
import sys
from collections.abc import Iterable

from aevb.config import NAMES, SECTIONS, registry_of

_FALLBACKS = {"±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "‖": "||", "→": "->", "≥": ">=", "≤": "<=", "×": "x"}


def _in_other_words(error: UnicodeError) -> tuple[str, int]:
    """What to write in the place of characters that an encoding has not got: never fails."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_FALLBACKS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error("aevb", _in_other_words)


def survive_any_encoding() -> None:
    """Let stdout and stderr write whatever they are given: ± as +- in ASCII, other characters as Python escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="aevb")


def in_encoding(text: str, encoding: str) -> str:
    """The text as `encoding` will show it, so that columns can be aligned.

    Example:
        >>> in_encoding("-1.23 ± 0.04", "ascii"), in_encoding("-1.23 ± 0.04", "utf-8")
        ('-1.23 +- 0.04', '-1.23 ± 0.04')
    """
    return text.encode(encoding, "aevb").decode(encoding)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown word: the known one that it resembles, or whose initials it is, or nothing.

    Example:
        >>> did_you_mean("--latent_dims", ["--help", "--latent-dim"]), did_you_mean("--zzz", ["--help"])
        ("; did you mean '--latent-dim'?", '')
    """

    def form(name: str) -> str:
        return name.lower().replace("_", "-").strip("-")

    by_form = {form(name): name for name in known}
    by_initials = {"".join(part[0] for part in name.split("-")): name for name in by_form if "-" in name}
    close = difflib.get_close_matches(form(word), by_form, n=1) or [by_initials.get(form(word), "")]
    return f"; did you mean {by_form[close[0]]!r}?" if close[0] else ""


# The flags of other commands than fit, where they have not the library's name.
_FLAGS = {
    **dict.fromkeys(("schedule", "start")),
    "num_distributions": "distributions",
    "num_leapfrog": "leapfrog",
    "num_rows": "rows",
    "num_simulated": "simulated",
}
_FIELDS = sorted({*NAMES, *_FLAGS}, key=len, reverse=True)
_KEYWORD = re.compile(rf"(?<![\w./'\"-])({'|'.join(_FIELDS)})=(?:'([^']*)'|\"([^\"]*)\"|([\w.+-]*\w))")
_NAME = re.compile(rf"(?<![\w./'\"=-])({'|'.join(name for name in _FIELDS if '_' in name)})(?![\w/'\"=-]|\.\w)")
_SUBJECT = re.compile(rf"^({'|'.join(_FIELDS)})(?= (must|needs|is|does|cannot)\b)")
_OF_KIND = re.compile(r"^(\w+) of '([\w-]+)'(?= (must|needs)\b)")


def as_flags(message: str) -> str:
    """A message of the library with its fields as flags. The library names them as Python does.

    Example:
        >>> as_flags("epochs must be at least 1: use scaling='none' or set batch_size to 80")
        '--epochs must be at least 1: use --scaling none or set --batch-size to 80'
    """
    if message.startswith(("unknown ", "in ")):  # on keys of a file, whose names stand there as they must be written
        return message
    text = _OF_KIND.sub(lambda match: _flag_of_option(match[1], match[2]) or match[0], message)
    text = _SUBJECT.sub(lambda match: flag_of(match[1]), text)
    text = _KEYWORD.sub(lambda match: _with_value(match[1], match[2] or match[3] or match[4] or "''"), text)
    return _NAME.sub(lambda match: flag_of(match[1]), text)


def flag_of(name: str) -> str:
    """The flag of a name of the library."""
    return "--" + (_FLAGS.get(name) or name).replace("_", "-")


def _flag_of_option(option: str, kind: str) -> str | None:
    """The flag of a kind's option, if it has one."""
    for name, where in NAMES.items():
        for field in where.fields if where.option == option else ():
            if option in registry_of(SECTIONS[where.section].__dataclass_fields__[field]).options_of(kind):
                return flag_of(name)
    return None


def _with_value(name: str, value: str) -> str:
    if value in ("True", "False"):
        return flag_of(name) if value == "True" else "--no-" + name.replace("_", "-")
    return f"{flag_of(name)} {value}"
