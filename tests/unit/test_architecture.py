"""The rules of the code base that a reader relies on: which part may import which, sizes, and what is never done."""

import ast
import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(importlib.util.find_spec("aevb").origin).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the bottom up. A part may import those below it, its own, and `anywhere`.
ANYWHERE = {"errors", "_version", "_plain", "_spec"}
LAYERS = [
    {"data", "distributions"},
    {"samplers"},
    {"models"},
    {"estimators"},
    {"train", "evaluate"},
    # the front door and what it is made of
    {
        "config",
        "_container",
        "_evaluation",
        "_feed",
        "_own",
        "_trainer",
        "_verbs",
        "_old_formats",
        "modelfile",
        "fitted",
        "rundir",
        "_splits",
        "_plan",
        "_fit",
        "_arguments",
        "_measures",
        "_progress",
        "_html",
        "plots",
    },
    {"reports", "testing"},
    {"cli"},
    {"__main__", "__init__"},
]
FRONT_DOOR = next(parts for parts in LAYERS if "_fit" in parts)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, source: str | None = None, *, with_names: bool = False) -> set[str]:
    """Full names of all modules that a file imports, wherever in it the statement stands; and of what is taken."""
    package = ["aevb", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} if module != "aevb" and not with_names else {f"{module}.{a.name}" for a in node.names}
    return found


def own_imports(path: Path, source: str | None = None) -> set[str]:
    """The parts of `aevb` that a file imports, its own part and names of the package itself left out."""
    parts = {module.split(".")[1] for module in imports(path, source) if module.startswith("aevb.")}
    return {p for p in parts if p in LEVEL or p in ANYWHERE} - {part_of(path)}


def breaks_direction(path: Path, source: str | None = None) -> set[str]:
    part = part_of(path)
    allowed_level = LEVEL.get(part, -1)
    bad = set()
    for other in own_imports(path, source) - ANYWHERE:
        same_floor = LEVEL[other] == allowed_level and part in FRONT_DOOR
        if part == "data" or not (LEVEL[other] < allowed_level or same_floor):
            bad.add(other)
    return bad


def test_every_part_has_its_place():
    assert {part_of(path) for path in FILES} == set(LEVEL) | ANYWHERE


def test_imports_run_one_way():
    assert {name(path): bad for path in FILES if (bad := breaks_direction(path))} == {}


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("data/dataset.py", "from aevb.models import MLP"),
        ("data/dataset.py", "from aevb import config"),
        ("distributions/_kl.py", "def f():\n    from ..models import MLP"),
        ("estimators/_base.py", "import aevb.train"),
        ("evaluate/_elbo.py", "from aevb.train import aevb"),
        ("fitted.py", "from .cli import main"),
    ],
)
def test_a_wrong_import_would_be_seen(file, statement):
    assert breaks_direction(ROOT / file, statement)


def private_imports(path: Path, source: str | None = None) -> set[str]:
    """Modules with a private name, or private names of modules, that a file imports from another package of `aevb`."""
    return {
        module
        for module in imports(path, source, with_names=True)
        if module.startswith("aevb.")
        and any(part.startswith("_") and not part.endswith("__") for part in module.split(".")[2:])
        and module.split(".")[1] != part_of(path)
    }


def test_nothing_imports_the_checks_for_users():
    assert {name(path) for path in FILES if "testing" in own_imports(path)} <= {"__init__.py"}
    assert own_imports(ROOT / "fitted.py", "from aevb.testing import check_model") == {"testing"}


def test_no_private_name_is_imported_across_packages():
    assert {name(path): bad for path in FILES if (bad := private_imports(path))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "from aevb.samplers._hmc import transition",
        "from ..samplers import _hmc",
        "import aevb.samplers._hmc",
        "from aevb.samplers import _hmc",
    ],
)
def test_a_private_import_would_be_seen(statement):
    assert private_imports(ROOT / "evaluate/_ais.py", statement)
    assert not private_imports(ROOT / "samplers/_chain.py", statement)


def test_one_package_imports_numpyro():
    users = {part_of(path) for path in FILES if any(module.split(".")[0] == "numpyro" for module in imports(path))}
    assert users == {"distributions"}


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "runpy", "imp"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def dangers(source: str, *, init: bool) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(node.func.id)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("allow_pickle")
        if isinstance(node, ast.Attribute) and node.attr == "import_module" and not init:
            found.append("import_module")
        if isinstance(node, ast.ImportFrom) and node.module == "importlib" and not init:
            found += [a.name for a in node.names if a.name != "resources"]
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        found += [n for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
        found += [n for n in names if n == "importlib" and not init and isinstance(node, ast.Import)]
    return found


def test_nothing_runs_code_from_data():
    found = {name(path): dangers(path.read_text(), init=path == ROOT / "__init__.py") for path in FILES}
    assert {file: bad for file, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(s)",
        "import importlib",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_dangerous_code_would_be_seen(source):
    assert dangers(source, init=False)


def test_modules_are_small():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {p: n for p, n in lines.items() if n > 500} == {}
    assert statistics.median(lines.values()) < 150


HEAVY = ("jax", "numpyro", "equinox", "optax", "matplotlib")
PROBE = f"import sys; print(sorted({{m.split('.')[0] for m in sys.modules}} & set({HEAVY})))"


@pytest.mark.parametrize(
    "statement",
    [
        "import aevb",
        "import aevb; aevb.config.NAMES; aevb.config.SECTIONS; dir(aevb)",
        "from aevb.cli import main\ntry: main(['--help'])\nexcept SystemExit as e: assert e.code == 0",
        "from aevb.cli import main\ntry: main(['fit', '--help'])\nexcept SystemExit as e: assert e.code == 0",
    ],
)
def test_light_work_loads_no_heavy_library(statement):
    assert loaded_by(statement) == "[]"


def test_the_probe_sees_a_heavy_library():
    assert "jax" in loaded_by("import aevb; aevb.models")


def loaded_by(statement: str) -> str:
    """The heavy libraries that a fresh interpreter has loaded after this statement."""
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-c", f"{statement}\n{PROBE}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return done.stdout.splitlines()[-1]
