"""The front door: what is guessed is said, what comes back has the data's shape and units, words fit the numbers."""

import copy
import dataclasses
import re
import sys
import types
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import aevb
from aevb import _old_formats, train
from aevb._container import read_container, write_container
from aevb._plan import _mean_of, make_plan
from aevb._progress import BarProgress, NotebookProgress, Progress, describe, watched_progress
from aevb._splits import load_splits
from aevb.cli import main
from aevb.config import Config
from aevb.data import choose_preprocessing, columns_of_one_value, epoch_order, load, rows_found_in, split
from aevb.distributions import ContinuousBernoulli
from aevb.models import LIKELIHOODS

SMALL = {"latent_dim": 2, "hidden": (4,), "epochs": 2}
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (60, 4, 5), dtype=np.uint8)
COUNTS = RNG.integers(0, 90, (80, 3))


class ReadyToTrain(Exception):
    """Raised where training would begin: the rest of the fit is not of interest."""


@pytest.fixture
def no_training(monkeypatch):
    def stop(*args, **kwargs):
        raise ReadyToTrain

    monkeypatch.setattr(train, "aevb", stop)


def resolved(data, **options):
    """The configuration that a fit begins with; needs `no_training`."""
    seen = []
    with pytest.raises(ReadyToTrain):
        aevb.fit(data, on_start=lambda config, splits: seen.append(config), **SMALL | options)
    return seen[0]


def test_options_go_to_what_the_data_are_given(no_training):
    config = resolved(COUNTS - 40.5, min_scale=0.5, num_samples=3)
    assert config.model.likelihood == aevb.models.GaussianLikelihood(min_scale=0.5)
    assert config.training.estimator == aevb.estimators.SgvbB(3)
    assert config.model.posterior == aevb.models.GaussianPosterior() and config.model.prior.kind == "normal"
    with pytest.raises(
        aevb.ConfigError, match=r"min_scale is an option of the likelihoods gaussian, .*'bernoulli'; leave it"
    ):
        resolved((GREY > 99).reshape(60, 20), min_scale=0.5)
    for part in ("network", "likelihood", "posterior", "prior"):  # as the configuration of a fit with one's own has it
        with pytest.raises(aevb.ConfigError, match=f"the {part} was an object of one's own, Mine, .*; give it"):
            resolved(COUNTS - 40.5, hidden=None, **{part: {"kind": "own", "name": "Mine"}})
    with pytest.raises(aevb.ConfigError, match="grey of 'bernoulli' must be left to the data"):
        resolved((GREY > 99).reshape(60, 20), likelihood=aevb.models.BernoulliLikelihood(grey=True))


@pytest.fixture(scope="module")
def images():
    """Of 0 to 255, fitted with early stopping and no test part."""
    return aevb.fit(GREY, **SMALL, early_stopping=2, evaluation_samples=3)


# --- what is guessed --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    "data", [COUNTS, COUNTS.astype(np.float32), COUNTS / 100], ids=["integers", "floats", "shares"]
)
def test_a_guess_is_a_warning_and_naming_the_likelihood_ends_it(data):
    """Ages given as integers became Bernoulli(age / 255) without a word."""
    with pytest.warns(aevb.GuessWarning, match="taken for a table of measurements") as caught:
        config = resolved(data)
    assert config.model.likelihood.kind == "gaussian"
    assert (config.data.scaling, config.data.binarization) == ("standardize", "none")
    assert caught[0].filename == __file__  # the caller's line, not one of the library
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolved(data, likelihood="gaussian") == config


@pytest.mark.parametrize("part", ["test", "validation"])
def test_held_out_rows_that_are_trained_on_are_warned_of(part):
    """ "400 rows of test" were the training rows, and nothing said so."""
    rows = np.random.default_rng(1).normal(size=(60, 3))
    with pytest.warns(aevb.HeldOutWarning, match=f"20 of the 25 rows of {part} equal rows that are trained") as caught:
        held_out = np.vstack([rows[:20], rows[:5] + 1])
        fitted = aevb.fit(rows, **SMALL | {"validation": 0.0} | {part: held_out}, evaluation_samples=0)
    assert caught[0].filename == __file__
    assert fitted.result["held_out_in_training"] == 20


