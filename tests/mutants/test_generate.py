"""The generator of defects: what it plants is a program, another one, where it says, and in a copy alone."""

import ast
import json
import re
import subprocess
import sys

import _generate
import _pass
import pytest
import test_mutants as named
from _generate import Change

EVERY = _generate.changes(named.SOURCE)

SOURCE = '''"""Text with ä: 1 + 2."""
from __future__ import annotations

LIMIT: Annotated[int, 3] = 10  # ö

def f(x: Float[Array, "2 + 3"], μ=-0.5) -> 4:
    """A docstring: 5 + 6."""
    if x < LIMIT and not μ:
        raise ValueError(f"{x + 1}", 7 - 1)
    assert x > 8
    return "ä" + g(x, μ) * (
        jnp.sum(x) - True
    )
'''


def test_the_changes_of_a_small_file():
    found = {(c.line, c.kind, c.old, c.new) for c in _generate.changes_of("f.py", SOURCE)}
    product = "g(x, μ) * (\n        jnp.sum(x) - True\n    )"
    assert found == {
        (4, "constant", "10", "(11)"),
        (4, "constant", "10", "(9)"),
        (6, "sign", "-0.5", "(0.5)"),
        (6, "constant", "0.5", "(1.0)"),
        (8, "comparison", "x < LIMIT", "(x <= LIMIT)"),
        (8, "comparison", "x < LIMIT", "(x > LIMIT)"),
        (8, "and/or", "x < LIMIT and not μ", "(x < LIMIT or not μ)"),
        (8, "condition", "x < LIMIT and not μ", "(not (x < LIMIT and (not μ)))"),
        (8, "condition", "not μ", "(μ)"),
        (11, "operator", product, "(g(x, μ) / (jnp.sum(x) - True))"),
        (11, "dropped", product, "(g(x, μ))"),
        (11, "dropped", product, "(jnp.sum(x) - True)"),
        (11, "arguments", "g(x, μ)", "(g(μ, x))"),
        (12, "operator", "jnp.sum(x) - True", "(jnp.sum(x) + True)"),
        (12, "dropped", "jnp.sum(x) - True", "(jnp.sum(x))"),
        (12, "reduction", "jnp.sum", "(jnp.mean)"),
        (12, "constant", "True", "(False)"),
    }


def test_every_kind_of_file_has_some_and_the_kinds_take_turns():
    assert len(EVERY) > 5000
    assert {c.file.split("/")[0] for c in EVERY} >= {"distributions", "models", "estimators", "train", "evaluate"}
    kinds = {c.kind for c in EVERY}
    assert kinds >= {"comparison", "dropped", "arguments", "operator", "condition", "constant", "sign", "reduction"}
    assert {c.kind for c in _generate.choose(EVERY, len(kinds), 3)} == kinds


def test_a_change_is_another_program():
    for change in _generate.choose(EVERY, 60, 0):
        text = (named.SOURCE / change.file).read_text()
        changed = _generate.apply(change, text)
        compile(changed, change.file, "exec")
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), change
        assert text[: change.start].count("\n") + 1 == change.line


def test_a_seed_names_its_changes():
    assert _generate.choose(EVERY, 40, 1)[:25] == _generate.choose(EVERY[::-1], 25, 1)
    assert _generate.choose(EVERY, 25, 1) != _generate.choose(EVERY, 25, 2)
    assert len(set(_generate.choose(EVERY, 500, 1))) == 500
    assert {c.file for c in _generate.changes(named.SOURCE, "train/_as")} == {"train/_ascent.py"}


def test_a_file_that_has_changed_is_refused():
    with pytest.raises(ValueError, match=r"f\.py:1 does not read '10'"):
        _generate.apply(Change("f.py", 1, 4, "constant", "10", "(9)"), "x = 11\n")


def test_every_file_has_tests():
    for file in {c.file for c in EVERY}:
        tests = _pass.tests_of(file)
        assert len(tests) >= 2, file
        assert all((named.TESTS / t).exists() for t in tests), tests


def test_a_pass_plants_in_a_copy_and_goes_on_where_it_was(tmp_path, capsys):
    output = tmp_path / "found.json"
    calls = []

    def runner(parent, tests, timeout):
        """Notices changes of train/_loop.py alone, and needs too long for those of train/_ascent.py."""
        changed = [
            p.relative_to(named.SOURCE).as_posix()
            for p in named.SOURCE.rglob("*.py")
            if (parent / "aevb" / p.relative_to(named.SOURCE)).read_bytes() != p.read_bytes()
        ]
        calls.append((changed, tests))
        if changed == ["train/_ascent.py"]:
            return None, ""
        return (1, "FAILED test_x") if changed == ["train/_loop.py"] else (0, "")

    before = {p: p.read_bytes() for p in named.SOURCE.rglob("*.py")}
    found = _pass.run_pass(6, 0, "train/_", output, jobs=2, timeout=9.0, runner=runner)
    assert {p: p.read_bytes() for p in named.SOURCE.rglob("*.py")} == before
    assert found == json.loads(output.read_text())
    expected = _generate.choose(_generate.changes(named.SOURCE, "train/_"), 6, 0)
    assert {c[0][0] for c in calls if c[0]} == {c.file for c in expected}
    unchanged = [tests for changed, tests in calls if not changed]
    assert sorted(t for tests in unchanged for t in tests) == sorted(
        {t for c in expected for t in _pass.tests_of(c.file)}
    )
    outcomes = {"train/_loop.py": "killed", "train/_ascent.py": "timeout"}
    assert {(d["file"], d["start"], d["new"]): d["outcome"] for d in found["defects"]} == {
        (c.file, c.start, c.new): outcomes.get(c.file, "survived") for c in expected
    }
    calls.clear()
    more = _pass.run_pass(8, 0, "train/_", output, jobs=1, timeout=9.0, runner=runner)
    assert sum(bool(changed) for changed, _ in calls) == 2
    assert len(more["defects"]) == 8
    survived = sum(d["outcome"] == "survived" for d in more["defects"])
    assert re.match(rf"8 defects: \d killed, \d timeout, {survived} survived\n", _pass.report(more) + "\n")
    assert _pass.report(more).count("src/aevb/train/") == survived


def test_tests_that_fail_without_a_defect_end_the_pass(tmp_path):
    with pytest.raises(RuntimeError, match="fails on the package as it is"):
        _pass.run_pass(1, 0, "train/", tmp_path / "f.json", jobs=1, timeout=9.0, runner=lambda *_: (1, "FAILED"))


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [
        (0, "", "survived"),
        (None, "", "timeout"),
        (1, "FAILED a::b - assert", "killed"),
        (2, "ERROR a.py", "killed"),
        (4, "ImportError while loading conftest", "killed"),
    ],
)
def test_outcomes(code, output, expected):
    assert _pass.outcome(code, output)[0] == expected


def test_no_test_found_is_no_outcome():
    with pytest.raises(RuntimeError, match="ended with 5"):
        _pass.outcome(5, "no tests ran")


def test_a_run_of_tests_ends_in_time(tmp_path):
    named.copy_package(tmp_path)
    assert _pass.run_pytest(tmp_path, ["unit/test_docs.py"], 0.01) == (None, "")


def test_the_command_lists_the_named_ones():
    command = [sys.executable, "-m", "tests.mutants", "--list"]
    done = subprocess.run(command, cwd=named.TESTS.parent, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(named.MUTANTS)
