"""What a diagnostic found, in plain words, and how its numbers are told from zero and rounded."""

import math
from collections.abc import Callable
from typing import NamedTuple

import scipy.special

from ._summary import Mean

# An estimate is told from zero if it is more than so many of its standard errors away from it, where these are known.
_SIGMAS = 3.0


class Verdict(NamedTuple):
    """What a diagnostic found, in plain words; every sentence follows from the diagnostic's numbers."""

    headline: str  # one line
    details: str  # the rest: none or more sentences
    advice: str = ""  # what to do about it, in one sentence; empty where nothing is asked for

    def __str__(self) -> str:
        return " ".join(part for part in self if part)


def sigmas(num_rows: int) -> float:
    """The standard errors of a mean that chance exceeds as rarely as 3 where they are known (0.27 %): Student's t.

    Few rows tell little of their own spread. With a single one nothing is told.

    Example:
        >>> [round(sigmas(n), 2) for n in (2, 3, 30, 10_000)]
        [235.8, 19.21, 3.28, 3.0]
    """
    if num_rows < 2:
        return math.inf
    return float(-scipy.special.stdtrit(num_rows - 1, scipy.special.ndtr(-_SIGMAS)))


def sigmas_of_any(num_tests: int) -> float:
    """The standard errors that chance exceeds in any of so many tests as rarely as 3 in one (0.27 %), at most.

    Example:
        >>> [round(sigmas_of_any(n), 2) for n in (1, 10, 1000)]
        [3.0, 3.64, 4.69]
    """
    return float(-scipy.special.ndtri(scipy.special.ndtr(-_SIGMAS) / num_tests))


def above(m: Mean, off: float = 0.0) -> bool:
    """Told from zero, on its upper side. Never with a single row, whose spread is unknown.

    Args:
        m: the estimate.
        off: by how much it can be off in all rows alike, which no spread over rows shows.
    """
    return m.value - sigmas(m.num_rows) * m.standard_error > off


def below(m: Mean, off: float = 0.0) -> bool:
    """The same on its lower side."""
    return m.value + sigmas(m.num_rows) * m.standard_error < -off


def minus(m: Mean) -> Mean:
    """With the other sign."""
    return m._replace(value=-m.value)


def nats(m: Mean) -> str:
    """With two decimals, and a third or fourth where the error is that small."""
    if not math.isfinite(m.standard_error):
        return f"{m.value:z.2f}"
    error = m.standard_error
    decimals = 3 if 0.0005 <= error < 0.005 else 4 if 0.00005 <= error < 0.0005 else 2
    return f"{m.value:z.{decimals}f} ± {error:.{decimals}f}"


def down(value: float) -> str:
    """With a decimal, or two digits below 1; rounded so that "at least" stays true."""
    return _rounded(value, math.floor)


def up(value: float) -> str:
    """The same for "at most"."""
    return _rounded(value, math.ceil)


def _rounded(value: float, to_whole: Callable[[float], int]) -> str:
    decimals = 1 if not 0 < value < 1 else min(1 - math.floor(math.log10(value)), 4)
    return f"{to_whole(round(value * 10**decimals, 6)) / 10**decimals:.{decimals}f}"
