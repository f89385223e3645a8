"""The report: its numbers are the library's, its words follow them, and an interruption loses nothing."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

import aevb
from aevb import evaluate
from aevb.fitted import Key
from aevb.reports import ReportSettings, compare, make_report, nats, save_report
from aevb.reports import _log_p as log_p_module
from aevb.reports._settings import KEYS
from aevb.reports._verdicts import of_log_p

RNG = np.random.default_rng(0)
CENTRES = RNG.random((3, 36)) < 0.5
IMAGES = (CENTRES[RNG.integers(0, 3, 400)] ^ (RNG.random((400, 36)) < 0.1)).astype(np.uint8).reshape(-1, 6, 6)
TRAIN, TEST = IMAGES[:300], IMAGES[300:]
SMALL = {"hidden": (16,), "epochs": 15, "batch_size": 50, "learning_rate": 5e-3, "evaluation_samples": 0}


@pytest.fixture(scope="module")
def fitted():
    return aevb.fit(TRAIN, test=TEST, likelihood="bernoulli", latent_dim=2, **SMALL)


@pytest.fixture(scope="module")
def report(fitted):
    return make_report(fitted, TEST, settings=ReportSettings(num_samples=200), train_rows=TRAIN, part="test")


def test_the_numbers_are_those_of_the_parts(fitted, report):
    content, (_, x) = report.content, fitted.prepare(TEST)
    pair = (fitted.generative, fitted.recognition)
    elbo = evaluate.elbo(*pair, x, fitted.evaluation_key(Key.ELBO)).bound
    log_p = evaluate.log_likelihood(*pair, x, fitted.evaluation_key(Key.IMPORTANCE), num_samples=200)
    assert content["elbo"]["mean"] == pytest.approx(elbo.mean(), abs=1e-4)
    found = content["importance_sampled_log_likelihood"]
    assert found["mean"] == pytest.approx(log_p.mean(), abs=1e-4)
    assert found["standard_error"] == pytest.approx(log_p.std(ddof=1) / 10, rel=1e-3)
    assert found["standard_error_by_samples"] < found["standard_error"]
    np.testing.assert_allclose(report.per_row["log_likelihood"], log_p, rtol=1e-5)
    # The same as the fit's own evaluation, which has the same keys.
    assert fitted.evaluate(TEST, method="is", num_samples=200).log_likelihood.value == pytest.approx(
        found["mean"], abs=1e-4
    )
    assert report.lowest[0] == np.argmin(log_p)
    assert [item["row"] for item in content["lowest_rows"]] == report.lowest.tolist()
    assert content["data_kind"] == "binary as they are (static)"


def test_two_latent_dimensions_are_integrated_over(fitted):
    """Importance samples from q were nats too low in every headline."""
    found = make_report(fitted, TEST, settings=ReportSettings(diagnostics=False))
    exact = evaluate.quadrature_log_likelihood(fitted.generative, fitted.prepare(TEST)[1])
    assert found.content["settings"]["method"] == "quadrature"
    assert found.content[KEYS["quadrature"]]["mean"] == pytest.approx(exact.log_likelihood.mean(), abs=1e-6)
    assert found.content[KEYS["quadrature"]]["rows_in_doubt"] == 0
    assert "by quadrature on 100 rows" in found.verdicts[0]
    assert found.verdicts[1].startswith("Quadrature is good to 0.001 nats")
    own = fitted.evaluate(TEST)
    assert own.method == "quadrature"
    assert own.to_dict()[KEYS["quadrature"]]["mean"] == pytest.approx(exact.log_likelihood.mean(), abs=1e-6)
    np.testing.assert_allclose(fitted.log_likelihood(TEST), exact.log_likelihood, atol=1e-6)
    # Where samples are asked for there are samples, and they say the same within their errors.
    sampled = fitted.log_likelihood(TEST, method="is", num_samples=1000)
    assert abs(evaluate.mean(sampled - exact.log_likelihood).value) < 0.05
    with pytest.raises(aevb.ConfigError, match="quadrature takes no samples"):
        ReportSettings(method="quadrature", num_samples=5)


def test_a_row_that_the_grid_did_not_resolve_is_spoken_of():
    content = {KEYS["quadrature"]: {"mean": -5.0, "standard_error": 0.1, "num_rows": 4}}
    rows = {"log_likelihood": np.full(4, -5.0), "error": np.array([0.0, 0.0005, 0.5, 0.0])}
    settings = ReportSettings(method="quadrature")
    assert "In 1 of 4 rows" in of_log_p(content, settings, np.full(4, -6.0), rows)[1]
    assert "0.5 nats" in of_log_p(content, settings, np.full(4, -6.0), rows)[1]
    rows["error"][2] = 0.001
    assert of_log_p(content, settings, np.full(4, -6.0), rows)[1] == "Quadrature is good to 0.001 nats in every row."


def test_every_diagnostic_is_there(report):
    content = report.content
    assert {"latent", "gaps", "calibration", "predictive", "generation", "verdicts", "versions", "settings"} <= set(
        content
    )
    assert not any(
        "left_out" in content[name] for name in ("latent", "gaps", "calibration", "predictive", "generation")
    )
    assert content["generation"]["memorisation"] is not None
    gaps = content["gaps"]["diagonal"]
    total = gaps["amortisation_gap"]["mean"] + gaps["approximation_gap"]["mean"]
    assert gaps["gap"]["mean"] == pytest.approx(total, abs=1e-6)
    assert len(report.verdicts) == 7


def test_the_files_are_whole(fitted, report, tmp_path):
    paths = save_report(report, tmp_path, (6, 6), "a run <b>")
    assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report.content
    page = (tmp_path / "index.html").read_text()
    assert "a run &lt;b&gt;" in page
    assert page.count("<img") == 6
    assert not re.search(r"<(script|link)|src=\"http", page)  # one file, and nothing fetched
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 101
    assert rows[0] == '"row","elbo","log_p","standard_error","effective_sample_size","khat"'
    nan = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert nan


@pytest.mark.parametrize("method", ["ais", "hmc"])
def test_chains_agree_with_importance_sampling(fitted, method):
    settings = ReportSettings(
        method=method, num_rows=20, num_distributions=150, num_simulated=4, diagnostics=False,
        num_samples=8 if method == "ais" else 400,
    )  # fmt: skip
    found = make_report(fitted, TEST, settings=settings)
    assert len(found.index) == 20
    assert len(np.unique(found.index)) == 20
    _, x = fitted.prepare(TEST)
    exact = evaluate.importance_sampling(
        fitted.generative, fitted.recognition, x[found.index], jax.random.key(1), num_samples=4000
    )
    difference = evaluate.mean(found.per_row["log_likelihood"] - exact.log_likelihood)
    assert abs(difference.value) < 5 * difference.standard_error + 0.05
    assert ("bidirectional_gap" in found.content) == (method == "ais")
    # the ELBO is set beside log p(x) of the same rows
    slack = float(np.mean(found.per_row["log_likelihood"] - found.elbo[found.index]))
    assert f"{slack:.2f}" in found.verdicts[0]


def test_an_interrupted_evaluation_goes_on(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 20)
    settings = ReportSettings(num_samples=30, diagnostics=False)
    whole = make_report(fitted, TEST, settings=settings)

    def stop(stage, done, total):
        if stage == "log p(x)" and done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_report(fitted, TEST, settings=settings, unfinished=tmp_path, on_progress=stop)
    assert len(list(tmp_path.iterdir())) == 1
    started = []
    resumed = make_report(
        fitted, TEST, settings=settings, unfinished=tmp_path,
        on_progress=lambda stage, done, total: started.append(done) if stage == "log p(x)" else None,
    )  # fmt: skip
    assert started[0] == 60
    for name, values in whole.per_row.items():
        np.testing.assert_array_equal(resumed.per_row[name], values, err_msg=name)
    assert not list(tmp_path.iterdir())
    # Other settings do not take those rows for theirs.
    with pytest.raises(KeyboardInterrupt):
        make_report(fitted, TEST, settings=settings, unfinished=tmp_path, on_progress=stop)
    started.clear()
    make_report(
        fitted, TEST, settings=dataclasses.replace(settings, num_samples=31), unfinished=tmp_path,
        on_progress=lambda stage, done, total: started.append(done) if stage == "log p(x)" else None,
    )  # fmt: skip
    assert started[0] == 0


def test_blocks_do_not_change_the_result(fitted, monkeypatch):
    settings = ReportSettings(num_samples=30, diagnostics=False)
    whole = make_report(fitted, TEST, settings=settings)
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 30)
    cut = make_report(fitted, TEST, settings=settings)
    for name, values in whole.per_row.items():
        assert cut.per_row[name].shape == (100,)
        np.testing.assert_allclose(cut.per_row[name], values, rtol=1e-4, err_msg=name)


def test_a_damaged_unfinished_file_is_not_used(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 50)
    settings = ReportSettings(num_samples=30, diagnostics=False)
    seen = []

    def stop(stage, done, total):
        seen.append(done)
        if stage == "log p(x)" and done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_report(fitted, TEST, settings=settings, unfinished=tmp_path, on_progress=stop)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    again = make_report(fitted, TEST, settings=settings, unfinished=tmp_path)
    np.testing.assert_array_equal(
        again.per_row["log_likelihood"], make_report(fitted, TEST, settings=settings).per_row["log_likelihood"]
    )


def test_grey_pixels_have_no_log_p():
    grey = (IMAGES * 200).astype(np.uint8)
    fitted = aevb.fit(grey, likelihood="bernoulli", binarization="none", latent_dim=2, **SMALL | {"epochs": 1})
    found = make_report(fitted, grey[:40], settings=ReportSettings(num_samples=50))
    assert found.per_row == {}
    assert "importance_sampled_log_likelihood" not in found.content
    assert "cross-entropy" in found.verdicts[0]
    assert "calibration" not in found.content
    assert found.content["latent"]["num_active"] >= 0


def test_what_a_family_has_not_is_left_out_with_its_reason():
    fitted = aevb.fit(
        TRAIN, likelihood="bernoulli", latent_dim=2, posterior="gamma", prior="gamma", **SMALL | {"epochs": 1}
    )
    found = make_report(fitted, TEST[:30], settings=ReportSettings(num_samples=50))
    assert "left_out" in found.content["gaps"]
    assert any(verdict.startswith("No gaps check") for verdict in found.verdicts)
    assert "left_out" not in found.content["latent"]


def test_the_harmonic_mean_is_refused_where_it_is_not_valid():
    fitted = aevb.fit(TRAIN, likelihood="bernoulli", latent_dim=5, **SMALL | {"epochs": 1})
    with pytest.raises(aevb.ConfigError, match=r"fewer than five latent dimensions.*use method ais"):
        make_report(fitted, TEST, settings=ReportSettings(method="hmc"))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "mcmc"},
        {"num_samples": -1},
        {"num_rows": 0},
        {"method": "ais", "num_distributions": 1},
        {"start": "z"},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(aevb.ConfigError):
        ReportSettings(**options)


def test_decimals_follow_the_error():
    assert nats({"mean": -1.23456, "standard_error": 0.3}) == "-1.23 ± 0.30"
    assert nats({"mean": -1.23456, "standard_error": 0.004}) == "-1.235 ± 0.004"
    assert nats({"mean": -1.23456, "standard_error": None}) == "-1.23"


def test_comparing_a_model_with_itself_and_with_a_worse_one(fitted):
    worse = aevb.fit(TRAIN, likelihood="bernoulli", latent_dim=2, **SMALL | {"epochs": 1})
    lines, fingerprint = compare([("a", fitted), ("again", fitted), ("worse", worse)], TEST, num_samples=100)
    assert fingerprint == fitted.prepare(TEST)[0].fingerprint
    assert lines[1].log_p_difference.value == 0
    assert lines[1].rows_better == 0
    x = fitted.prepare(TEST)[1]
    own, other = (evaluate.quadrature_log_likelihood(m.generative, x).log_likelihood for m in (fitted, worse))
    expected = evaluate.mean(np.asarray(other, np.float64) - own)
    assert lines[2].log_p_difference.value == pytest.approx(expected.value, abs=1e-5)
    assert lines[2].log_p_difference.standard_error == pytest.approx(expected.standard_error, rel=1e-4)
    assert lines[2].log_p_difference.value < -5 * lines[2].log_p_difference.standard_error


def test_the_spread_of_the_rows_is_not_in_a_paired_difference(fitted):
    twin = aevb.fit(TRAIN, likelihood="bernoulli", latent_dim=2, seed=1, **SMALL)
    (_, line), _ = compare([("a", fitted), ("b", twin)], TEST, num_samples=100)
    assert 0 < line.log_p_difference.standard_error < 0.5 * line.log_p.standard_error


def test_other_data_sets_are_not_compared(fitted):
    grey = (IMAGES * 255).astype(np.uint8)
    dynamic = aevb.fit(grey, likelihood="bernoulli", binarization="dynamic", latent_dim=2, **SMALL | {"epochs": 1})
    gaussian = aevb.fit(TRAIN, likelihood="gaussian", latent_dim=2, **SMALL | {"epochs": 1})
    for other in (dynamic, gaussian):
        with pytest.raises(aevb.ConfigError, match="different data sets"):
            compare([("a", fitted), ("b", other)], TEST)
    with pytest.raises(aevb.ConfigError, match="two runs or more"):
        compare([("a", fitted)], TEST)


def test_scaling_does_not_change_a_comparison_of_densities():
    """The same data in other units: log p(x) differs by the Jacobian, and the comparison takes it in."""
    rows = RNG.normal(size=(200, 3)) * np.array([1.0, 10.0, 100.0])
    one = aevb.fit(rows, likelihood="gaussian", scaling="standardize", latent_dim=1, **SMALL)
    two = aevb.fit(rows, likelihood="gaussian", scaling="none", latent_dim=1, **SMALL)
    (first, second), _ = compare([("one", one), ("two", two)], rows, num_samples=100)
    x = one.prepare(rows)[1]
    scaled = evaluate.log_likelihood(
        one.generative, one.recognition, x, one.evaluation_key(Key.IMPORTANCE), num_samples=100
    )
    assert first.log_p.value == pytest.approx(scaled.mean() + one.log_jacobian, abs=1e-4)
    assert one.log_jacobian == pytest.approx(-np.log(rows.std(axis=0)).sum(), abs=1e-3)
    assert second.log_p.value < first.log_p.value


@pytest.mark.parametrize(
    ("elbo", "words"), [(-6.0, "1.0000 ± 0.0000 nats lower."), (-4.5, "0.5000 ± 0.0000 nats higher, ")]
)
def test_a_bound_above_the_estimate_is_called_noise(elbo, words):
    rows = {"log_likelihood": np.full(4, -5.0), "effective_sample_size": np.ones(4), "khat": np.zeros(4)}
    rows["standard_error"] = np.full(4, 0.1)
    content = {KEYS["is"]: {"mean": -5.0, "standard_error": 0.1, "num_rows": 4}}
    line = of_log_p(content, ReportSettings(method="is", num_samples=1), np.full(4, elbo), rows)[0]
    assert words in line
