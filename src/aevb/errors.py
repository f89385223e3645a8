"""What can go wrong for reasons that the caller can mend, one class per exit code of the command line.

| class            | exit code | meaning                                                        |
|------------------|-----------|----------------------------------------------------------------|
| `ConfigError`    | 2         | a choice that does not exist, or two that do not fit together  |
| `DataError`      | 3         | data that is missing, unreadable or outside the model's support |
| `ModelFileError` | 4         | a run or model file that is missing, cut or altered            |
| `DivergenceError`| 5         | training met non-finite losses or gradients and stopped        |
| `OutputError`    | 6         | a directory or disk that cannot be written, or is taken        |
| `UnavailableError` | 2       | something that a model or a family of distributions has not got |

Each message says what was found, where, and what to do.
"""

from typing import Any


class AevbError(Exception):
    """Base of the errors that `aevb` raises on purpose; the message is meant for the user."""

    exit_code = 1


class ConfigError(AevbError, ValueError):
    """A configuration value is unknown, out of range, or contradicts another one."""

    exit_code = 2


class UnavailableError(ConfigError, TypeError):
    """A model or a family of distributions has not got what was asked of it: a closed-form KL, a density, two parts.

    The only error that may be read as an answer. Any other TypeError or ValueError of a user's model is a fault in it,
    and must reach the user.
    """


class GuessWarning(UserWarning):
    """Something about the data was guessed that they do not make evident; the message says what, and how to name it."""


class HeldOutWarning(UserWarning):
    """Rows that are to judge a model equal rows that it is trained on: its numbers are not those of new rows."""


class DataError(AevbError, ValueError):
    """The data cannot be read, or do not fit the model that was asked for."""

    exit_code = 3


class ModelFileError(AevbError, ValueError):
    """A run directory or model file is missing, damaged, or of an unknown version."""

    exit_code = 4


class DivergenceError(AevbError, ArithmeticError):
    """Training produced non-finite values several steps in a row and was stopped.

    `state` is the last good `TrainState`, and from `aevb.fit` also `fitted`, the model that it holds.
    """

    exit_code = 5
    state: Any = None
    fitted: Any = None


class OutputError(AevbError, OSError):
    """Output cannot be written: no permission, no space, or something is there already."""

    exit_code = 6