def test_held_out_rows_that_equal_training_rows_by_chance_are_not_warned_of():
    rows = np.random.default_rng(1).integers(0, 2, (200, 6), dtype=np.uint8)
    assert 50 < rows_found_in(load(rows[100:]), load(rows[:100])).sum() < 100
    fitted = aevb.fit(rows[:100], test=rows[100:], **SMALL | {"validation": 0.0}, evaluation_samples=0)
    assert fitted.result["held_out_in_training"] == 0
    assert aevb.fit(rows, **SMALL, evaluation_samples=0).result["held_out_in_training"] is None


@pytest.mark.usefixtures("no_training")
def test_what_is_evident_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolved(GREY).data.binarization == "dynamic"
        assert resolved((GREY > 99).reshape(60, 20)).model.likelihood.kind == "bernoulli"
        assert resolved(COUNTS - 40.5).data.scaling == "standardize"


@pytest.mark.usefixtures("no_training")
def test_a_guess_is_a_line_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savetxt("ages.csv", COUNTS, "%d", ",", header="a,b,c", comments="")
    with pytest.raises(ReadyToTrain):
        main(["fit", "ages.csv"])
    assert "note: the whole numbers of 'ages.csv', 0 to 89, are taken for a table" in capsys.readouterr().out
    with pytest.raises(ReadyToTrain):
        main(["fit", "ages.csv", "--likelihood", "gaussian"])
    assert "note" not in capsys.readouterr().out


# --- defaults and their limits ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_training")
def test_a_default_batch_never_refuses_data():
    """80 rows were refused, for the batch is 100."""
    rows = RNG.normal(size=(80, 3))
    assert resolved(rows).training.batch_size == 72  # what the validation part leaves
    assert resolved(rows, validation=0.0).training.batch_size == 80
    assert resolved(np.concatenate([rows, rows])).training.batch_size == 100
    assert resolved(rows, batch_size=7).training.batch_size == 7
    with pytest.raises(aevb.DataError, match="72 training rows, fewer than the batch of 73 that was asked for"):
        aevb.fit(rows, **SMALL, batch_size=73)


def test_a_handful_of_rows_is_fitted():
    """The fitted model's configuration says what was held out, so that its run finds the same rows again."""
    rows = RNG.normal(size=(4, 3))
    fitted = aevb.fit(rows, **SMALL)
    assert (fitted.config.data.validation, fitted.result["held_out"], fitted.result["train_rows"]) == (0.0, "train", 4)
    assert aevb.fit(np.tile(rows, (2, 1)), **SMALL).config.data.validation == 0.1


def test_rows_of_a_part_keep_their_numbers_in_the_data():
    """A row of the validation part was called by its place there, which nobody can look up."""
    rows = np.arange(50.0).reshape(50, 1) + 0.5
    splits = load_splits(rows, aevb.Config(validation=0.2, seed=3))
    in_training, held_out = split(50, 0.2, 3)
    np.testing.assert_array_equal(splits.train.row_numbers, in_training)
    np.testing.assert_array_equal(splits.validation.row_numbers, held_out)
    np.testing.assert_array_equal(rows[splits.validation.row_numbers], splits.validation.rows)


@pytest.mark.usefixtures("no_training")
def test_parts_on_another_scale_are_refused():
    with pytest.raises(aevb.DataError, match="255 means 1"):
        aevb.fit(GREY, test=GREY / 255, **SMALL)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous-bernoulli"])
