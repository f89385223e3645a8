"""The command line, end to end: real MNIST at a small size, a small table, and what people type by mistake.

Fits are what costs: one of digits and one of a table are shared by the tests of this file.
"""

import contextlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import aevb
import aevb.modelfile
from aevb import plots
from aevb.cli import _commands, _tables, main
from aevb.cli._fit_options import topic_lines
from aevb.cli._words import as_flags
from aevb.estimators import GradientStatistics
from aevb.evaluate import EstimatorNoise, Mean
from aevb.reports import Compared
from aevb.reports import _make as make_module

SMALL = ["--epochs", "2", "--hidden", "32", "--evaluation-samples", "20"]
FIGURES = {f"figures/{n}.png" for n in ("history", "latent_space", "manifold", "reconstructions", "samples")}


@pytest.fixture(autouse=True)
def can_be_interrupted() -> None:
    """Tests that a shell put in the background ignore Ctrl-C, and so would the processes that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Done(NamedTuple):
    """What a command left on its streams."""

    code: int
    out: str
    err: str


def command(*args: object, encoding: str = "utf-8") -> Done:
    """Run the command line in this process, with streams of another encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        code = main(list(map(str, args)))
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    return Done(code, *texts)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,230 training images with their labels, and 300 test images, as Keras' mnist.npz has them."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    train, test = aevb.data.load("mnist"), aevb.data.load_test("mnist")
    np.savez(
        path,
        x_train=train.rows[:1230].reshape(-1, 28, 28),
        y_train=train.labels[:1230],
        x_test=test.rows[:300].reshape(-1, 28, 28),
        y_test=test.labels[:300],
    )
    return path


