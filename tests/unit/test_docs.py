"""What the docs show is run: the examples in docstrings, the README's Python, the scripts in examples/."""

import doctest
import importlib
import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aevb

ROOT = Path(__file__).parents[2]
MODULES = ["aevb", *(m.name for m in pkgutil.walk_packages(aevb.__path__, "aevb.") if not m.name.endswith("__main__"))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_enough_docstrings_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples]
    assert len(tests) >= 10


def test_readme_names_flags_that_exist() -> None:
    from aevb.cli._parser import make_parser

    fit = make_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    known = {flag for parser in fit.values() for action in parser._actions for flag in action.option_strings}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", (ROOT / "README.md").read_text()))
    assert used
    assert used <= known


def test_readme_python_is_at_most_20_lines_and_compiles() -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)  # type: ignore[union-attr]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    compile(code, "README.md", "exec")


@pytest.mark.slow
def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("epochs=20", "epochs=1"), "README.md", "exec"), {})
    assert {p.name for p in tmp_path.iterdir()} == {"digits.safetensors", "latents.png"}


def example(name: str, out: Path, **options: int) -> Any:
    """Run the example, of under 90 lines: it fits, evaluates, writes its page, saves and loads."""
    path = ROOT / "examples" / f"{name}.py"
    assert len(path.read_text().splitlines()) < 90
    found = runpy.run_path(str(path))["main"](**options, out=out)
    assert {p.name for p in out.iterdir()} >= {"index.html", "evaluation.json", "model.safetensors"}
    return found


def test_own_model_learns_the_planted_factors(tmp_path: Path) -> None:
    log_p, error = example("own_model", tmp_path, epochs=20)
    assert error < 0.1
    assert log_p.standard_error < 0.1


def test_digits_of_a_label_look_like_its_label(tmp_path: Path) -> None:
    options = {"epochs": 5, "num_rows": 5000, "num_test": 60}
    # The diagnostics of a conditional model are those of a page in `test_fit_model.py`.
    fitted, digits = example("conditional_vae", tmp_path, **options, diagnostics=False)
    assert digits.shape == (40, 784) and set(np.unique(digits)) == {0.0, 1.0}
    ink = digits.reshape(10, 4, 784).mean(axis=(1, 2))
    assert ink[1] < 0.8 * ink[0]  # a one has less of it than a nought
    assert fitted.history[-1]["train_elbo"] > fitted.history[0]["train_elbo"] + 5


def test_two_stochastic_layers_share_the_kl(tmp_path: Path) -> None:
    fitted, report = example("two_layers", tmp_path, epochs=2, num_rows=2000, num_test=4)
    first, last = fitted.history[0], fitted.history[-1]
    assert last["train_elbo"] > first["train_elbo"] + 5
    assert last["train_kl_h1"] + last["train_kl_h2"] == pytest.approx(last["train_kl"], abs=1e-3)
    assert [layer["name"] for layer in report.content["latent"]["layers"]] == ["h1", "h2"]
    page = (tmp_path / "index.html").read_text()
    assert "By layers: h1 (dimensions 1 to 20) has" in page and "of which layer h2, sampled" in page


@pytest.mark.slow  # a minute and more: XLA's convolutions on a CPU
def test_a_convolutional_network_goes_through_the_whole_door(tmp_path: Path) -> None:
    fitted, report = example("conv_vae", tmp_path, epochs=1, num_rows=200, num_test=20)
    assert report.event_shape == (28, 28) and report.content["data"]["event_shape"] == [28, 28]
    assert fitted.reconstruct(np.zeros((2, 28, 28), np.uint8)).max() <= 255.0
    assert (tmp_path / "lowest_rows.png").exists()


def test_keras_notebook_example_is_under_30_lines() -> None:
    code = (ROOT / "examples" / "keras_notebook.py").read_text()
    assert len(code.splitlines()) < 30
    config = aevb.Config.from_toml(ROOT / "examples" / "keras_notebook.toml")
    assert (config.model.network.hidden, config.model.latent_dim) == ((256,), 2)
    assert (config.training.optimizer.kind, config.training.epochs) == ("rmsprop", 50)