def test_the_decoder_starts_at_the_training_mean(likelihood):
    """By the logit, a coin's inverse, a continuous Bernoulli started at 0.25 where the mean of the data is 0.02."""
    dark = (GREY // 16).astype(np.uint8)
    dark[0, 0, 0] = 255
    data = load(dark)
    spec = LIKELIHOODS.make(likelihood)
    (bias,) = spec.start(_mean_of(choose_preprocessing(data, spec), data)).values()
    of_mean = {"bernoulli": jax.nn.sigmoid, "gaussian": lambda b: b, "continuous-bernoulli": mean_of_logits}
    start = np.asarray(of_mean[likelihood](bias), np.float64)
    np.testing.assert_allclose(start, dark.reshape(60, 20).mean(axis=0) / 255, rtol=1e-4)


def mean_of_logits(logits):
    return ContinuousBernoulli(logits).mean


# --- shapes and units -------------------------------------------------------------------------------------------------


def test_what_comes_back_of_images_has_their_shape_and_units(images):
    """Samples were flat rows of 0 and 1 and reconstructions flat rows of [0, 1], for images of 0 to 255."""
    drawn = images.sample(6, jax.random.key(1))
    assert drawn.shape == (6, 4, 5) and drawn.dtype == np.uint8 and set(np.unique(drawn)) == {0, 255}
    assert len({one.tobytes() for one in drawn}) == 6  # each has noise of its own
    z = images.encode(GREY[:3]).mean
    probability = np.stack([images.generative.likelihood(jax.numpy.asarray(one)).mean for one in z])
    np.testing.assert_allclose(images.decode(z), 255 * probability.reshape(3, 4, 5), rtol=1e-5)
    np.testing.assert_array_equal(images.reconstruct(GREY[:3]), images.decode(z))
    assert abs(images.reconstruct(GREY).mean() - GREY.mean()) < 25
    assert images.encode(drawn).mean.shape == (6, 2)  # and can be put in again


@pytest.mark.parametrize("data", [GREY, np.stack([GREY] * 3, axis=-1), GREY / 255], ids=["grey", "colour", "in [0, 1]"])
def test_a_gaussian_model_takes_what_it_makes(data):
    """Means and samples of a Gaussian leave [0, 255], and are no data on another scale for that."""
    fitted = aevb.fit(data, **SMALL | {"epochs": 1}, likelihood="gaussian", evaluation_samples=0)
    drawn = fitted.sample(200, seed=0)
    assert drawn.min() < 0
    assert np.isfinite(fitted.encode(drawn).mean).all()
    assert fitted.encode(fitted.reconstruct(data)).mean.shape == (len(data), 2)


@pytest.mark.parametrize(
    ("data", "options", "levels"),
    [
        (GREY, {"likelihood": "discretized-logistic"}, range(256)),
        (GREY > 99, {}, {0, 1}),
        (GREY / 255, {"likelihood": "bernoulli"}, {0.0, 1.0}),
        (GREY, {"likelihood": "gaussian"}, None),
    ],
    ids=["levels", "binary", "fractions", "gaussian"],
)
def test_samples_of_other_images(data, options, levels):
    fitted = aevb.fit(data, **SMALL | {"epochs": 1}, **options, evaluation_samples=0, validation=0.0)
    drawn = fitted.sample(5, seed=0)
    assert drawn.shape == (5, 4, 5)
    if levels is None:
        assert drawn.dtype.kind == "f" and 10 < drawn.std() < 500 and 0 < drawn.mean() < 255  # 0 to 255, not 0 to 1
        return
    assert set(np.unique(drawn)) <= set(levels) and (drawn.dtype == np.uint8) == (
        options.get("likelihood") != "bernoulli"
    )
    assert drawn.max() > 0.9 * max(levels) / 2


def test_a_dark_row_alone_is_encoded_as_among_others(images):
    """A single row of levels 0 and 1 was refused as a data set scaled to [0, 1]."""
    rows = GREY[:3].copy()
    rows[1] = 1
    rows[1, 0, 0] = 0
    np.testing.assert_allclose(images.encode(rows[1:2]).mean, images.encode(rows).mean[1:2], rtol=1e-5)
    with pytest.raises(aevb.DataError, match="255 means 1"):
        images.encode(rows[:2] / 255)


def test_data_far_from_zero_give_the_model_of_the_same_data_near_it(tmp_path):
    """At 1e8 with unit variance, columns were called constant: float32 holds that to the nearest 8."""
    near = RNG.normal(size=(60, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.3]])
    far = near + 1e8
    options = SMALL | {"evaluation_samples": 0}
    one, other = aevb.fit(far, **options), aevb.fit(far - 1e8, **options)
    one.save(tmp_path / "far.safetensors")
    for model in (one, aevb.load(tmp_path / "far.safetensors")):
        np.testing.assert_allclose(model.encode(far[:1]).mean, other.encode(far[:1] - 1e8).mean, atol=1e-5)
        np.testing.assert_allclose(model.reconstruct(far) - 1e8, other.reconstruct(far - 1e8), atol=1e-5)
    assert abs(one.log_jacobian - other.log_jacobian) < 1e-6
    assert (
        abs(one.evaluate(far, num_samples=0).bound.value - other.evaluate(far - 1e8, num_samples=0).bound.value) < 1e-4
    )