@pytest.fixture(scope="session")
def fitted_digits(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A run directory that the tests below read and do not write, and what its fit printed in an ASCII locale."""
    path = tmp_path_factory.mktemp("runs") / "first"
    return path, command("fit", digits, "--out", path, *SMALL, encoding="ascii")


@pytest.fixture(scope="session")
def run(fitted_digits: tuple[Path, Done]) -> Path:
    return fitted_digits[0]


@pytest.fixture(scope="session")
def again(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The same configuration, from the first run's own file."""
    path = tmp_path_factory.mktemp("runs") / "again"
    return path, command("fit", "--config", run / "config.toml", "--out", path, "--quiet")


@pytest.fixture(scope="session")
def other(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same but for its seed."""
    path = tmp_path_factory.mktemp("runs") / "other"
    assert command("fit", "--config", run / "config.toml", "--seed", "1", "--out", path, "--quiet").code == 0
    return path


class Table(NamedTuple):
    """A table of numbers in other units than the model's, its run, and what the fit printed."""

    file: Path
    run: Path
    printed: Done


TABLE = ["--latent-dim", "1", "--batch-size", "50", "--hidden", "16", "--evaluation-samples", "10"]
TABLE += ["--learning-rate", "0.01"]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    rng, directory = np.random.default_rng(0), tmp_path_factory.mktemp("table")
    z = rng.normal(size=(400, 1))
    rows = 100 + 10 * (z @ rng.normal(size=(1, 4)) + 0.2 * rng.normal(size=(400, 4)))
    file, run = directory / "table.csv", directory / "run"
    np.savetxt(file, rows, delimiter=",", header="a,b,c,d", comments="")
    fit = command("fit", file, "--out", run, *TABLE, "--epochs", "30")
    assert fit.code == 0, fit.err
    return Table(file, run, fit)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_fit_writes_a_whole_run(run: Path) -> None:
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {"config.toml", "metrics.jsonl", "model.safetensors"} | FIGURES
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    for r in records:
        assert r["train_elbo"] == pytest.approx(r["train_reconstruction"] - r["train_kl"], abs=1e-3)
        assert -600 < r["validation_elbo"] < -100
    assert list(aevb.load(run).history) == records


def test_fit_prints_progress_lines_a_table_and_the_files(fitted_digits: tuple[Path, Done]) -> None:
    run, (code, out, err) = fitted_digits
    assert (code, err) == (0, "")
    assert "epoch 1/2  elbo train -" in out
    assert "examples/s" in out
    assert "log p(x), quadrature" in out
    assert "E_q[log p(x|z)]" in out
    assert "300 rows of test" in out
    assert str(run / "figures" / "manifold.png") in out


def test_every_table_can_be_written_in_ascii(fitted_digits: tuple[Path, Done], run: Path) -> None:
    """A terminal without ± must not lose what was computed: the error came after the work."""
    printed = [
        fitted_digits[1],
        command("info", run, encoding="ascii"),
        command("evaluate", run, "--num-samples", "20", "--quick", encoding="ascii"),
        command("compare", run, run, "--num-samples", "5", encoding="ascii"),
    ]
    for done in printed:
        assert done.code == 0, done.err
        assert "+-" in done.out
        boxes = [line for line in done.out.splitlines() if line.startswith(("|", "+-"))]
        assert len({len(line) for line in boxes[-4:]}) == 1  # +- is wider than ±: the columns must still end together
    assert "±" in command("info", run).out


def test_quiet_prints_nothing(again: tuple[Path, Done]) -> None:
    assert again[1] == (0, "", "")


def test_config_of_a_run_repeats_it_to_the_byte(run: Path, again: tuple[Path, Done], other: Path) -> None:
    first, second = aevb.load(run), aevb.load(again[0])
    assert (again[0] / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
    a, b = (aevb.modelfile.named_arrays((f.generative, f.recognition)) for f in (first, second))
    assert a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    timings = {"seconds", "examples_per_second"}
    assert [{k: v for k, v in r.items() if k not in timings} for r in first.history] == [
        {k: v for k, v in r.items() if k not in timings} for r in second.history
    ]
    # ... and another seed gives another model: the comparison above can fail.
    c = aevb.load(other)
    different = aevb.modelfile.named_arrays((c.generative, c.recognition))
    name = "generative.maps['logits'].weight"
    assert different[name].tobytes() != a[name].tobytes()


def test_print_config_is_toml_and_flags_go_before_the_file(tmp_path: Path, capsys) -> None:
    file = tmp_path / "c.toml"
    file.write_text('latent_dim = 7\nactivation = "relu"\n')
    assert main(["fit", "mnist", "--config", str(file), "--latent-dim", "3", "--print_config"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    config = aevb.Config.from_toml(printed)
    assert (config.data.source, config.model.latent_dim) == ("mnist", 3) and config.model.network.activation == "relu"


def test_evaluate_json_agrees_with_the_fit(run: Path, capsys) -> None:
    assert main(["evaluate", str(run), "--json", "--quick"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["part"] == "test"
    assert report["num_rows"] == 300
    expected = aevb.load(run).result["evaluation"]
    assert report["elbo"]["mean"] == pytest.approx(expected["elbo"]["mean"], abs=1e-4)
    exact = report["quadrature_log_likelihood"]
    assert exact["mean"] == pytest.approx(expected["quadrature_log_likelihood"]["mean"], abs=1e-4)
    assert exact["mean"] > report["elbo"]["mean"]
    assert exact["standard_error"] > 0


def test_evaluate_leaves_a_page(run: Path, tmp_path: Path, capsys) -> None:
    where = tmp_path / "page"
    assert main(["evaluate", str(run), "--num-samples", "50", "--rows", "100", "-o", str(where)]) == 0
    out, err = capsys.readouterr()
    figures = ("log_likelihood", "latent_dimensions", "khat", "calibration", "lowest_rows", "nearest_rows")
    names = {"index.html", "evaluation.json", "rows.csv", *(f"{name}.png" for name in figures)}
    assert {p.name for p in where.iterdir()} == names
    report = json.loads((where / "evaluation.json").read_text())
    assert report["importance_sampled_log_likelihood"]["num_rows"] == 100
    assert report["num_rows"] == 300
    assert report["data"]["fingerprint"] in (where / "index.html").read_text()
    assert all(answer["question"] in out for answer in report["answers"])
    assert "evaluating: calibration" in err
    assert main(["evaluate", str(run), "-o", str(where)]) == 6  # nothing is overwritten
    assert "is not empty" in capsys.readouterr().err


def test_evaluations_of_a_run_are_numbered(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(make_module, "diagnose", lambda subject, on_progress: iter(()))  # they take seconds
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    (tmp_path / "evaluation-1").mkdir()  # of another evaluation, which may be under way
    assert main(["evaluate", str(copy), "--method", "elbo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["method"] == "elbo"
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "evaluation-1", "evaluation-2"}


def test_compare_runs(run: Path, other: Path, digits: Path, capsys) -> None:
    assert main(["compare", str(run), str(other), "--num-samples", "20", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert first["log_p_difference"]["mean"] == 0
    assert second["log_p_difference"]["mean"] == pytest.approx(
        second["log_p"]["mean"] - first["log_p"]["mean"], abs=1e-6
    )
    assert second["log_p_difference"]["mean"] != 0
    assert main(["compare", str(run), str(other), "--data", str(digits), "--num-samples", "5"]) == 0
    out, err = capsys.readouterr()
    assert "better ┃" in out
    assert "300 rows of test" in out  # not the rows that both have seen
    assert "its test part, 300 rows, was held out and is used" in err


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_names_of_runs_never_vanish(columns: int, monkeypatch, capsys) -> None:
    """In a narrow terminal, or the 80 columns of a log file, numbers took the place of the names."""
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ["/data/models/vae/runs/mnist-1", "/data/models/vae/runs/mnist-21"]
    mean = Mean(-137.52, 0.48, 1000)
    compared = [Compared(name, mean, mean, mean, mean, 0.5, 0.0, "quadrature") for name in names]
    _tables.print_comparison(compared, "test")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert out.count("-137.52 ± 0.48") == 5
    for name in names:
        end = name.removeprefix("/data/models/vae/run") + ("\n" if columns == 40 else " ")
        assert out.count(end) == 1


def test_rows_in_doubt_are_told_as_far_as_they_are(capsys):
    """Rows that are known to thousandths of a nat were said to be beyond trust, like those that did not settle."""
    mean = Mean(-1.0, 0.1, 34)
    for error, sentence in (
        (0.0072, "log p(x) of a is known to 0.0072 nats: in 21 of 34 rows"),
        (None, "cannot be trusted"),
    ):
        line = Compared("a", mean, mean, mean, mean, 0.5, 0.0, "quadrature", 21, error)
        _tables.print_comparison([line], "test")
        told = " ".join(capsys.readouterr().out.split())
        assert sentence in told and ("trusted" in told) == (error is None)
        assert "one value" not in told
    _tables.print_comparison([line._replace(of_one_value=("erl",))], "test")
    assert "of the values of column erl are one value" in " ".join(capsys.readouterr().out.split())


def test_importance_sampling_is_low_by_no_one_knows_how_much(capsys) -> None:
    mean = Mean(-137.52, 0.48, 1000)
    _tables.print_comparison(
        [Compared(name, mean, mean, mean, mean, 0.5, 0.0, name) for name in ("quadrature", "is")], "test"
    )
    assert "Importance sampling is low in expectation." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("columns", [30, 60, 80, 120])
def test_gradient_noise_fits_the_terminal(columns: int, monkeypatch, capsys) -> None:
    """The lines were 82 and 105 characters long, however wide the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    noise = GradientStatistics(1e3, 1.2345e6, 0.01234, 9, 3, 0.01)
    with _tables.gradient_lines(quiet=False) as show:
        for name in ("score, leave-one-out", "sgvb-b"):
            show(EstimatorNoise(name, 10, "elbo", {"recognition": noise, "generative": noise}))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert "gradient of the bound per example: variance summed over parameters" in " ".join(out.split())
    assert ("variance q 1.23e+06" in out) == (columns < 80)
    for number in ("score, leave-one-out", "sgvb-b", "1.23e+06", "0.0123", "10.00"):
        assert number in out


def numbers_of(out: str) -> dict[str, float]:
    """The means of a printed table, by the first word of its lines."""
    found = re.findall(r"^[│ ]*(ELBO|log p\(x\)|reconstruction|KL).*?(-?\d+\.\d+)[^│]*│", out, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_one_number_in_the_datas_own_units_wherever_people_read(table: Table) -> None:
    """`compare` added the Jacobian of the scaling, and the other tables did not: -13.09 beside -3.14 for one run."""
    evaluation = aevb.load(table.run).result["evaluation"]
    jacobian = evaluation["log_jacobian"]
    assert jacobian < -5
    expected = {
        "ELBO": evaluation["elbo"]["mean"],
        "reconstruction": evaluation["reconstruction"]["mean"],
        "KL": evaluation["kl"]["mean"],
        "log p(x)": evaluation["quadrature_log_likelihood"]["mean"],
    }
    evaluated = command("evaluate", table.run, "--quick")
    for done in (table.printed, command("info", table.run), evaluated):
        assert done.code == 0
        assert numbers_of(done.out) == pytest.approx(expected, abs=0.006)
        assert f"of the scaled data they are {-jacobian:.2f} nats higher" in " ".join(done.out.split())
    assert f"log p(x) is {expected['log p(x)']:.2f} " in evaluated.out  # and so in words
    compared = command("compare", table.run, table.run)
    row = [line for line in compared.out.splitlines() if line.startswith("│")][-1]
    found = re.findall(r"-\d+\.\d+", row)
    assert [float(number) for number in found[:2]] == pytest.approx([expected["ELBO"], expected["log p(x)"]], abs=0.006)
    # Epoch by epoch too, and in JSON.
    record = json.loads((table.run / "metrics.jsonl").read_text().splitlines()[-1])
    last = [line for line in table.printed.out.splitlines() if line.startswith("epoch 30/30")]
    assert f"validation {record['validation_elbo']:.2f}" in last[0]
    assert record["validation_elbo"] == pytest.approx(expected["ELBO"], abs=1.0)  # of the same rows, with other noise
    for args in (["evaluate", table.run, "--quick"], ["compare", table.run, table.run]):
        content = json.loads(command(*args, "--json").out)
        content = content["runs"][0] if "runs" in content else content
        assert content["elbo"]["mean"] == pytest.approx(expected["ELBO"], abs=1e-4)


def test_of_the_training_file_the_held_out_part_is_evaluated(table: Table) -> None:
    """`aevb evaluate RUN TRAINFILE` took training rows for held-out ones."""
    done = command("evaluate", table.run, table.file, "--quick")
    assert done.code == 0
    assert "this model was fitted to the training rows of" in done.err
    assert "its validation part, 40 rows, was held out and is used" in done.err
    assert "40 rows of validation" in done.out
    assert numbers_of(done.out) == numbers_of(table.printed.out)


def test_rows_of_another_file_are_not_taken_for_a_part_of_the_training_file(table: Table, tmp_path: Path) -> None:
    """It was "its test part, 60 rows": they were of the file that was given as --test, and the one named has none."""
    rows = table.file.read_text().splitlines(keepends=True)
    train, test, run = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "r"
    train.write_text("".join(rows[:241]))
    test.write_text("".join([rows[0], *rows[241:301]]))
    fit = ["fit", train, "--test", test, *TABLE, "--epochs", "1", "--quiet"]
    assert command(*fit, "--validation", "0", "--out", run).code == 0
    evaluate = ["evaluate", run, "--num-samples", "0", "--quick"]
    assert "60 rows of test" in command(*evaluate).out
    for given in (True, False):
        if not given:
            test.unlink()
        done = command(*evaluate, train)
        assert done.code == 0
        assert f"held out nothing of it: these are training rows; {test} was given as test data at the fit" in done.err
        assert "240 rows of train" in done.out
        assert "Not for new rows" in done.out
    # What was cut off is a part of the file.
    test.write_text("".join([rows[0], *rows[241:301]]))
    assert command(*fit, "--validation", "0.1", "--out", tmp_path / "s").code == 0
    done = command("evaluate", tmp_path / "s", train, "--num-samples", "0", "--quick")
    assert "its validation part, 24 rows, was held out and is used" in done.err


def test_a_fit_says_where_its_test_rows_are_its_training_rows(table: Table, tmp_path: Path) -> None:
    fit = ["fit", table.file, *TABLE, "--epochs", "1", "--test", table.file, "--validation", "0"]
    done = command(*fit, "--out", tmp_path / "a")
    assert "400 of the 400 rows of test equal rows that are trained on" in " ".join(done.out.split())
    assert "note" not in done.err
    assert "trained on" not in table.printed.out


def test_other_data_are_evaluated_as_they_are_named(table: Table, tmp_path: Path) -> None:
    rows = np.loadtxt(table.file, delimiter=",", skiprows=1)[:399]  # one row less is another data set
    np.savetxt(tmp_path / "new.csv", rows, delimiter=",", header="a,b,c,d", comments="")
    done = command("evaluate", table.run, tmp_path / "new.csv", "--num-samples", "0", "--quick")
    assert done.code == 0
    assert "399 rows of" in done.out
    assert "held out" not in done.err


def test_a_colleague_without_the_data_is_told_to_name_them(table: Table, tmp_path: Path) -> None:
    """The message was about the first user's absolute path."""
    moved = tmp_path / "elsewhere.csv"
    table.file.rename(moved)
    try:
        for args in (["evaluate", table.run], ["plot", table.run], ["compare", table.run, table.run]):
            code, _, err = command(*args)
            assert code == 3
            assert len(lines(err)) == 1
            assert f"are not here: table.csv was {table.file}" in err
            assert ("--data DATA" if args[0] == "compare" else f"aevb {args[0]} {table.run} DATA") in err
        done = command("evaluate", table.run, moved, "--num-samples", "10", "--quick")
        assert done.code == 0
        assert "40 rows of validation" in done.out
    finally:
        moved.rename(table.file)


def test_a_run_whose_data_have_changed_must_be_told_its_data(table: Table, tmp_path: Path) -> None:
    kept = shutil.copy(table.file, tmp_path / "kept.csv")
    try:
        table.file.write_text(table.file.read_text().replace("a,b,c,d\n", "a,b,c,d\n1,2,3,4\n"))
        code, _, err = command("evaluate", table.run, "--quick")
        assert code == 3
        assert "has changed since this model was fitted" in err
        assert command("evaluate", table.run, table.file, "--num-samples", "0", "--quick").code == 0
    finally:
        shutil.copy(kept, table.file)


def test_runs_that_held_out_other_rows_of_the_same_data(table: Table, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert command("fit", table.file, "--out", other, *TABLE, "--epochs", "1", "--seed", "1", "--quiet").code == 0
    code, _, err = command("compare", table.run, other)
    assert code == 3
    assert f"{other} held out other rows than {table.run}" in err
    done = command("compare", table.run, other, "--data", table.file, "--num-samples", "0")
    assert done.code == 0
    assert "held out different rows of it: all rows are used, most of which trained them" in done.err
    assert "400 rows of" in done.out


def test_encode_decode_reconstruct_sample(run: Path, digits: Path, tmp_path: Path) -> None:
    z, x, both, table, draws = (tmp_path / n for n in ("z.npy", "x.npy", "both.npz", "z.csv", "draws.npz"))
    assert main(["encode", str(run), str(digits), "-o", str(z)]) == 0
    assert main(["encode", str(run), str(digits), "-o", str(both)]) == 0
    assert main(["encode", str(run), str(digits), "-o", str(table)]) == 0
    assert main(["decode", str(run), str(z), "-o", str(x)]) == 0
    assert main(["reconstruct", str(run), str(digits), "-o", str(tmp_path / "r.npy")]) == 0
    assert main(["sample", str(run), "--num", "7", "-o", str(draws)]) == 0
    means = np.load(z)
    assert means.shape == (1230, 2)
    np.testing.assert_array_equal(np.load(both)["mean"], means)
    assert (np.load(both)["scale"] > 0).all()
    header, first = table.read_text().splitlines()[:2]
    assert header == '"z_1","z_2","z_1_scale","z_2_scale"'
    np.testing.assert_allclose([float(v) for v in first.split(",")[:2]], means[0], rtol=1e-6)
    np.testing.assert_allclose(np.load(x), np.load(tmp_path / "r.npy"), atol=1e-6)
    assert np.load(x).shape == (1230, 28, 28) and np.load(x).min() >= 0 and 10 < np.load(x).max() <= 255
    assert np.load(draws)["x"].shape == (7, 28, 28)
    assert set(np.unique(np.load(draws)["x"])) == {0, 255}
    assert main(["sample", str(run), "--num", "2", "-o", str(tmp_path / "draws.csv")]) == 0  # a table of 784 columns
    assert aevb.data.load(tmp_path / "draws.csv").rows.shape == (2, 784)


def test_decode_takes_whatever_encode_wrote(run: Path, digits: Path, tmp_path: Path) -> None:
    decoded = []
    for name in ("z.npy", "z.npz", "z.csv", "Z.NPY"):
        assert main(["encode", str(run), str(digits), "-o", str(tmp_path / name)]) == 0
        assert main(["decode", str(run), str(tmp_path / name), "-o", str(tmp_path / f"x-{name}.npy")]) == 0
        decoded.append(np.load(tmp_path / f"x-{name}.npy"))
    for other in decoded[1:]:
        np.testing.assert_allclose(other, decoded[0], atol=1e-6)


def test_flat_bytes_are_pixels(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (50, 12), dtype=np.uint8)
    with pytest.warns(aevb.GuessWarning, match="taken for pixels"):
        fitted = aevb.fit(rows, hidden=(4,), epochs=1, batch_size=10, evaluation_samples=0)
    assert (fitted.config.model.likelihood.kind, fitted.config.data.binarization) == ("bernoulli", "dynamic")


def test_ctrl_c_during_the_evaluation_keeps_the_trained_model(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    slow = ["--epochs", "1", "--hidden", "8", "--evaluation-samples", "1000000"]
    args = [sys.executable, "-m", "aevb", "fit", str(digits), "--out", str(out), *slow]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), text=True)
    deadline = time.monotonic() + 120
    while not (out / "model.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    try:
        for _ in range(12):  # a machine with other jobs may take its time over the call of the device that is under way
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=15)
                break
    finally:
        process.kill()  # or a failure would leave it at work
        _, error = process.communicate()
    assert process.returncode == 130
    assert "the trained model is in" in error
    assert "Traceback" not in error
    assert len(aevb.load(out).history) == 1


def test_ctrl_c_does_not_wait_for_the_device(run: Path, digits: Path) -> None:
    """Annealing is one call of the device for minutes."""
    long = ["--method", "ais", "--rows", "10", "--distributions", "100000", "--quick"]
    args = [sys.executable, "-m", "aevb", "evaluate", str(run), str(digits), *long]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), text=True)
    try:
        assert any("log p(x)" in line for line in process.stderr)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        _, error = process.communicate()
    assert process.returncode == 130
    assert "stopped by Ctrl-C before this command had done a row of log p(x)" in error
    assert "Traceback" not in error


def test_a_full_disk_is_one_line(run: Path, monkeypatch, capsys) -> None:
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_commands, "info", full)
    assert main(["info", str(run)]) == 6
    assert capsys.readouterr().err == "aevb: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("args", [["info"], ["evaluate", "--num-samples", "0", "--quick"]], ids=lambda args: args[0])
def test_a_reader_who_has_gone_is_told_by_the_exit_code(args: list[str], run: Path) -> None:
    """`aevb info RUN | head -1` ended with 1, which is no code of ours."""
    reader, writer = os.pipe()
    os.close(reader)
    args = [sys.executable, "-m", "aevb", args[0], str(run), *args[1:]]
    try:
        done = subprocess.run(args, stdout=writer, stderr=subprocess.PIPE, env=environment(), text=True)
    finally:
        os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr


def test_plot_and_info(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["plot", str(run), "-o", str(tmp_path / "figures")]) == 0
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5
    capsys.readouterr()
    assert main(["info", str(run)]) == 0
    out = capsys.readouterr().out
    assert "25,120" in out  # 784 x 32 + 32
    assert "total parameters: 51,220" in out  # 25,120 + 2 x 66 + 96 + 25,872
    assert "sha256:" in out


def test_compare_estimators_shows_the_naive_ones_noise(run: Path, tmp_path: Path, capsys) -> None:
    figure = tmp_path / "noise.png"
    few = ["--rows", "20", "--num-samples", "2", "--draws", "20"]
    assert main(["compare-estimators", str(run), *few, "-o", str(figure)]) == 0
    out = capsys.readouterr().out
    for name in (
        "score (naive)",
        "score, running mean",
        "score, leave-one-out",
        "sgvb-a",
        "sgvb-b",
        "stl",
        "iwae",
        "dreg",
    ):
        assert name in out
    assert all(
        len(line) <= 90 for line in out.splitlines() if not line.startswith(("gradient", "of the", str(tmp_path)))
    )
    assert figure.stat().st_size > 10_000
    assert main(["compare-estimators", str(run), *few, "-o", str(figure)]) == 6  # nothing is overwritten
    capsys.readouterr()
    assert main(["compare-estimators", str(run), *few, "-o", str(tmp_path / "other.png"), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["estimators"]
    variance = {line["estimator"]: line["groups"]["recognition"]["variance"] for line in lines}
    assert variance["score (naive)"] > 100 * variance["sgvb-a"]  # the paper's section 2.2
    assert {line["bound_name"] for line in lines} == {"elbo", "iwae_bound"}


@pytest.mark.parametrize(
    "flags",
    [
        ["--prior", "laplace", "--estimator", "dreg", "--num-samples", "3"],
        [
            "--posterior",
            "iaf",
            "--flow-steps",
            "1",
            "--flow-hidden",
            "16",
            "--prior",
            "vamp",
            "--prior-components",
            "5",
        ],
    ],
    ids=lambda flags: flags[1],
)
def test_families_flows_and_priors_from_the_command_line(flags, tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert command("fit", colour_images(tmp_path), "--out", out, "--batch-size", "20", *SMALL, *flags).code == 0
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == FIGURES
    assert "total parameters" in command("info", out).out
    again = json.loads(command("evaluate", out, "--num-samples", "0", "--json", "--quick").out)["elbo"]["mean"]
    assert again == pytest.approx(aevb.load(out).result["evaluation"]["elbo"]["mean"], rel=1e-4)


def colour_images(tmp_path: Path) -> Path:
    np.save(tmp_path / "colour.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 3, 3), dtype=np.uint8))
    return tmp_path / "colour.npy"


COLOUR = ["--binarization", "none", "--batch-size", "20", "--likelihood", "bernoulli", *SMALL]


def test_grey_pixels_are_called_a_cross_entropy(tmp_path: Path) -> None:
    out = tmp_path / "grey"
    done = command("fit", colour_images(tmp_path), "--out", out, *COLOUR)
    assert done.code == 0, done.err
    assert "not a likelihood" in done.out
    assert "ELBO" not in done.out.replace("with ELBOs of binarised data", "")
    assert "importance" not in done.out
    assert "elbo" not in (out / "metrics.jsonl").read_text()
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == FIGURES  # of colour images, that is


def test_a_figure_that_fails_loses_nothing_but_itself(tmp_path: Path, monkeypatch) -> None:
    """A traceback in a figure took the result of the whole fit with it."""

    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no such\ncolour")

    monkeypatch.setattr("aevb.plots._save.plot_reconstructions", broken)
    out = tmp_path / "run"
    done = command("fit", colour_images(tmp_path), "--out", out, *COLOUR, "--epochs", "1")
    assert done.code == 0
    failed = out / "figures" / "reconstructions.png"
    assert done.err == f"aevb: note: the figure {failed} was not drawn: RuntimeError: no such colour\n"
    assert "objective (grey pixels" in done.out
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == FIGURES - {"figures/reconstructions.png"}
    assert aevb.load(out).result["epochs"] == 1
    # Where figures are all that was asked for, the exit code says that one is missing.
    done = command("plot", out, "-o", tmp_path / "figures")
    assert done.code == 6
    assert len(lines(done.err)) == 1
    assert len(list((tmp_path / "figures").iterdir())) == 4


def test_a_figure_of_an_evaluation_that_fails(table: Table, tmp_path: Path, monkeypatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("aevb.reports._figures.draw_log_likelihood", broken)
    done = command("evaluate", table.run, "--method", "elbo", "-o", tmp_path / "page")
    assert done.code == 0
    assert "log_likelihood.png was not drawn: RuntimeError: no ink" in done.err
    assert "40 rows of validation" in done.out
    assert {"evaluation.json", "index.html"} <= {path.name for path in (tmp_path / "page").iterdir()}


def interrupted(*args: object, monkeypatch: pytest.MonkeyPatch) -> Done:
    """A command that Ctrl-C ends: it leaves the process at once, which must go on here."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stopped:
        main(list(map(str, args)))
    return Done(stopped.value.code, out.getvalue(), errors.getvalue())


def test_ctrl_c_while_figures_are_drawn_leaves_the_result(table: Table, tmp_path: Path, monkeypatch) -> None:
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "save_figures", stop)
    args = ["fit", table.file, "--out", tmp_path / "r", *TABLE, "--epochs", "30"]
    code, out, err = interrupted(*args, monkeypatch=monkeypatch)
    assert code == 130
    assert "stopped by Ctrl-C while drawing figures; the trained model is in" in err
    assert f"aevb plot {tmp_path / 'r'}" in err
    assert "ELBO" in out


def test_ctrl_c_says_which_rows_of_log_p_are_kept(table: Table, tmp_path: Path, monkeypatch) -> None:
    """They went when the last one was done, while it was said that they are kept."""

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "r"
    shutil.copytree(table.run, run)
    monkeypatch.setattr(aevb.evaluate, "latent_diagnostics", stop)
    args = ["evaluate", run, "--method", "is", "--num-samples", "40"]
    _, _, err = interrupted(*args, monkeypatch=monkeypatch)
    assert "log p(x) of 40 rows is kept, and the same command goes on from there" in err
    monkeypatch.undo()
    done = command(*args)
    assert done.code == 0
    assert "log p(x), 40 of 40 rows are done already" in done.err
    assert not list(run.glob(".unfinished-*"))
    monkeypatch.setattr(aevb.evaluate, "latent_diagnostics", stop)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    _, _, err = interrupted(*args, monkeypatch=monkeypatch)
    assert "log p(x) of 40 rows was done and is lost" in err
    assert "goes on" not in err


def test_ctrl_c_within_a_callback_is_not_lost(table: Table, monkeypatch) -> None:
    """It came while JAX was collecting garbage: Python printed a traceback, and the command went on."""

    class Garbage:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def collect(args: object) -> int:
        Garbage()
        time.sleep(30.0)
        return 0

    monkeypatch.setattr(_commands, "info", collect)
    assert interrupted("info", table.run, monkeypatch=monkeypatch) == (130, "", "aevb: stopped by Ctrl-C\n")


def test_table_of_numbers(table: Table) -> None:
    assert "gaussian likelihood" in table.printed.out
    fitted, rows = aevb.load(table.run), np.loadtxt(table.file, delimiter=",", skiprows=1)
    assert fitted.columns == ("a", "b", "c", "d")
    reconstructed = fitted.reconstruct(str(table.file))
    assert np.abs(reconstructed - rows).mean() < 0.5 * np.abs(rows - rows.mean(0)).mean()  # in the data's units


def test_fields_are_flags_at_the_command_line_and_keywords_in_python() -> None:
    """One message serves both: the library names a field as Python does, and the command line makes a flag of it."""
    said = "use likelihood='gaussian', sigmoid_mean=True or scaling=none; batch_size is 5 (see /x/batch_size.npy)"
    shown = "use --likelihood gaussian, --sigmoid-mean or --scaling none; --batch-size is 5 (see /x/batch_size.npy)"
    assert as_flags(said) == shown
    kept = "unknown key in c.toml: 'latent_dims'; did you mean 'latent_dim'?"
    assert as_flags(kept) == kept
    for name in aevb.config.NAMES:
        assert as_flags(f"{name} must be at least 1") == f"--{name.replace('_', '-')} must be at least 1"
    assert as_flags("steps of 'iaf' must be at least 1") == "--flow-steps must be at least 1"
    assert as_flags("hidden of 'mlp' needs 1") == "--hidden needs 1"
    assert as_flags("hidden of 'coupling' needs 1") == "--flow-hidden needs 1"
    assert as_flags("beta of 'ciwae' must lie in [0, 1]") == "--ciwae-weight must lie in [0, 1]"
    assert as_flags("steps of 'none' must be") == "steps of 'none' must be"


def test_a_warning_is_one_line(table: Table, monkeypatch) -> None:
    """The user has no use for the line of our source that it comes from."""
    text = "counts are taken\nfor pixels; say so with scaling='unit'"

    def warn(args: object) -> int:
        print(warnings.formatwarning(UserWarning(text), UserWarning, "aevb/data/arrays.py", 12), end="")
        return 0

    monkeypatch.setattr(_commands, "info", warn)
    before = warnings.formatwarning
    assert command("info", table.run).out == "aevb: note: counts are taken for pixels; say so with --scaling unit\n"
    assert warnings.formatwarning is before


def test_data_may_stand_after_the_flags(table: Table) -> None:
    """Argparse of Python 3.11 leaves an optional argument over that comes after a flag."""
    done = command("evaluate", table.run, "--num-samples", "0", "--quick", table.file)
    assert done.code == 0
    assert "40 rows of validation" in done.out


# name, arguments, exit code, what the message must say
BAD = [
    ("no command", [], 2, "COMMAND"),
    ("no data", ["fit"], 2, "needs data"),
    ("unknown flag", ["fit", "mnist", "--latentdim", "3"], 2, "no option --latentdim; did you mean '--latent-dim'?"),
    ("field for flag", ["fit", "mnist", "--latent_dim=3"], 2, "did you mean '--latent-dim'?"),
    ("initials for flag", ["fit", "mnist", "--lr", "0.1"], 2, "did you mean '--learning-rate'?"),
    ("misspelt and incomplete", ["encode", "--ouput", "x.npy"], 2, "did you mean '--output'?"),
    ("unlike any flag", ["info", "r", "--zzz"], 2, "no option --zzz ("),
    ("misspelt command", ["evalute", "r"], 2, "did you mean 'evaluate'?"),
    ("before the command", ["--hepl"], 2, "did you mean '--help'?"),
    ("help on no command", ["--help", "evalute"], 2, "did you mean 'evaluate'?"),
    ("one too many", ["info", "r", "s"], 2, "'s' is one argument too many"),
    ("swapped", ["encode", "{tmp}/ok.npy", "{run}", "-o", "{tmp}/x.npy"], 2, "aevb encode {run} {tmp}/ok.npy"),
    (
        "swapped, with flags",
        ["encode", "{tmp}/ok.npy", "{run}", "-o", "z.npy"],
        2,
        "write: aevb encode {run} {tmp}/ok.npy -o z.npy",
    ),
    (
        "swapped, flags first",
        ["evaluate", "--quick", "--rows", "5", "{tmp}/ok.npy", "{run}"],
        2,
        "write: aevb evaluate --quick --rows 5 {run} {tmp}/ok.npy",
    ),
    (
        "a share in percent",
        ["fit", "{tmp}/ok.npy", "--validation", "30%"],
        2,
        "--validation 30% is no path; write the share as a number: --validation 0.3",
    ),
    ("swapped, to evaluate", ["evaluate", "{tmp}/ok.npy", "{run}"], 2, "RUN and DATA are swapped"),
    ("swapped, by name", ["evaluate", "mnist", "{run}"], 2, "aevb evaluate {run} mnist"),
    ("data for a run", ["info", "{tmp}/text.csv"], 2, "text.csv is data"),
    ("data among runs", ["compare", "{run}", "{tmp}/ok.npy"], 2, "ok.npy is data"),
    ("a run for data", ["encode", "{run}", "{run}", "-o", "{tmp}/x.npy"], 2, "is a run, and data must stand"),
    ("fit a run", ["fit", "{run}"], 2, "aevb fit --config {run}/config.toml"),
    ("fit a configuration", ["fit", "{run}/config.toml"], 2, "aevb fit --config {run}/config.toml"),
    ("directory of runs", ["info", "{run}/.."], 4, "holds some: give one of them"),
    ("fit without end", ["info", "{tmp}/cut"], 4, "the fit did not come to its end"),
    ("of another method", ["evaluate", "{run}", "--distributions", "9"], 2, "--distributions 9 is used by method ais"),
    ("a picture for all", ["plot", "{run}", "-o", "{tmp}/x.png"], 2, "name a directory for them"),
    ("a page for a report", ["evaluate", "{run}", "-o", "{tmp}/x.html"], 2, "name a directory for them"),
    ("directory for data", ["fit", "{tmp}"], 3, "is a directory"),
    ("empty table", ["fit", "{tmp}/empty.csv"], 3, "is empty"),
    ("empty array", ["fit", "{tmp}/empty.npy"], 3, "empty.npy"),
    ("not a number", ["fit", "mnist", "--epochs", "many"], 2, "many"),
    ("unknown activation", ["fit", "mnist", "--activation", "tahn"], 2, "did you mean 'tanh'?"),
    ("swallowed data", ["fit", "--hidden", "16", "x.npy"], 2, "put it before the options"),
    ("huge seed", ["sample", "{run}", "--seed", "9" * 30, "-o", "s.npy"], 2, "too large"),
    ("huge batch", ["fit", "mnist", "--batch-size", "9" * 12], 2, "at most 10,000,000"),
    ("idle option", ["fit", "mnist", "--alpha", "0.2"], 2, "option of estimator renyi alone"),
    ("infinite KL", ["fit", "{digits}", "--posterior", "gaussian", "--prior", "gamma"], 2, "has no density"),
    ("no posterior", ["fit", "mnist", "--prior", "pareto"], 2, "unknown prior 'pareto'"),
    ("no closed KL", ["fit", "{digits}", "--prior", "mixture", "--estimator", "sgvb-b"], 2, "no closed form"),
    (
        "free bits",
        ["fit", "{digits}", "--posterior", "iaf", "--free-bits", "0.5"],
        2,
        "--free-bits cannot be used here",
    ),
    ("moving edges", ["fit", "{digits}", "--posterior", "uniform", "--prior", "uniform"], 2, "has no density"),
    ("one draw", ["compare-estimators", "{run}", "--draws", "1"], 2, "at least 2"),
    ("figure's suffix", ["compare-estimators", "{run}", "-o", "x.pdf"], 2, ".png"),
    ("zero epochs", ["fit", "mnist", "--epochs", "0"], 2, "--epochs must be at least 1"),
    ("long warm-up", ["fit", "mnist", "--kl-warmup", "99", "--epochs", "2"], 2, "--kl-warmup must not be longer"),
    (
        "early stopping",
        ["fit", "mnist", "--early-stopping", "3", "--validation", "0"],
        2,
        "when --early-stopping is on",
    ),
    ("missing config", ["fit", "mnist", "--config", "{tmp}/none.toml"], 2, "none.toml"),
    ("typo in config", ["fit", "mnist", "--config", "{tmp}/typo.toml"], 2, "did you mean 'latent_dim'"),
    ("type in config", ["fit", "mnist", "--config", "{tmp}/type.toml"], 2, "type.toml: epochs must be a whole number"),
    ("sigmoid mean", ["fit", "{digits}", "--sigmoid-mean"], 2, "sigmoid-mean"),
    ("sigmoid of z-scores", ["fit", "{tmp}/ok.npy", "--sigmoid-mean", "--batch-size", "10"], 2, "standardised"),
    ("unknown name", ["fit", "mnits"], 3, "did you mean 'mnist'"),
    ("missing file", ["fit", "{tmp}/none.npy"], 3, "none.npy"),
    ("0 rows", ["fit", "{tmp}/zero.npy"], 3, "0 rows"),
    ("1 row", ["fit", "{tmp}/one.npy"], 3, "constant"),
    ("no row to hold out", ["fit", "{tmp}/one.npy", "--validation", "0.1"], 3, "set --validation 0 for no validation"),
    ("no row to stop by", ["fit", "{tmp}/one.npy", "--early-stopping", "2"], 3, "set --validation 0.5 or another"),
    ("fewer than the batch", ["fit", "{tmp}/ok.npy", "--batch-size", "99"], 3, "fewer than the batch of 99"),
    ("NaN", ["fit", "{tmp}/nan.npy"], 3, "row 3"),
    ("text", ["fit", "{tmp}/text.npy"], 3, "dtype"),
    ("objects", ["fit", "{tmp}/objects.npy"], 3, "object"),
    ("support", ["fit", "{tmp}/grey.npy", "--likelihood", "bernoulli"], 3, "255"),
    ("raw integers", ["fit", "{digits}", "--binarization", "none", "--scaling", "none"], 3, "scaling"),
    ("cut", ["fit", "{tmp}/cut.npy"], 3, "cut.npy"),
    ("csv text", ["fit", "{tmp}/text.csv"], 3, "row 1 (from 0)"),
    ("no such run", ["info", "{tmp}/none"], 4, "no such file"),
    ("no run", ["info", "{tmp}"], 4, "is not a run"),
    ("compare one", ["compare", "{run}"], 2, "two runs or more"),
    ("samples past 32 bits", ["evaluate", "{run}", "--quick", "--num-samples", "5000000000"], 2, "at most 10,000,000"),
    (
        "samples past the memory",
        ["sample", "{run}", "--num", "100000000000000", "-o", "{tmp}/many.npy"],
        2,
        "draw fewer at",
    ),
    ("harmonic samples", ["evaluate", "{run}", "--method", "hmc", "--num-samples", "1"], 2, "at least 2"),
    ("unknown method", ["evaluate", "{run}", "--method", "mcmc"], 2, "unknown 'mcmc'"),
    ("ais of one", ["evaluate", "{run}", "--method", "ais", "--distributions", "1"], 2, "at least 2"),
    ("altered model", ["evaluate", "{tmp}/altered.safetensors"], 4, "altered.safetensors"),
    ("cut model", ["evaluate", "{tmp}/short.safetensors"], 4, "short.safetensors"),
    ("pickle", ["evaluate", "{tmp}/pickle.safetensors"], 4, "pickle"),
    ("taken", ["fit", "mnist", "--out", "{run}"], 6, "already holds a run"),
    ("out is a file", ["fit", "mnist", "--out", "{tmp}/ok.npy"], 6, "ok.npy"),
    ("output exists", ["sample", "{run}", "-o", "{tmp}/ok.npy"], 6, "exists already"),
    ("no directory", ["sample", "{run}", "-o", "{tmp}/none/x.npy"], 6, "no directory"),
    ("unknown suffix", ["sample", "{run}", "-o", "{tmp}/x.xlsx"], 2, ".npy, .npz, .csv"),
    ("latents", ["decode", "{run}", "{tmp}/ok.npy", "-o", "{tmp}/x.npy"], 3, "2 dimensions"),
    ("other columns", ["encode", "{run}", "{tmp}/ok.npy", "-o", "{tmp}/x.npy"], 3, "784"),
]


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    tmp = tmp_path_factory.mktemp("bad")
    ok = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    np.save(tmp / "ok.npy", ok)
    np.save(tmp / "zero.npy", ok[:0])
    np.save(tmp / "one.npy", ok[:1])
    np.save(tmp / "nan.npy", np.where(np.arange(40)[:, None] == 3, np.nan, ok))
    np.save(tmp / "text.npy", np.array([["a", "b"]]))
    np.save(tmp / "objects.npy", np.array([[{}, 1]], dtype=object), allow_pickle=True)
    np.save(tmp / "grey.npy", 255 * np.abs(ok) / np.abs(ok).max())
    (tmp / "cut.npy").write_bytes((tmp / "ok.npy").read_bytes()[:-10])
    (tmp / "text.csv").write_text("a,b\n1,2\n3,x\n")
    (tmp / "typo.toml").write_text("latent_dims = 3\n")
    (tmp / "empty.csv").touch()
    (tmp / "empty.npy").touch()
    (tmp / "cut").mkdir()
    shutil.copy(run / "config.toml", tmp / "cut")
    (tmp / "type.toml").write_text('epochs = "three"\n')
    model = bytearray((run / "model.safetensors").read_bytes())
    (tmp / "short.safetensors").write_bytes(model[:-100])
    model[-5000] ^= 1
    (tmp / "altered.safetensors").write_bytes(model)
    (tmp / "pickle.safetensors").write_bytes(
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93."
    )
    return tmp


@pytest.mark.parametrize(("args", "code", "message"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_gets_one_clear_line(
    args, code, message, bad: Path, run: Path, digits: Path, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)  # where a default run directory would go
    before = {p: p.read_bytes() for d in (bad, run) for p in d.rglob("*") if p.is_file()}
    try:
        exit_code = main([a.format(tmp=bad, run=run, digits=digits) for a in args])
    except SystemExit as e:
        exit_code = e.code
    captured = capsys.readouterr()
    assert exit_code == code, captured.err
    assert len(lines(captured.err)) == 1, captured.err
    assert message.format(tmp=bad, run=run) in captured.err
    assert captured.err.startswith("aevb")
    assert {p: p.read_bytes() for d in (bad, run) for p in d.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.iterdir())  # nothing was left behind


def test_divergence_keeps_the_last_good_model(table: Table, tmp_path: Path) -> None:
    out = tmp_path / "r"
    few = ["--batch-size", "20", "--learning-rate", "1e30", "--epochs", "2"]
    code, _, err = command("fit", table.file, "--out", out, *TABLE, *few)
    assert code == 5
    assert "10 steps in a row" in err
    assert len(lines(err)) == 1
    assert aevb.load(out).result["stopped"] == "diverged"


def environment(**extra: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(aevb.__file__).parents[1]), "JAX_PLATFORMS": "cpu"} | extra


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = "import sys; from aevb.cli import main\ntry: main(['fit', '--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'jax', 'numpyro', 'matplotlib', 'pyarrow', 'equinox'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    for flag in ("--latent-dim", "--hidden", "--print-config", "--early-stopping", "--help TOPIC"):
        assert flag in done.stdout
    assert len(done.stdout.splitlines()) <= 45


def test_model_reads_the_same_in_a_process_with_another_hash_seed(run: Path, digits: Path, tmp_path: Path) -> None:
    fitted = aevb.load(run)
    test = aevb.data.load_test(str(digits)).take(np.arange(50))
    np.savez(tmp_path / "t.npz", x=test.rows)
    code = (
        "import sys, numpy as np, aevb\n"
        "f = aevb.load(sys.argv[1]); rows = np.load(sys.argv[2])['x']\n"
        "z = f.encode(rows)\n"
        "e = f.evaluate(rows, num_samples=5).bound.value\n"
        "np.savez(sys.argv[3], mean=z.mean, scale=z.scale, x=f.decode(z.mean), e=e)"
    )
    out, seed = tmp_path / "found.npz", "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    args = [sys.executable, "-c", code, str(run), str(tmp_path / "t.npz"), str(out)]
    # Compiled as users have it, and not as the other tests: see `conftest.py`.
    subprocess.run(args, env=environment(PYTHONHASHSEED=seed, XLA_FLAGS=""), check=True, capture_output=True)
    z, found = fitted.encode(test), np.load(out)
    np.testing.assert_allclose(found["mean"], z.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["scale"], z.scale, rtol=1e-5)
    np.testing.assert_allclose(found["x"], fitted.decode(z.mean), atol=1e-4)
    assert found["e"] == pytest.approx(fitted.evaluate(test, num_samples=5).bound.value, abs=1e-3)


def test_ctrl_c_on_a_terminal_leaves_a_usable_model(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    args = [sys.executable, "-m", "aevb", "fit", str(digits), "--out", str(out), "--epochs", "100000", "--hidden", "8"]
    main_end, child_end = pty.openpty()
    process = subprocess.Popen(args, stdout=child_end, stderr=child_end, env=environment(COLUMNS="60", TERM="xterm"))
    os.close(child_end)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    shown = b""
    while True:
        try:
            piece = os.read(main_end, 65536)
        except OSError:  # the terminal is gone: the process has ended
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=60) == 130
    assert b"the model is usable" in shown
    assert b"Traceback" not in shown
    fitted = aevb.load(out)
    assert fitted.result["stopped"] == "interrupted"
    assert len(fitted.history) == len((out / "metrics.jsonl").read_text().splitlines())
    assert main(["evaluate", str(out), "--num-samples", "0", "--quick"]) == 0


def test_help_tells_the_default_of_each_flag_that_has_one(capsys):
    def said(*args: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *args])
        assert stopped.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    everything = said("--help-all")
    assert said("--help", "all") == everything
    for name, where in aevb.config.NAMES.items():
        if name != "data":
            assert f"--{name.replace('_', '-')} " in everything.replace(",", " "), name
        if where.default not in ("", None) and not isinstance(where.default, bool | tuple):
            assert f" ({where.default})" in everything, name
    for registry in (aevb.models.POSTERIORS, aevb.models.PRIORS, aevb.models.LIKELIHOODS, aevb.estimators.ESTIMATORS):
        assert all(kind in everything.replace("- ", "-") for kind in registry)
    assert "--flow-steps N steps of the flow (4)" in everything and "first moment (0.9)" in everything
    assert "(None)" not in everything and " ()" not in everything
    model, training = said("--help", "model"), said("--help", "training")
    assert "--latent-dim" in model and "--latent-dim" not in training and "--beta1" in training


@pytest.mark.parametrize("columns", [44, 80, 200])
def test_help_on_all_fits_the_terminal(columns):
    assert max(map(len, topic_lines("all", columns))) <= columns


def test_help_on_what_there_is_none_on(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--help", "modle"])
    assert stopped.value.code == 2
    assert "no help on 'modle'; did you mean 'model'?" in capsys.readouterr().err
