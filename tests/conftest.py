"""What holds for every test: the CPU, and run-time type checks of the package's annotations."""

import ctypes
import gc
import getpass
import os
import resource
import tempfile
from importlib.metadata import version
from pathlib import Path

# Before JAX is imported. The tests' time is XLA's: programs that were compiled once, in this run or an earlier one, or
# in a test's subprocess, are not compiled again. The cache is keyed by the program, the flags and jaxlib's version.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"aevb-tests-{getpass.getuser()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Most programs of the tests run once or a few times: XLA is asked for quick compiling, not for quick programs, and for
# one thread, as two workers share the cores. With `XLA_FLAGS=` before the command the tests see what users get, in
# twice the processor time. XLA ends the process at a flag that it does not know; jaxlib 0.12 has lost the last one.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)

# XLA's pool has a thread per core, and with two of them a program that waits within the pool can wait for ever.
os.environ.setdefault("NPROC", "8")

from collections.abc import Iterator

import jax
import jaxtyping
import pytest

# Shapes and types of the numerical core are checked at each call. The front door and `aevb.data` are left out: there
# wrong types are the user's, and the tests want to see the package's own message for them. Users have no such checks:
# `unit/test_without_type_checks.py` runs a part of the tests in a process that has none either.
_ALL = ("distributions", "models", "estimators", "train", "evaluate")
for _module in () if "AEVB_TESTS_WITHOUT_TYPE_CHECKS" in os.environ else _ALL:
    jaxtyping.install_import_hook(f"aevb.{_module}", "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest single test begins first: at the end one core would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_without_type_checks.py")


_GROWTH = 2 * 2**30  # bytes
_resident_after_clearing = 0


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Compiled programs that no test will ask for again would fill the machine: they are let go now and then."""
    global _resident_after_clearing
    yield
    if _resident() - _resident_after_clearing > _GROWTH:
        jax.clear_caches()
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)  # glibc keeps what was freed
        _resident_after_clearing = _resident()


def _resident() -> int:
    """Bytes of memory that the process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 throughout the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs twice, once per precision; its value is the dtype's name."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param