# --- keys and seeds ---------------------------------------------------------------------------------------------------


def test_a_seed_is_its_key(images):
    for draw in (images.sample, images.sample_prior):
        np.testing.assert_array_equal(draw(3, seed=7), draw(3, jax.random.key(7)))
        assert not np.array_equal(draw(3, seed=7), draw(3, seed=8))
        for wrong, message in (
            ({}, "give seed=0"),
            ({"seed": 1, "key": jax.random.key(1)}, "give a seed or a key, not both"),
            ({"key": 1}, r"key must be one JAX key, as jax.random.key\(0\) is, got 1; seed=0"),
            ({"key": jax.random.split(jax.random.key(0), 2)}, "key must be one JAX key"),
        ):
            with pytest.raises(ValueError, match=message):
                draw(3, **wrong)


def test_log_likelihood_takes_a_seed_as_sample_does(images):
    few = GREY[:3]
    fixed = images.log_likelihood(few, method="is", num_samples=5)
    np.testing.assert_array_equal(fixed, images.log_likelihood(few, method="is", num_samples=5))
    seeded = images.log_likelihood(few, method="is", num_samples=5, seed=3)
    keyed = images.log_likelihood(few, method="is", num_samples=5, key=jax.random.key(3))
    np.testing.assert_array_equal(seeded, keyed)
    assert not np.array_equal(seeded, fixed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key": 0}, r"key must be one JAX key, as jax.random.key\(0\) is, got 0; seed=0 needs no JAX"),
        ({"key": jax.random.key(0), "seed": 0}, "give a seed or a key, not both"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**70}, r"seed must be below 2\^63, got 1180591620717411303424"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
    ],
)
def test_a_wrong_key_or_seed_is_refused_in_the_projects_words(images, wrong, message):
    for call in (
        lambda: images.log_likelihood(GREY, method="is", **wrong),
        lambda: images.sample(2, **wrong),
        lambda: images.sample_prior(2, **wrong),
    ):
        with pytest.raises(aevb.ConfigError, match=message):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.log_likelihood(GREY, num_samples=0), "^num_samples must be at least 1, got 0$"),
        (lambda m: m.log_likelihood(GREY, num_samples="9"), "^num_samples must be a whole number, got '9'$"),
        (lambda m: m.evaluate(GREY, num_samples=-1), "^num_samples must be at least 0, got -1$"),
        (lambda m: m.evaluate(GREY, num_samples=2.5), "^num_samples must be a whole number, got 2.5$"),
        (lambda m: m.evaluate(GREY, num_samples=10**12), "^num_samples must be at most 10,000,000, got 1,000,0"),
        (lambda m: m.log_likelihood(GREY, num_samples=5 * 10**9), "^num_samples must be at most 10,000,000, got 5,0"),
        (lambda m: m.sample(10**14, seed=0), "^num is too large: 100,000,000,000,000 samples are .*; draw fewer at a"),
        (lambda m: m.sample(10**30, seed=0), "^num is too large"),
        (lambda m: m.sample_prior(10**14, seed=0), "^num is too large: .* are 200,000,000,000,000 numbers, more than"),
        (lambda m: m.sample(2.5, seed=0), "^num must be a whole number, got 2.5$"),
        (lambda m: next(m.compare_estimators(GREY, num_rows=0)), "^num_rows must be at least 1, got 0$"),
    ],
)
def test_a_wrong_number_is_refused_by_its_name(images, call, message):
    with pytest.raises(aevb.ConfigError, match=message):
        call(images)


