"""What holds for every test: the CPU, and run-time type checks of the package's annotations."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported

from collections.abc import Iterator

import jax
import jaxtyping
import pytest

# Shapes and types of the numerical core are checked at each call. The front door and `aevb.data` are left out: there
# wrong types are the user's, and the tests want to see the package's own message for them.
for _module in ("distributions", "models", "estimators", "train", "evaluate"):
    jaxtyping.install_import_hook(f"aevb.{_module}", "beartype.beartype")


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
