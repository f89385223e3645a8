"""The command line, end to end, on real MNIST at a small size."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import aevb
import aevb.modelfile
from aevb.cli import main

SMALL = ["--epochs", "2", "--hidden", "32", "--evaluation-samples", "20"]


@pytest.fixture(autouse=True)
def can_be_interrupted() -> None:
    """Tests that a shell put in the background ignore Ctrl-C, and so would the processes that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that the tests below read, and do not write."""
    path = tmp_path_factory.mktemp("runs") / "first"
    assert main(["fit", str(digits), "--out", str(path), "--quiet", *SMALL]) == 0
    return path


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_fit_writes_a_whole_run(run: Path) -> None:
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    figures = {f"figures/{n}.png" for n in ("history", "latent_space", "manifold", "reconstructions", "samples")}
    assert names == {"config.toml", "metrics.jsonl", "model.safetensors"} | figures
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    for r in records:
        assert r["train_elbo"] == pytest.approx(r["train_reconstruction"] - r["train_kl"], abs=1e-3)
        assert -600 < r["validation_elbo"] < -100
    assert list(aevb.load(run).history) == records


def test_fit_prints_progress_lines_a_table_and_the_files(digits: Path, tmp_path: Path, capsys) -> None:
    assert main(["fit", str(digits), "--out", str(tmp_path / "r"), *SMALL, "--batch-size", "64"]) == 0
    out = capsys.readouterr().out
    assert "epoch 1/2  elbo train -" in out
    assert "examples/s" in out
    assert "log p(x), importance sampling, K=20" in out
    assert "E_q[log p(x|z)]" in out
    assert "300 rows of test" in out
    assert str(tmp_path / "r" / "figures" / "manifold.png") in out


def test_quiet_prints_nothing(digits: Path, tmp_path: Path, capsys) -> None:
    assert main(["fit", str(digits), "--out", str(tmp_path / "r"), "--quiet", *SMALL]) == 0
    assert capsys.readouterr() == ("", "")


def test_config_of_a_run_repeats_it_to_the_byte(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["fit", "--config", str(run / "config.toml"), "--out", str(again), "--quiet"]) == 0
    first, second = aevb.load(run), aevb.load(again)
    assert (again / "config.toml").read_bytes() == (run / "config.toml").read_bytes()
    a, b = (aevb.modelfile.named_arrays((f.generative, f.recognition)) for f in (first, second))
    assert a.keys() == b.keys()
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    timings = {"seconds", "examples_per_second"}
    assert [{k: v for k, v in r.items() if k not in timings} for r in first.history] == [
        {k: v for k, v in r.items() if k not in timings} for r in second.history
    ]
    # ... and another seed gives another model: the comparison above can fail.
    other = tmp_path / "other"
    assert main(["fit", "--config", str(run / "config.toml"), "--seed", "1", "--out", str(other), "--quiet"]) == 0
    c = aevb.load(other)
    different = aevb.modelfile.named_arrays((c.generative, c.recognition))
    assert different["generative.logits.weight"].tobytes() != a["generative.logits.weight"].tobytes()


def test_print_config_is_toml_and_flags_go_before_the_file(tmp_path: Path, capsys) -> None:
    file = tmp_path / "c.toml"
    file.write_text('latent_dim = 7\nactivation = "relu"\n')
    assert main(["fit", "mnist", "--config", str(file), "--latent-dim", "3", "--print_config"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    config = aevb.Config.from_toml(printed)
    assert (config.data, config.latent_dim, config.activation) == ("mnist", 3, "relu")


def test_evaluate_json_agrees_with_the_fit(run: Path, capsys) -> None:
    assert main(["evaluate", str(run), "--num-samples", "20", "--json", "--quick"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["part"] == "test"
    assert report["num_rows"] == 300
    expected = aevb.load(run).result["evaluation"]
    assert report["elbo"]["mean"] == pytest.approx(expected["elbo"]["mean"], abs=1e-4)
    sampled = report["importance_sampled_log_likelihood"]
    assert sampled["mean"] == pytest.approx(expected["importance_sampled_log_likelihood"]["mean"], abs=1e-4)
    assert sampled["mean"] > report["elbo"]["mean"]
    assert sampled["standard_error"] > 0


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
    assert all(verdict.split()[0] in out for verdict in report["verdicts"])
    assert "evaluating: calibration" in err
    assert main(["evaluate", str(run), "-o", str(where)]) == 6  # nothing is overwritten
    assert "is not empty" in capsys.readouterr().err


def test_evaluations_of_a_run_are_numbered(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    for _ in range(2):
        assert main(["evaluate", str(copy), "--method", "elbo", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["settings"]["method"] == "elbo"
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "evaluation-1", "evaluation-2"}


def test_compare_runs(run: Path, digits: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    assert main(["fit", str(digits), "--out", str(other), "--quiet", *SMALL, "--epochs", "1"]) == 0
    assert main(["compare", str(run), str(other), "--num-samples", "20", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert first["log_p_difference"]["mean"] == 0
    assert second["log_p_difference"]["mean"] == pytest.approx(
        second["log_p"]["mean"] - first["log_p"]["mean"], abs=1e-6
    )
    assert second["log_p_difference"]["mean"] < 0
    assert main(["compare", str(run), str(other), "--data", str(digits), "--num-samples", "5"]) == 0
    assert "rows better" in capsys.readouterr().out.replace("\n", " ")


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


def test_a_run_whose_data_have_changed_must_be_told_its_data(tmp_path: Path, capsys) -> None:
    rng, file, run = np.random.default_rng(0), tmp_path / "t.npy", tmp_path / "run"
    np.save(file, rng.normal(size=(60, 3)))
    assert main(["fit", str(file), "--out", str(run), "--quiet", "--batch-size", "20", *SMALL]) == 0
    assert main(["evaluate", str(run), "--quick"]) == 0
    np.save(file, rng.normal(size=(60, 3)))
    capsys.readouterr()
    assert main(["evaluate", str(run), "--quick"]) == 3
    assert "has changed since this model was fitted" in capsys.readouterr().err
    assert main(["evaluate", str(run), str(file), "--quick"]) == 0


def test_flat_bytes_are_pixels(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (50, 12), dtype=np.uint8)
    with pytest.warns(aevb.GuessWarning, match="taken for pixels"):
        fitted = aevb.fit(rows, hidden=(4,), epochs=1, batch_size=10, evaluation_samples=0)
    assert (fitted.config.likelihood, fitted.config.binarization) == ("bernoulli", "dynamic")


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
    assert "the same command goes on from there" in error
    assert "Traceback" not in error


def test_a_full_disk_is_one_line(run: Path, monkeypatch, capsys) -> None:
    from aevb.cli import _commands

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_commands, "info", full)
    assert main(["info", str(run)]) == 6
    assert capsys.readouterr().err == "aevb: cannot write the output: No space left on device\n"


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
        ["--prior", "gamma"],
        ["--prior", "uniform"],
        ["--posterior", "iaf", "--flow-steps", "1", "--flow-hidden", "16", "--estimator", "stl"],
        ["--prior", "vamp", "--prior-components", "5", "--estimator", "dreg", "--num-samples", "3"],
        ["--likelihood", "discretized-logistic", "--latent-dim", "3"],
    ],
    ids=lambda flags: flags[1],
)
def test_families_flows_and_priors_from_the_command_line(flags, digits: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "r"
    assert main(["fit", str(digits), "--out", str(out), *SMALL, *flags]) == 0
    assert len(list((out / "figures").glob("*.png"))) == 5
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    assert "total parameters" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--num-samples", "5", "--json", "--quick"]) == 0
    again = json.loads(capsys.readouterr().out)["elbo"]["mean"]
    assert again == pytest.approx(aevb.load(out).result["evaluation"]["elbo"]["mean"], rel=1e-4)


def test_grey_pixels_are_called_a_cross_entropy(digits: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "grey"
    assert main(["fit", str(digits), "--out", str(out), "--binarization", "none", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "not a likelihood" in text
    assert "ELBO" not in text.replace("with ELBOs of binarised data", "")
    assert "importance" not in text
    assert "elbo" not in (out / "metrics.jsonl").read_text()


def test_table_of_numbers(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 1))
    rows = 100 + 10 * (z @ rng.normal(size=(1, 4)) + 0.2 * rng.normal(size=(400, 4)))
    file = tmp_path / "table.csv"
    np.savetxt(file, rows, delimiter=",", header="a,b,c,d", comments="")
    run = tmp_path / "run"
    args = ["fit", str(file), "--out", str(run), "--latent-dim", "1", "--batch-size", "50", "--hidden", "16"]
    assert main([*args, "--epochs", "30", "--learning-rate", "0.01"]) == 0
    text = capsys.readouterr().out
    assert "gaussian likelihood" in text
    assert "for the data's own units" in text
    fitted = aevb.load(run)
    assert fitted.columns == ("a", "b", "c", "d")
    reconstructed = fitted.reconstruct(str(file))
    assert np.abs(reconstructed - rows).mean() < 0.5 * np.abs(rows - rows.mean(0)).mean()  # in the data's units


# name, arguments, exit code, what the message must say
BAD = [
    ("no command", [], 2, "COMMAND"),
    ("no data", ["fit"], 2, "needs data"),
    ("unknown flag", ["fit", "mnist", "--latentdim", "3"], 2, "--latentdim"),
    ("not a number", ["fit", "mnist", "--epochs", "many"], 2, "many"),
    ("unknown activation", ["fit", "mnist", "--activation", "tahn"], 2, "tanh"),
    ("swallowed data", ["fit", "--hidden", "16", "x.npy"], 2, "put it before the options"),
    ("huge seed", ["sample", "{run}", "--seed", "9" * 30, "-o", "s.npy"], 2, "too large"),
    ("huge batch", ["fit", "mnist", "--batch-size", "9" * 12], 2, "at most 10,000,000"),
    ("idle option", ["fit", "mnist", "--alpha", "0.2"], 2, "option of estimator renyi alone"),
    ("infinite KL", ["fit", "mnist", "--posterior", "gaussian", "--prior", "gamma"], 2, "has no density"),
    ("no posterior", ["fit", "mnist", "--prior", "pareto"], 2, "argument --prior"),
    ("no closed KL", ["fit", "mnist", "--prior", "mixture", "--estimator", "sgvb-b"], 2, "no closed form"),
    ("free bits", ["fit", "mnist", "--posterior", "iaf", "--free-bits", "0.5"], 2, "free_bits cannot be used here"),
    ("moving edges", ["fit", "mnist", "--posterior", "uniform", "--prior", "uniform"], 2, "has no density"),
    ("one draw", ["compare-estimators", "{run}", "--draws", "1"], 2, "at least 2"),
    ("figure's suffix", ["compare-estimators", "{run}", "-o", "x.pdf"], 2, ".png"),
    ("zero epochs", ["fit", "mnist", "--epochs", "0"], 2, "epochs must be at least 1"),
    ("long warm-up", ["fit", "mnist", "--kl-warmup", "99", "--epochs", "2"], 2, "kl_warmup must not be longer"),
    ("early stopping", ["fit", "mnist", "--early-stopping", "3", "--validation", "0"], 2, "when early_stopping is on"),
    ("missing config", ["fit", "mnist", "--config", "{tmp}/none.toml"], 2, "none.toml"),
    ("typo in config", ["fit", "mnist", "--config", "{tmp}/typo.toml"], 2, "did you mean 'latent_dim'"),
    ("type in config", ["fit", "mnist", "--config", "{tmp}/type.toml"], 2, "epochs must be a whole number"),
    ("sigmoid mean", ["fit", "mnist", "--sigmoid-mean"], 2, "sigmoid_mean"),
    ("sigmoid of z-scores", ["fit", "{tmp}/ok.npy", "--sigmoid-mean", "--batch-size", "10"], 2, "standardised"),
    ("unknown name", ["fit", "mnits"], 3, "did you mean 'mnist'"),
    ("missing file", ["fit", "{tmp}/none.npy"], 3, "none.npy"),
    ("0 rows", ["fit", "{tmp}/zero.npy"], 3, "0 rows"),
    ("1 row", ["fit", "{tmp}/one.npy"], 3, "1 row"),
    ("fewer than the batch", ["fit", "{tmp}/ok.npy", "--batch-size", "37"], 3, "fewer than the batch of 37"),
    ("NaN", ["fit", "{tmp}/nan.npy"], 3, "row 3"),
    ("text", ["fit", "{tmp}/text.npy"], 3, "dtype"),
    ("objects", ["fit", "{tmp}/objects.npy"], 3, "object"),
    ("support", ["fit", "{tmp}/grey.npy", "--likelihood", "bernoulli"], 3, "255"),
    ("raw integers", ["fit", "mnist", "--binarization", "none", "--scaling", "none"], 3, "scaling"),
    ("cut", ["fit", "{tmp}/cut.npy"], 3, "cut.npy"),
    ("csv text", ["fit", "{tmp}/text.csv"], 3, "row 2"),
    ("no such run", ["info", "{tmp}/none"], 4, "no such file"),
    ("no run", ["info", "{tmp}"], 4, "is not a run"),
    ("compare one", ["compare", "{run}"], 2, "two runs or more"),
    ("harmonic samples", ["evaluate", "{run}", "--method", "hmc", "--num-samples", "1"], 2, "at least 2"),
    ("unknown method", ["evaluate", "{run}", "--method", "mcmc"], 2, "invalid choice"),
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


@pytest.fixture(scope="module")
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
    args, code, message, bad: Path, run: Path, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)  # where a default run directory would go
    before = {p: p.read_bytes() for d in (bad, run) for p in d.rglob("*") if p.is_file()}
    try:
        exit_code = main([a.format(tmp=bad, run=run) for a in args])
    except SystemExit as e:
        exit_code = e.code
    captured = capsys.readouterr()
    assert exit_code == code, captured.err
    assert len(lines(captured.err)) == 1, captured.err
    assert message in captured.err
    assert captured.err.startswith("aevb")
    assert {p: p.read_bytes() for d in (bad, run) for p in d.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.iterdir())  # nothing was left behind


def test_divergence_keeps_the_last_good_model(digits: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "r"
    assert main(["fit", str(digits), "--out", str(out), "--learning-rate", "1e30", *SMALL]) == 5
    err = capsys.readouterr().err
    assert "10 steps in a row" in err
    assert len(lines(err)) == 1
    assert aevb.load(out).result["stopped"] == "diverged"


def environment(**extra: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(aevb.__file__).parents[1]), "JAX_PLATFORMS": "cpu"} | extra


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = "import sys; from aevb.cli import main\ntry: main(['fit', '--help'])\nexcept SystemExit: pass\n"
    code += "heavy = {'jax', 'numpyro', 'matplotlib', 'pyarrow', 'equinox'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    for flag in ("--latent-dim", "--hidden", "--print_config", "--early-stopping", "--binarization"):
        assert flag in done.stdout


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
    for seed in ("1", "4242"):
        out = tmp_path / f"{seed}.npz"
        args = [sys.executable, "-c", code, str(run), str(tmp_path / "t.npz"), str(out)]
        subprocess.run(args, env=environment(PYTHONHASHSEED=seed), check=True, capture_output=True)
        z, found = fitted.encode(test), np.load(out)
        np.testing.assert_allclose(found["mean"], z.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["scale"], z.scale, rtol=1e-5)
        np.testing.assert_allclose(found["x"], fitted.decode(z.mean), atol=1e-6)
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
