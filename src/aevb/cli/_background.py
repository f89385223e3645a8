"""Ctrl-C while the device is at work."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_background(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args, **kwargs)` in another thread, so that Ctrl-C raises KeyboardInterrupt here at once.

    In this thread it would wait for the device's call to return. The work itself is not stopped: the process must end.
    """
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work, *args, **kwargs).result()
    finally:
        pool.shutdown(wait=False)
