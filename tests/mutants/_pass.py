"""A generated pass: defects at random places, each run against the tests of its file in a copy of the package."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _generate
import test_mutants as named
from _generate import Change

# The tests of a part, the quick ones first, after those that the named mutants of the same file are killed by.
TESTS_OF: dict[str, tuple[str, ...]] = {
    "data/": ("unit/data", "unit/test_config.py"),
    "distributions/": (
        "unit/test_kl_pairs.py",
        "unit/test_unconstrained.py",
        "unit/test_distributions.py",
        "unit/test_families.py",
    ),
    "samplers/": ("unit/test_unconstrained.py", "statistical/test_harmonic.py", "statistical/test_ais.py"),
    "models/": (
        "unit/test_product.py",
        "unit/test_flows.py",
        "unit/test_priors.py",
        "unit/test_posteriors.py",
        "unit/test_distributions.py",
        "unit/test_modelfile.py",
        "unit/test_train.py",
    ),
    "estimators/": (
        "statistical/test_identity.py",
        "unit/test_objectives.py",
        "statistical/test_estimators.py",
        "statistical/test_bounds.py",
    ),
    "train/": ("unit/test_train.py", "unit/test_objectives.py", "unit/test_config.py"),
    "evaluate/": ("unit/test_evaluate.py", "unit/test_importance.py", "unit/test_reports.py"),
    "reports/": ("unit/test_reports.py", "cli/test_cli.py"),
    "cli/": ("cli/test_cli.py",),
    "_container": ("unit/test_container.py", "unit/test_modelfile.py"),
    "plots": ("unit/test_plots.py", "unit/test_reports.py"),
    "": ("unit/test_config.py", "unit/test_modelfile.py", "unit/test_train.py", "cli/test_cli.py"),
}
WHOLE_FILE = "unit/test_docs.py"  # runs the docstrings' examples of every file

Runner = Callable[[Path, list[str], float], tuple[int | None, str]]


def tests_of(file: str) -> list[str]:
    """The test files, below tests/, that a change of this file of the package is run against."""
    of_named = [m.killer.split("::")[0] for m in named.MUTANTS if m.file == file]
    of_part = next(tests for prefix, tests in TESTS_OF.items() if file.startswith(prefix))
    return list(dict.fromkeys([*of_named, *of_part, WHOLE_FILE]))


def run_pytest(package_parent: Path, tests: list[str], timeout: float) -> tuple[int | None, str]:
    """pytest's exit code and output; None when time was up."""
    path = os.pathsep.join([str(package_parent), str(named.TESTS)])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", *(str(named.TESTS / t) for t in tests)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=named.TESTS.parent, env=environment, **options) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the tests, and what they have started
            return None, ""
    return process.returncode, output


def outcome(code: int | None, output: str) -> tuple[str, str]:
    """What became of a defect, and the first line that says why."""
    if code is None:
        return "timeout", ""
    if code == 0:
        return "survived", ""
    reasons = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if code in (1, 2) and reasons:
        return "killed", reasons[0][:300]
    if "conftest" in output or "ImportError" in output:  # the package cannot be imported
        return "killed", output.strip().splitlines()[-1][:300]
    raise RuntimeError(f"pytest ended with {code}:\n{output[-3000:]}")


def run_pass(
    num: int, seed: int, only: str, output: Path, *, jobs: int, timeout: float, runner: Runner = run_pytest
) -> dict[str, Any]:
    """Run `num` defects, save for those that `output` has already; what is found is also written there.

    Before the first defect of some test files these are run on the package as it is: a test that fails there tells
    nothing of defects.
    """
    chosen = _generate.choose(_generate.changes(named.SOURCE, only), num, seed)
    known: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"unchanged": {}, "defects": []}
    done = {Change(*(d[field] for field in Change._fields)) for d in known["defects"]}
    lock = threading.Lock()

    def save() -> None:
        partial = output.with_name(output.name + ".part")
        partial.write_text(json.dumps(known, indent=1) + "\n")
        partial.replace(output)

    def one(change: Change) -> None:
        tests = tests_of(change.file)
        with tempfile.TemporaryDirectory() as parent:
            file = named.copy_package(Path(parent)) / change.file
            file.write_text(_generate.apply(change, file.read_text()))
            start = time.monotonic()
            code, text = runner(Path(parent), tests, timeout)
        found, reason = outcome(code, text)
        with lock:
            seconds = round(time.monotonic() - start, 1)
            known["defects"].append(change._asdict() | {"outcome": found, "reason": reason, "seconds": seconds})
            save()
            print(f"{len(known['defects'])}/{num} {found}: {describe(change)} {reason[:80]}", flush=True)

    missing = [c for c in chosen if c not in done]
    for test in sorted({t for c in missing for t in tests_of(c.file)} - known["unchanged"].keys()):
        with tempfile.TemporaryDirectory() as parent:
            named.copy_package(Path(parent))
            start = time.monotonic()
            code, text = runner(Path(parent), [test], 3 * timeout)
        if code != 0:
            raise RuntimeError(f"{test} fails on the package as it is:\n{text[-3000:]}")
        known["unchanged"][test] = round(time.monotonic() - start, 1)
        save()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, missing))
    return known | {"defects": [d for d in known["defects"] if Change(*(d[f] for f in Change._fields)) in set(chosen)]}


def describe(change: Change) -> str:
    old = " ".join(change.old.split())
    return f"src/aevb/{change.file}:{change.line} {change.kind}: {old[:60]} -> {change.new[:60]}"


def report(found: dict[str, Any]) -> str:
    defects = found["defects"]
    of = {name: [d for d in defects if d["outcome"] == name] for name in ("killed", "timeout", "survived")}
    counts = ", ".join(f"{len(group)} {name}" for name, group in of.items())
    survivors = [describe(Change(*(d[f] for f in Change._fields))) for d in of["survived"]]
    return "\n".join([f"{len(defects)} defects: {counts}", *survivors])