def test_rows_that_are_encoded_are_not_said_to_be_fitted(images):
    rows = GREY.astype(float)
    rows[4, 1, 2] = np.nan
    for verb in (images.encode, images.reconstruct):
        with pytest.raises(aevb.DataError, match=r"row 4 \(from 0\).*: remove or fill these first$"):
            verb(rows)


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_reconstruction_term_is_not_called_log_likelihood(images):
    """One word stood for E_q[log p(x|z)] in results and for log p(x) in methods."""
    evaluation, record = images.result["evaluation"], images.history[-1]
    assert images.measures == ("elbo", "reconstruction", "kl")
    assert evaluation["elbo"]["mean"] == pytest.approx(evaluation["reconstruction"]["mean"] - evaluation["kl"]["mean"])
    for part in ("train", "validation"):
        terms = (record[f"{part}_{name}"] for name in ("elbo", "reconstruction", "kl"))
        elbo, reconstruction, kl = terms
        assert elbo == pytest.approx(reconstruction - kl, abs=1e-4)
    assert "log_likelihood" not in evaluation and not any("log_likelihood" in name for name in record)


def test_a_file_with_the_old_name_is_read_with_the_new_one(tmp_path):
    path = Path(__file__).parents[1] / "golden/format2/bernoulli-dynamic_full-covariance_normal.safetensors"
    header, arrays = read_container(path)
    assert header["format"] == 2
    old = copy.deepcopy(header) | {"format": 1}
    assert old["history"]
    for record in old["history"]:
        record["train_log_likelihood"] = record.pop("train_reconstruction")
    evaluation = old["result"]["evaluation"]
    evaluation["log_likelihood"] = evaluation.pop("reconstruction")
    write_container(tmp_path / "old.safetensors", old, arrays)
    again, loaded = aevb.load(tmp_path / "old.safetensors"), aevb.load(path)
    assert again.history == loaded.history and again.result == loaded.result
    assert "reconstruction" in loaded.result["evaluation"] and "train_reconstruction" in loaded.history[0]


def test_a_file_with_densities_of_scaled_data_is_read_in_the_datas_units():
    """Format 1 had every log density of the scaled data, and said how many nats to add."""
    history = {"epoch": 1, "train_elbo": -3.0, "train_log_likelihood": -2.0, "train_kl": 1.0, "train_objective": -3.5}
    assert _old_formats.upgraded(history | {"train_iwae_bound": -2.5, "validation_elbo": None}, -10.0) == {
        "epoch": 1, "train_elbo": -13.0, "train_reconstruction": -12.0, "train_kl": 1.0, "train_objective": -13.5,
        "train_iwae_bound": -12.5, "validation_elbo": None,
    }  # fmt: skip
    terms = {name: {"mean": -3.0, "standard_error": 0.5} for name in ("elbo", "log_likelihood", "kl")}
    terms |= {"importance_sampled_log_likelihood": None, "log_jacobian": -10.0}
    found = _old_formats.upgraded({"evaluation": terms, "train_seconds": 2.0}, -10.0)
    means = {name: value["mean"] for name, value in found["evaluation"].items() if isinstance(value, dict)}
    assert means == {"elbo": -13.0, "reconstruction": -13.0, "kl": -3.0}
    assert found["evaluation"]["importance_sampled_log_likelihood"] is None
    assert found["evaluation"]["log_jacobian"] == -10.0 and found["train_seconds"] == 2.0


# --- numbers of the rows that chose -----------------------------------------------------------------------------------


def test_numbers_of_the_rows_that_chose_the_parameters_are_not_called_held_out(images, capsys):
    """Early stopping keeps the best of several bounds on the validation rows; their mean is no held-out number then."""
    from aevb.cli._tables import print_info

    assert (images.result["held_out"], images.result["selected_on"]) == ("validation", "validation")
    words = "in expectation too high for new rows"
    unselected = dataclasses.replace(images, result={**images.result, "selected_on": None})
    tested = dataclasses.replace(images, result={**images.result, "held_out": "test"})
    for model, said in ((images, True), (unselected, False), (tested, False)):
        assert (words in model._repr_html_()) == said
        print_info(model)
        assert (words in " ".join(capsys.readouterr().out.split())) == said


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("early_stopping", [0, 1])
def test_what_was_selected_on_is_recorded(early_stopping, monkeypatch):
    class Done:
        history = ({"examples_per_second": 1.0, "skipped_steps": 0},)

        def run(self, **options):
            return "finished"

    def fitted(job, trainer, result):
        raise ReadyToTrain(result)

    monkeypatch.setattr("aevb._fit._preset_trainer", lambda plan, splits: Done())
    monkeypatch.setattr("aevb._fit._fitted", fitted)
    with pytest.raises(ReadyToTrain) as caught:
        aevb.fit(GREY, **SMALL, early_stopping=early_stopping, test=255 - GREY)
    [result] = caught.value.args
    assert result["held_out"] == "test" and result["selected_on"] == ("validation" if early_stopping else None)


# --- what was skipped -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recovers", [False, True])
def test_an_epoch_of_skipped_steps_has_no_numbers(recovers, monkeypatch):
    """It was recorded as an ELBO of 0.0."""
    real = train.epochs

    def epochs(algorithm, state, rows, **options):
        yield state, train.EpochSummary(1, *(5 * [float("nan")]), 6, 1.0, 60.0)
        if recovers:
            yield from real(algorithm, state, rows, **options)

    monkeypatch.setattr(train, "epochs", epochs)
    records = []
    options = SMALL | {"batch_size": 10, "validation": 0.0, "kl_weight": 2.0, "epochs": 1, "evaluation_samples": 0}
    if recovers:
        fitted = aevb.fit(GREY, **options, on_epoch=records.append)
        assert records[1]["train_elbo"] < 0 and fitted.result["skipped_steps"] == 6
    else:
        with pytest.raises(aevb.DivergenceError, match="training came to nothing: every step") as caught:
            aevb.fit(GREY, **options, on_epoch=records.append)
        fitted = caught.value.fitted
    names = ("train_elbo", "train_reconstruction", "train_kl", "train_objective", "grad_norm")
    assert [records[0][name] for name in names] == [None] * 5 and records[0]["skipped_steps"] == 6
    assert fitted.history == tuple(records)


def test_rows_that_broke_the_training_are_called_by_their_numbers_in_the_data():
    """They were called by their places in the training part."""
    with pytest.raises(aevb.DivergenceError, match="10 steps in a row") as caught:
        aevb.fit(GREY, **SMALL, batch_size=5, learning_rate=1e30, validation=0.1, seed=5)
    named = re.search(r"\(rows ([\d, ]+)", str(caught.value)).group(1).rstrip(", ")
    in_training, _ = split(60, 0.1, 5)
    shown = {int(number) for number in named.split(", ")}
    epoch, step = map(int, re.search(r"step (\d+) of epoch (\d+)", str(caught.value)).groups()[::-1])
    key = jax.random.fold_in(jax.random.key(5), 1)
    order = np.asarray(epoch_order(key, epoch - 1, 54))
    assert shown == set(in_training[order[5 * (step - 1) : 5 * step]])


# --- who watches ------------------------------------------------------------------------------------------------------


class Shell:
    kernel = object()


@pytest.fixture
def notebook(monkeypatch):
    """IPython as a fit in a notebook finds it; a list of what was displayed."""
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    module, displays = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.get_ipython, displays.display, module.display = Shell, display, displays
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return shown


def test_a_fit_in_a_notebook_shows_how_it_goes(notebook):
    assert isinstance(watched_progress(quiet=False), NotebookProgress)
    options = SMALL | {"evaluation_samples": 0, "validation": 0.0, "epochs": 1}
    aevb.fit(GREY, **options)
    assert "fitting array (60 training rows)" in notebook[0] and notebook[0].endswith("compiling")
    assert "epoch 1/1  elbo train -" in notebook[-1]
    notebook.clear()
    aevb.fit(GREY, **options, quiet=True)
    aevb.fit(GREY, **options, on_epoch=lambda record: None)  # has a display of its own
    assert notebook == []


def test_a_terminal_is_watched_and_a_pipe_is_not(monkeypatch):
    assert type(watched_progress(quiet=False)) is Progress  # under pytest stderr is no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(watched_progress(quiet=False), BarProgress)
    assert type(watched_progress(quiet=True)) is Progress


@pytest.mark.parametrize("times", [1, 2])
def test_copies_among_the_validation_rows_are_told(times):
    """A table that was joined twice: its validation rows were trained on, and nothing was said."""
    rows = np.tile(np.random.default_rng(0).normal(size=(50, 3)), (times, 1))
    splits = load_splits(rows, Config(validation=0.3))
    said = "\n".join(describe(make_plan(Config(), splits).config, splits))
    assert ("validation rows equal training rows" in said) == (times > 1)


def test_columns_of_one_value_are_found_and_told():
    """Where more than half of a column's values are one, its density grows with the length of the training."""
    rows = np.random.default_rng(0).normal(size=(101, 70))
    rows[:51, [0, 66]] = 0.5
    rows[:50, 3] = 0.5  # not more than half
    rows = np.random.default_rng(1).permuted(rows, axis=0)
    assert columns_of_one_value(load(rows)) == ("1", "67")
    assert columns_of_one_value(load(rows[:, 1:66])) == ()
    assert columns_of_one_value(load(rows[:1])) == ()  # one row repeats nothing
    splits = load_splits(rows, Config(validation=0.0))
    said = "\n".join(describe(make_plan(Config(), splits).config, splits))
    assert "note: more than half of the values of each of the columns 1, 67 are one value" in said


def test_a_column_that_is_taken_for_labels_is_told(tmp_path):
    """It left the model without a word."""
    told = []
    for header in ("a,label", "a,kind"):
        path = tmp_path / "table.csv"
        path.write_text(header + "\n" + "\n".join(f"{i * 0.37 % 1},{i % 3}" for i in range(20)), encoding="utf-8")
        splits = load_splits(str(path), Config())
        told.append("\n".join(describe(make_plan(Config(), splits).config, splits)))
    assert "note: the column 'label' is taken for labels and is not modelled" in told[0]
    assert "label" not in told[1]


def test_what_is_fitted_is_told_in_the_width_of_the_terminal(monkeypatch, capsys):
    """The line on the model was 109 characters, and broken within its words."""
    monkeypatch.setenv("COLUMNS", "60")
    rows = np.random.default_rng(0).normal(size=(20, 5))
    config = aevb.Config(latent_dim=2, hidden=(8,), validation=0.0, estimator="sgvb-b", likelihood="gaussian")
    directory = "/a/path/that/is/longer/than/the/terminal/" + "w" * 40
    with BarProgress() as progress:
        progress.start(describe(config, load_splits(rows, config), directory), config.training.epochs)
    told = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert directory in told  # to be copied
    model = told[told.index(directory) + 1 :]
    assert model[0].startswith("model 5-8-2, ")
    assert any("estimator sgvb-b, " in line for line in model)
    assert max(map(len, model)) <= 60


def named(fitted, name):
    return dataclasses.replace(
        fitted, feed=dataclasses.replace(fitted.feed, data=dataclasses.replace(fitted.data, name=name))
    )


def test_a_notebook_shows_a_model_as_a_table(images):
    shown = named(images, "<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;, 54 rows of shape (4, 5)" in shown and "<b>" not in shown
    assert "20-4-2, bernoulli likelihood, posterior gaussian, prior normal" in shown
    evaluation = images.result["evaluation"]
    assert f"{evaluation['elbo']['mean']:.2f} ±" in shown
    assert f"{evaluation['quadrature_log_likelihood']['mean']:.2f} ±" in shown
    assert "no result" in dataclasses.replace(images, result={})._repr_html_()
