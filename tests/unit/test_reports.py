"""The report: its numbers are the library's, its words follow them, and an interruption loses nothing."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import aevb
from aevb import evaluate, plots
from aevb.data import Values, fix, load, more_than_by_chance, share_repeated
from aevb.errors import UnavailableError
from aevb.fitted import Purpose
from aevb.plots import _draw
from aevb.reports import ReportSettings, _diagnose, _figures, compare, make_report, nats, numbers, save_report
from aevb.reports import _log_p as log_p_module
from aevb.reports import _make as make_module
from aevb.reports._diagnose import Finding, LogP, Subject, diagnose
from aevb.reports._settings import KEYS

RNG = np.random.default_rng(0)
CENTRES = RNG.random((3, 36)) < 0.5
IMAGES = (CENTRES[RNG.integers(0, 3, 400)] ^ (RNG.random((400, 36)) < 0.1)).astype(np.uint8).reshape(-1, 6, 6)
TRAIN, TEST = IMAGES[:300], IMAGES[300:]
SMALL = {"hidden": (16,), "epochs": 15, "batch_size": 50, "learning_rate": 5e-3, "evaluation_samples": 0}


STAGES = ("_latent", "_gaps", "_calibration", "_predictive", "_generation")


def _only(monkeypatch, *stages):
    """No other diagnostic is made: each is compiled anew for each model, and takes seconds."""

    def left_out(subject):
        raise UnavailableError("it is not looked at here")

    for name in STAGES:
        if name not in stages:
            monkeypatch.setattr(_diagnose, name, left_out)


@pytest.fixture(scope="module")
def fitted():
    return aevb.fit(TRAIN, test=TEST, likelihood="bernoulli", latent_dim=2, **SMALL)


@pytest.fixture(scope="module")
def report(fitted):
    return make_report(
        fitted, TEST, settings=ReportSettings(method="is", num_samples=200), train_rows=TRAIN, part="test"
    )


def test_the_numbers_are_those_of_the_parts(fitted, report):
    content, (_, x) = report.content, fitted.prepare(TEST)
    pair = (fitted.generative, fitted.recognition)
    elbo = fitted.elbo_of(x)[0].bound
    log_p = evaluate.log_likelihood(*pair, x, fitted.evaluation_key(Purpose.IMPORTANCE), num_samples=200)
    assert content["elbo"]["mean"] == pytest.approx(elbo.mean(), abs=1e-4)
    found = content["importance_sampled_log_likelihood"]
    assert found["mean"] == pytest.approx(log_p.mean(), abs=1e-4)
    assert found["standard_error"] == pytest.approx(log_p.std(ddof=1) / 10, rel=1e-3)
    assert found["standard_error_by_samples"] < found["standard_error"]
    np.testing.assert_allclose(report.per_row["log_likelihood"], log_p, rtol=1e-5)
    # The same as the fit's own evaluation, which has the same keys.
    again = fitted.evaluate(TEST, method="is", num_samples=200).log_likelihood
    assert again.value == pytest.approx(found["mean"], abs=1e-4)
    lowest = np.argsort(log_p)[:20]
    assert [item["row"] for item in content["lowest_rows"]] == lowest.tolist()
    np.testing.assert_array_equal(report.lowest_rows, TEST.reshape(100, 36)[lowest])
    yardstick = evaluate.independent_columns(TRAIN, TEST, Values.BINARY)
    assert content["over_independent_columns"]["mean"] == pytest.approx((log_p - yardstick).mean(), abs=1e-4)
    assert content["data_kind"] == "binary as they are (static)"


def test_two_latent_dimensions_are_integrated_over(fitted):
    """Importance samples from q were nats too low in every headline."""
    found = make_report(fitted, TEST, settings=ReportSettings(diagnostics=False))
    exact = evaluate.quadrature_log_likelihood(fitted.generative, fitted.prepare(TEST)[1])
    assert found.content["settings"]["method"] == "quadrature"
    assert found.content[KEYS["quadrature"]]["mean"] == pytest.approx(exact.log_likelihood.mean(), abs=1e-6)
    assert found.content[KEYS["quadrature"]]["rows_in_doubt"] == 0
    assert "(by quadrature; " in found.answers[0].text
    assert found.answers[1].text.startswith(
        "Yes: p(x) was integrated over z on a grid that was refined to 0.001 nats in every row"
    )
    own = fitted.evaluate(TEST)
    assert own.method == "quadrature"
    assert own.to_dict()[KEYS["quadrature"]]["mean"] == pytest.approx(exact.log_likelihood.mean(), abs=1e-6)
    np.testing.assert_allclose(fitted.log_likelihood(TEST), exact.log_likelihood, atol=1e-6)
    # Where samples are asked for there are samples, and they say the same within their errors.
    sampled = fitted.log_likelihood(TEST, method="is", num_samples=1000)
    assert abs(evaluate.mean(sampled - exact.log_likelihood).value) < 0.05
    np.testing.assert_array_equal(fitted.log_likelihood(TEST, num_samples=1000), sampled)
    content = fitted.evaluate(TEST, num_samples=10).to_dict()
    assert (content["num_samples"], KEYS["quadrature"] in content) == (10, False)
    assert KEYS["quadrature"] in fitted.evaluate(TEST, num_samples=0).to_dict()
    with pytest.raises(aevb.ConfigError, match="quadrature takes no samples"):
        ReportSettings(method="quadrature", num_samples=5)


def test_every_diagnostic_is_there(report):
    content = report.content
    parts = {"latent", "gaps", "calibration", "predictive", "generation", "answers", "sections", "versions", "settings"}
    assert parts <= set(content)
    assert not any(
        "left_out" in content[name] for name in ("latent", "gaps", "calibration", "predictive", "generation")
    )
    assert content["generation"]["memorisation"] is not None
    gaps = content["gaps"]["diagonal"]
    total = gaps["amortisation_gap"]["mean"] + gaps["approximation_gap"]["mean"]
    assert gaps["gap"]["mean"] == pytest.approx(total, abs=1e-6)
    assert [answer.question for answer in report.answers] == [
        "How good is it?", "Can it be believed?", "What to do next?"
    ]  # fmt: skip
    assert len(report.sections) == 7
    assert all(section.headline.endswith(".") and len(section.headline) < 200 for section in report.sections)


def test_the_files_are_whole(fitted, report, tmp_path):
    paths = save_report(report, tmp_path, "a run <b>")
    assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report.content
    page = (tmp_path / "index.html").read_text()
    assert "a run &lt;b&gt;" in page
    assert page.count("<img") == 6
    # It opens with the three answers; what is not a headline is folded away.
    assert page.index("How good is it?") < page.index("What to do next?") < page.index("<section")
    assert page.count("<section") == 8
    outside = re.sub(r"<details>.*?</details>", "", page, flags=re.S)
    assert "More on this" in page
    assert "It is what training climbs" in page
    assert "It is what training climbs" not in outside
    assert not re.search(r"<(script|link)|src=\"http", page)  # one file, and nothing fetched
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 101
    assert rows[0] == '"row","elbo","log_p","standard_error","effective_sample_size","khat"'
    nan = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert nan


@pytest.mark.parametrize("method", ["ais", "hmc"])
def test_chains_agree_with_importance_sampling(fitted, method):
    settings = ReportSettings(
        method=method, num_rows=20, diagnostics=False,
        **{"num_samples": 8, "num_distributions": 150, "num_simulated": 4} if method == "ais" else {"num_samples": 400},
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
    assert f"{abs(slack):.2f}" in found.sections[0].headline
    assert "On 20 rows, of 100, the" in found.sections[0].headline
    assert found.content["elbo_of_these_rows"]["mean"] == pytest.approx(found.elbo[found.index].mean())
    lines = [what for what, _, _ in numbers(found.content)]
    assert [line.endswith(", of 20 of the rows") for line in lines[3:5]] == [True, True]


@pytest.mark.parametrize(("method", "least"), [("is", "at least "), ("ais", "at least "), ("quadrature", "")])
def test_a_gap_to_an_estimate_that_is_too_low_in_expectation_is_at_least_so_large(fitted, method, least):
    """The section on the bound said so, and the one on its gap, in the same report, did not."""
    _, x = fitted.prepare(TEST[:10])
    nothing, log_p = np.zeros(10), fitted.elbo_of(x)[0].bound + 2.0
    per_row = {"log_likelihood": log_p, "effective_sample_size": nothing + 9, "khat": nothing}
    per_row |= {"error": nothing, "standard_error": nothing}
    found = _diagnose._gaps(subject(fitted, x=x, chosen=np.arange(10), log_p=LogP(method, 16, per_row)))
    assert re.match(rf"The ELBO is {least}[12]\.\d+ ± ", found.headline)


def test_an_interrupted_evaluation_goes_on(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 20)
    settings = ReportSettings(method="is", num_samples=30, diagnostics=False)
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
    resumed.unfinished.discard()
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


def test_what_is_done_is_kept_until_the_report_is_written(fitted, tmp_path, monkeypatch):
    """The rows went when the last of them was done, and what came after them could still be interrupted."""
    settings = ReportSettings(method="ais", num_samples=2, num_distributions=5, num_rows=4, num_simulated=3)
    whole = make_report(fitted, TEST, settings=dataclasses.replace(settings, diagnostics=False))
    kept, page = tmp_path / "kept", tmp_path / "page"
    kept.mkdir(), page.mkdir()

    def stop(stage, done, total):
        if stage == "latent":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_report(fitted, TEST, settings=settings, unfinished=kept, on_progress=stop)
    for name in ("importance_sampling", "annealed_importance_sampling", "bidirectional_gap"):
        monkeypatch.setattr(evaluate, name, lambda *args, **options: pytest.fail("it is computed anew"))
    monkeypatch.setattr(make_module, "diagnose", lambda subject, on_progress: {})
    started = []
    resumed = make_report(
        fitted, TEST, settings=settings, unfinished=kept,
        on_progress=lambda stage, done, total: started.append((stage, done)),
    )  # fmt: skip
    assert ("log p(x)", 4) in started
    for name, values in whole.per_row.items():
        np.testing.assert_array_equal(resumed.per_row[name], values, err_msg=name)
    assert resumed.content["bidirectional_gap"] == whole.content["bidirectional_gap"]
    assert len(list(kept.iterdir())) == 2
    save_report(resumed, page, "r")
    assert not list(kept.iterdir())


def test_blocks_do_not_change_the_result(fitted, monkeypatch):
    settings = ReportSettings(method="is", num_samples=30, diagnostics=False)
    whole = make_report(fitted, TEST, settings=settings)
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 30)
    cut = make_report(fitted, TEST, settings=settings)
    for name, values in whole.per_row.items():
        assert cut.per_row[name].shape == (100,)
        np.testing.assert_allclose(
            cut.per_row[name], values, rtol=1e-4, atol=1e-4 if name == "khat" else 0, err_msg=name
        )


def test_a_damaged_unfinished_file_is_not_used(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(log_p_module, "_block_size", lambda fitted, settings: 50)
    settings = ReportSettings(method="is", num_samples=30, diagnostics=False)
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
    assert "cross-entropy" in found.answers[0].text
    assert "calibration" not in found.content
    assert found.content["latent"]["num_active"] >= 0


def test_what_a_family_has_not_is_left_out_with_its_reason():
    fitted = aevb.fit(
        TRAIN, likelihood="bernoulli", latent_dim=2, posterior="gamma", prior="gamma", **SMALL | {"epochs": 1}
    )
    found = make_report(fitted, TEST[:30], settings=ReportSettings(num_samples=50))
    assert "left_out" in found.content["gaps"]
    gaps = next(section for section in found.sections if section.question == "Where is the bound loose?")
    assert gaps.headline == "No gaps check."
    assert gaps.details[0].startswith("The reason: inference gaps are those")
    assert "left_out" not in found.content["latent"]


def subject(fitted, **changes) -> Subject:
    x = fitted.prepare(TEST)[1]
    return Subject(
        fitted, x, TEST.reshape(100, 36), np.arange(len(x)), None, fitted.prepare(TRAIN, part="training")[1]
    )._replace(**changes)


@pytest.mark.parametrize("error", [TypeError, ValueError, UnavailableError])
@pytest.mark.parametrize("stage", STAGES)
def test_only_what_is_unavailable_is_an_answer(fitted, monkeypatch, stage, error):
    """A bug in a user's model is not read as something that the family has not got."""

    def broken(subject):
        raise error("what the user's model says")

    for name in STAGES:
        monkeypatch.setattr(_diagnose, name, broken if name == stage else lambda subject: Finding({}, "Fine.", "", {}))
    if error is UnavailableError:
        found = dict(diagnose(subject(fitted), lambda *args: None))
        name = stage[1:]
        assert found.pop(name).words == f"No {name} check. The reason: what the user's model says."
        assert {finding.words for finding in found.values()} == {"Fine."}
    else:
        with pytest.raises(error, match="what the user's model says"):
            dict(diagnose(subject(fitted), lambda *args: None))


def test_a_single_row_has_no_spread(fitted):
    alone = subject(fitted, x=fitted.prepare(TEST[:1])[1], chosen=np.arange(1))
    for stage in (_diagnose._latent, _diagnose._generation):
        with pytest.raises(UnavailableError, match="2 rows or more, and there is 1"):
            stage(alone)


def test_samples_that_are_not_finite_are_told(fitted, monkeypatch):
    samples = np.zeros((1000, 36), np.float32)
    samples[7, 3] = np.inf
    monkeypatch.setattr(_diagnose, "_ancestral", lambda generative, keys, like: samples)
    with pytest.raises(UnavailableError, match="1 of 1,000 samples of the model hold a value that is not finite"):
        _diagnose._generation(subject(fitted))


def test_rows_that_were_trained_on_are_not_held_against_samples(fitted, monkeypatch):
    """Of these held-out rows only the last 30 are new; those come first, and the others are left out."""
    monkeypatch.setattr(_diagnose, "COMPARED", 40)
    trained_on = np.arange(100) < 70
    found = _diagnose._generation(subject(fitted, trained_on=trained_on)).content["memorisation"]
    alone = _diagnose._generation(
        subject(fitted, x=subject(fitted).x[70:], stored=subject(fitted).stored[70:])
    ).content["memorisation"]
    assert found == alone
    assert found["num_held_out"] == 30
    none = _diagnose._generation(subject(fitted, trained_on=np.ones(100, bool)))
    assert none.words.startswith("No check of copies. The reason: the model was trained on all of these rows")
    assert "columns" in none.words
    everything = _diagnose._generation(subject(fitted))
    assert everything.content["memorisation"]["num_held_out"] == 40
    assert "No check of copies" not in everything.words


SORTED = np.random.default_rng(20).normal(size=(12_000, 5))
SORTED[6000:] = 10 + 0.02 * SORTED[6000:]  # the second class of two, one after the other in the file


def test_a_sorted_file_does_not_accuse_samples_of_copying(fitted):
    """Samples of the data's own law. The first 500 held-out rows are all of the wide class, far from each other."""
    rng = np.random.default_rng(21)
    wide = rng.random((2, 6000, 1)) < 0.5
    samples, train = np.where(wide, rng.normal(size=(2, 6000, 5)), 10 + 0.02 * rng.normal(size=(2, 6000, 5)))
    content = {}
    verdict, _ = _diagnose._copies(subject(fitted, x=SORTED), samples, train, content)
    assert verdict.headline.startswith("No copies of training rows were found")
    assert content["memorisation"]["num_held_out"] == 500
    assert verdict.details.endswith("Rows checked: 500, drawn at random from 12,000.")
    first, _ = _diagnose._copies(subject(fitted, x=SORTED[:500]), samples, train, {})  # negative control
    assert first.headline.startswith("Samples are too near to training rows")
    assert "drawn at random" not in first.details
    # Half of the rows were trained on: 500 of the others are drawn.
    known = np.arange(12_000) % 2 == 0
    again, _ = _diagnose._copies(subject(fitted, x=SORTED, trained_on=known), samples, train, content)
    assert content["memorisation"]["num_held_out"] == 500
    assert again.details.endswith("Rows checked: 500, drawn at random from 6,000.")


def test_rows_that_repeat_by_themselves_are_no_copies(fitted):
    """Twelve fair bits: two held-out rows in five equal a training row by chance. Without them, samples looked near."""
    train, held_out, samples = np.split(np.random.default_rng(6).integers(0, 2, (3000, 12)), [2000, 2500])
    known = np.isin(held_out @ 2 ** np.arange(12), train @ 2 ** np.arange(12))
    repeated = share_repeated(load(train))
    assert 0.3 < known.mean() < 0.5 and not more_than_by_chance(known.sum(), 500, repeated)
    found, _ = _diagnose._copies(subject(fitted, x=held_out), samples, train, {})
    assert found.headline.startswith("No copies of training rows were found")
    wrong = evaluate.memorisation_verdict(evaluate.nearest_rows(samples, train, held_out=held_out), known)
    assert wrong.headline.startswith("Samples are too near")  # negative control: what was told
    # Where more are found than chance puts there, nobody can tell which of them were trained on.
    content = {}
    told, _ = _diagnose._copies(
        subject(fitted, x=held_out, trained_on=known, repeated=repeated), samples, train, content
    )
    assert told.headline == "No check of copies." and "rows repeat" in content["memorisation"]["left_out"]


def test_copies_of_measurements_are_no_rows_that_repeat_by_themselves():
    """Each of 100 rows of measurements ten times: the held-out copies were told to repeat as answers do."""
    rng = np.random.default_rng(8)
    measured, answers = rng.normal(size=(100, 3)), rng.integers(0, 3, (1000, 3))
    with_id = np.column_stack([np.arange(100), rng.integers(0, 2, 100)])
    assert share_repeated(load(np.repeat(measured, 10, axis=0))) == 0.0
    assert share_repeated(load(np.repeat(with_id, 10, axis=0))) == 0.0
    assert share_repeated(load(answers)) > 0.9
    assert share_repeated(load(rng.integers(0, 50, (1000, 1)))) > 0.9  # of one column nothing is evident
    assert share_repeated(load(np.repeat(measured[:10], 10, axis=0))) == 1.0


def test_a_report_of_new_rows_that_repeat_checks_copies_among_them_all(monkeypatch):
    _only(monkeypatch, "_generation")
    rows = np.random.default_rng(7).integers(0, 2, (1200, 8), dtype=np.uint8)
    model = aevb.fit(rows[:800], latent_dim=1, hidden=(4,), epochs=1, evaluation_samples=0, validation=0.0)
    report = make_report(model, rows[800:], train_rows=rows[:800], settings=ReportSettings(num_rows=20))
    assert report.content["num_rows_in_training"] > 350
    assert report.content["generation"]["memorisation"]["num_held_out"] == 400


@pytest.mark.parametrize(
    ("stage", "function", "num"),
    [
        ("_latent", "latent_diagnostics", 10_000),
        ("_gaps", "gaps_by_family", 50),
        ("_predictive", "posterior_predictive_check", 1000),
    ],
)
def test_each_check_takes_rows_from_the_whole_file(fitted, monkeypatch, stage, function, num):
    seen = []

    def stop(generative, recognition, rows, key, **options):
        seen.append((rows, options))
        raise UnavailableError("seen")

    monkeypatch.setattr(evaluate, function, stop)
    numbers, chosen = np.arange(12_000.0)[:, None], np.arange(0, 12_000, 1 if stage == "_latent" else 2)
    log_p = LogP("quadrature", 0, {"log_likelihood": -chosen.astype(float), "error": 0.0 * chosen})
    with pytest.raises(UnavailableError, match="seen"):
        getattr(_diagnose, stage)(subject(fitted, x=numbers, stored=numbers, chosen=chosen, log_p=log_p))
    ((rows, options),) = seen
    rows = rows.ravel()
    assert len(np.unique(rows)) == num
    assert np.isin(rows, chosen).all()
    assert abs(rows.mean() - 6000) < 5 * 12_000 / np.sqrt(12 * num)  # of the first ones: half of `num`, or `num`
    if stage == "_predictive":
        np.testing.assert_array_equal(options["stored"].ravel(), rows)
    if stage == "_gaps":  # each with its own log p(x)
        np.testing.assert_array_equal(options["log_likelihood"], -rows)


def test_rows_drawn_at_random_are_told(fitted, monkeypatch):
    for stage, limit in (("_latent", "LATENT_ROWS"), ("_gaps", "GAP_ROWS"), ("_predictive", "PREDICTIVE_ROWS")):
        for num, told in ((10, True), (100, False)):
            monkeypatch.setattr(_diagnose, limit, num)
            words = getattr(_diagnose, stage)(subject(fitted)).words
            assert ("Rows checked: 10, drawn at random from 100." in words) == told
            assert ("drawn at random" in words) == told


def test_counts_are_told_as_counts(monkeypatch):
    """Statistics and column means were those of the standardised rows, and told as the data's."""
    _only(monkeypatch, "_predictive", "_generation")
    counts = np.random.default_rng(22).poisson(20, (300, 4)).astype(float)
    counts[:, 0] *= np.random.default_rng(23).random(300) < 0.5
    fitted = aevb.fit(counts, likelihood="gaussian", latent_dim=2, **SMALL | {"epochs": 3})
    assert fitted.preprocessing.scaling == "standardize"
    found = make_report(fitted, counts, settings=ReportSettings(num_samples=50)).content
    observed = {name: told["observed"] for name, told in found["predictive"]["statistics"].items()}
    assert observed["max"] == counts.max()
    assert observed["min"] == 0
    assert observed["mean"] == pytest.approx(counts.mean(), rel=1e-6)
    assert observed["share of zeros"] == pytest.approx(np.mean(counts == 0), rel=1e-9)
    replicated = {name: told["mean"] for name, told in found["predictive"]["statistics"].items()}
    assert replicated["mean"] == pytest.approx(counts.mean(), rel=0.1)
    assert replicated["share of zeros"] == 0  # a Gaussian makes none
    assert found["predictive"]["statistics"]["share of zeros"]["p_value"] < 0.05 / 7  # tested, and a misfit
    assert not found["predictive"]["binarised"]
    samples = fitted.sample(2000, seed=0)
    for told in found["generation"]["columns"]["worst"]:
        j = told["column"] - 1
        assert told["data_mean"] == pytest.approx(counts[:, j].mean(), rel=1e-9)
        assert told["data_sd"] == pytest.approx(counts[:, j].std(ddof=1), rel=1e-9)
        error = samples[:, j].std() * np.sqrt(1 / 1000 + 1 / 2000)
        assert abs(told["mean"] - samples[:, j].mean()) < 5 * error


def prepared_by(fitted, preprocessing):
    return dataclasses.replace(fitted, feed=dataclasses.replace(fitted.feed, preprocessing=preprocessing))


def test_pixels_of_0_and_255_are_told_as_such_and_binarised_ones_as_0_and_1(fitted, grey):
    white = (TEST * 255).astype(np.uint8)
    scaled = dataclasses.replace(fitted.preprocessing, maximum=255.0, scaling="unit")
    binary = prepared_by(fitted, scaled)
    for model, largest in ((binary, 255.0), (grey, 1.0)):
        of = Subject(model, model.prepare(white)[1], white.reshape(100, 36), np.arange(100), None, None)
        predictive, generation = _diagnose._predictive(of), _diagnose._generation(of)
        told = predictive.content["statistics"]["max"]
        assert (told["observed"], told["mean"], told["p_value"]) == (largest, largest, 1.0)
        column = generation.content["columns"]["worst"][0]
        assert column["data_mean"] == pytest.approx(largest * TEST.reshape(100, 36)[:, column["column"] - 1].mean())
        assert abs(column["mean"] - column["data_mean"]) < 0.5 * largest
        assert ("binarised, 0 and 1" in predictive.words) == (largest == 1)
        assert predictive.content["binarised"] == generation.content["columns"]["binarised"] == (largest == 1)


@pytest.fixture(scope="module")
def grey(fitted):
    """The same models, for pixels of 0 to 255 that are binarised at random."""
    changes = {"binarization": "dynamic", "maximum": 255.0, "binary": False, "scaling": "none"}
    return prepared_by(fitted, dataclasses.replace(fitted.preprocessing, **changes))


def test_training_rows_have_binarisation_noise_of_their_own(grey):
    """Row i of the training part and row i of the held-out part with the same noise are alike where both are grey."""
    rows = np.full((300, 6, 6), 128, np.uint8)
    held_out, training = grey.prepare(rows)[1], grey.prepare(rows, part="training")[1]
    # What held-out rows are binarised to must not change, or results could not be compared with earlier ones.
    np.testing.assert_array_equal(held_out, fix(grey.preprocessing, rows.reshape(300, 36), jax.random.key(784)))
    shared = np.mean(held_out == training)
    assert abs(shared - 0.5) < 5 * 0.5 / np.sqrt(held_out.size)
    # The ideal model of these data: fair pixels. It neither copies nor lies too far away.
    ideal = np.random.default_rng(5).integers(0, 2, (300, 36)).astype(np.uint8)
    good = evaluate.memorisation(evaluate.nearest_rows(ideal, training, held_out=held_out))
    assert min(good.p_value_nearer, good.p_value_farther, good.p_value_close) > 1e-6
    # Negative control: with one noise for both parts it is accused.
    bad = evaluate.memorisation(evaluate.nearest_rows(ideal, held_out, held_out=held_out))
    assert bad.p_value_farther == 1e-4  # the least of 9,999 exchanges


def test_the_report_gives_training_rows_their_own_noise(grey, monkeypatch):
    rows, seen = (TEST * 128).astype(np.uint8), []
    monkeypatch.setattr(make_module, "diagnose", lambda subject, on_progress: seen.append(subject) or iter(()))
    make_report(grey, rows, settings=ReportSettings(num_samples=200), train_rows=rows)
    (found,) = seen
    np.testing.assert_array_equal(found.x, grey.prepare(rows)[1])
    np.testing.assert_array_equal(found.train, grey.prepare(rows, part="training")[1])
    assert (found.x != found.train).any()
    assert found.log_p.method in ("quadrature", "is")
    assert found.log_p.in_doubt.shape == found.chosen.shape


@pytest.mark.parametrize(
    ("method", "per_row", "expected"),
    [
        ("quadrature", {"error": [0.0, 0.001, 0.1, np.nan]}, [False, False, True, True]),
        (
            "is",
            {
                "standard_error": [0.5, 0.5, 0.001],
                "khat": [0.9, 0.6, 0.9],
                "effective_sample_size": [500.0, 500.0, 990.0],
            },
            [True, False, False],
        ),
        ("ais", {"standard_error": [0.5, 0.5], "effective_sample_size": [1.1, 9.0]}, [True, False]),
    ],
)
def test_each_method_says_which_rows_are_in_doubt(method, per_row, expected):
    arrays = {name: np.array(values) for name, values in per_row.items()}
    found = LogP(method, 1000, arrays | {"log_likelihood": np.full(len(expected), -5.0)})
    assert found.in_doubt.tolist() == expected
    assert found.take(np.array([1])).in_doubt.tolist() == expected[1:2]
    np.testing.assert_array_equal(found.error, next(iter(found.per_row.values())))


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
        {"method": "quadrature", "num_samples": 5},
        {"num_distributions": 500},
        {"method": "hmc", "start": "encoder"},
        {"method": "is", "num_leapfrog": 3},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(aevb.ConfigError):
        ReportSettings(**options)


@pytest.mark.parametrize("name", ["num_samples", "num_rows", "num_distributions", "num_leapfrog", "num_simulated"])
@pytest.mark.parametrize("value", ["a", 2.5, True])
def test_numbers_of_settings_are_whole(name, value):
    """What is no number was compared with one, and half a row was found out by make_report alone."""
    with pytest.raises(aevb.ConfigError, match=rf"^{name} must be a whole number, got {value!r}$"):
        ReportSettings(method="ais", **{name: value})
    assert type(getattr(ReportSettings(method="ais", **{name: np.int32(7)}), name)) is int


def test_a_setting_that_is_no_truth_value_is_refused():
    with pytest.raises(aevb.ConfigError, match="diagnostics must be True or False, got 'no'"):
        ReportSettings(diagnostics="no")


@pytest.mark.parametrize(
    ("models", "found"),
    [
        (lambda m: [m, m], "number 1 is of type FittedModel"),
        (lambda m: [("a", m), ("b", m, 3)], "number 2 is of type str, FittedModel, int"),
        (lambda m: [("a", m), (m, "b")], "number 2 is of type FittedModel, str"),
        (lambda m: {"a": m, "b": m}, "got dict"),
        (lambda m: m, "got FittedModel"),
    ],
)
def test_models_to_compare_have_names(fitted, models, found):
    with pytest.raises(aevb.ConfigError, match=rf"a list of pairs \(name, model\), as .*, .*{found}$"):
        compare(models(fitted), TEST)


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
    assert [line.method for line in lines] == 3 * ["quadrature"]
    known_to = evaluate.quadrature_log_likelihood(fitted.generative, x, fitted.recognition).error
    assert lines[0].quadrature_error == pytest.approx(float(np.mean(known_to)), rel=1e-5)
    expected = evaluate.mean(np.asarray(other, np.float64) - own)
    assert lines[2].log_p_difference.value == pytest.approx(expected.value, abs=1e-5)
    assert lines[2].log_p_difference.standard_error == pytest.approx(expected.standard_error, rel=1e-4)
    assert lines[2].log_p_difference.value < -5 * lines[2].log_p_difference.standard_error


def test_one_number_of_samples_is_enough_to_compare_estimators(fitted):
    lines = list(fitted.compare_estimators(TEST, num_rows=5, num_samples=2, num_draws=3))
    assert {line.num_samples for line in lines} == {2}
    with pytest.raises(aevb.ConfigError, match="num_samples must be a whole number"):
        list(fitted.compare_estimators(TEST, num_samples=(1.5,)))


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


MEASURED = np.random.default_rng(24).normal(size=(200, 3)) * np.array([1.0, 10.0, 100.0])


@pytest.fixture(scope="module")
def measured():
    options = {"likelihood": "gaussian", "latent_dim": 1, **SMALL, "evaluation_samples": 10}
    with pytest.warns(aevb.HeldOutWarning, match="200 of the 200"):
        return aevb.fit(MEASURED, validation=MEASURED, **options)


def test_scaling_does_not_change_a_comparison_of_densities(measured):
    """The same data in other units: log p(x) differs by the Jacobian, and the comparison takes it in."""
    rows, one = MEASURED, measured
    assert one.preprocessing.scaling == "standardize"
    two = aevb.fit(rows, likelihood="gaussian", scaling="none", latent_dim=1, **SMALL)
    (first, second), _ = compare([("one", one), ("two", two)], rows, num_samples=100)
    x = one.prepare(rows)[1]
    scaled = evaluate.quadrature_log_likelihood(one.generative, x).log_likelihood
    assert first.log_p.value == pytest.approx(scaled.mean() + one.log_jacobian, abs=1e-4)
    assert one.log_jacobian == pytest.approx(-np.log(rows.std(axis=0)).sum(), abs=1e-3)
    assert second.log_p.value < first.log_p.value


def test_rows_are_named_by_their_number_in_the_file(fitted, tmp_path):
    """Rows of a random split had been named by their place in the split."""
    some = aevb.data.load(TEST).take(np.array([80, 3, 41]))
    found = make_report(fitted, some, settings=ReportSettings(diagnostics=False))
    rows = {item["row"]: item["nats"] for item in found.content["lowest_rows"]}
    everything = fitted.log_likelihood(TEST)
    assert rows == pytest.approx({i: everything[i] for i in (80, 3, 41)}, abs=2e-3)
    save_report(found, tmp_path, "a run")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["80", "3", "41"]


def test_rows_that_were_trained_on_are_told(fitted):
    """A run was judged on its own training rows without a word."""
    settings = ReportSettings(diagnostics=False)
    seen = make_report(fitted, TRAIN[:50], settings=settings, train_rows=TRAIN)
    new = make_report(fitted, TEST, settings=settings, train_rows=TRAIN)
    unknown = make_report(fitted, TEST, settings=settings)
    assert seen.content["num_rows_in_training"] == 50
    assert seen.answers[1].text.startswith("Not for new rows: All 50 rows equal rows that were trained on.")
    # 36 binary pixels about three centres: some rows equal each other by chance, and are no training rows for that.
    assert 0 < new.content["num_rows_in_training"] < 20
    assert "Not for new rows" not in new.answers[1].text
    assert unknown.content["num_rows_in_training"] is None
    assert "not known" in unknown.answers[1].text


def test_log_densities_are_in_the_datas_own_units(measured, monkeypatch):
    """One number was of the scaled data, another one beside it in the data's units."""
    _only(monkeypatch, "_gaps")
    rows, fitted = MEASURED, measured
    x, units = fitted.prepare(rows)[1], fitted.log_jacobian
    assert units < -6
    log_p = evaluate.quadrature_log_likelihood(fitted.generative, x).log_likelihood + units
    estimate = fitted.elbo_of(x)[0]
    expected = {
        "elbo": estimate.bound.mean() + units,
        "reconstruction": estimate.log_likelihood.mean() + units,
        "kl": estimate.kl.mean(),
        "quadrature_log_likelihood": log_p.mean(),
    }
    report = make_report(fitted, rows)
    gaps = report.content["gaps"]["diagonal"]  # differences, which have no unit, of densities, which have
    picked = _diagnose._drawn(Subject(fitted, x, rows, np.arange(200), None, None), np.arange(200), 50)
    assert gaps["log_likelihood"]["mean"] == pytest.approx(log_p[picked].mean(), abs=1e-3)
    assert gaps["gap"]["mean"] == pytest.approx(gaps["log_likelihood"]["mean"] - gaps["elbo"]["mean"], abs=1e-6)
    assert 0 <= gaps["gap"]["mean"] < 3
    for found in (report.content, fitted.result["evaluation"], fitted.evaluate(rows).to_dict()):
        assert {name: found[name]["mean"] for name in expected} == pytest.approx(expected, abs=1e-3)
        assert found["log_jacobian"] == units
    np.testing.assert_allclose(fitted.log_likelihood(rows), log_p, atol=1e-4)
    np.testing.assert_allclose(report.per_row["log_likelihood"], log_p, atol=1e-4)
    (line, _), _ = compare([("a", fitted), ("b", fitted)], rows)
    assert line.log_p.value == pytest.approx(expected["quadrature_log_likelihood"], abs=1e-3)
    assert line.elbo.value == pytest.approx(expected["elbo"], abs=1e-3)
    last = fitted.history[-1]  # of the same rows, with other noise
    assert last["validation_elbo"] == pytest.approx(last["validation_reconstruction"] - last["validation_kl"], abs=1e-4)
    assert last["validation_kl"] == pytest.approx(expected["kl"], abs=1e-3)
    assert last["validation_elbo"] == pytest.approx(expected["elbo"], abs=0.5)


@pytest.mark.parametrize(("scale", "white"), [(255, 255.0), (None, None)])
def test_pictures_are_in_the_units_of_the_rows(scale, white, tmp_path, monkeypatch):
    """Samples and training rows, which the model sees divided by 255 or standardised, stand beside stored rows."""
    _only(monkeypatch, "_generation")
    rows = TRAIN * np.uint8(255) if scale else 280 + 10 * RNG.normal(size=TRAIN.shape)
    model = aevb.fit(rows, latent_dim=2, hidden=(8,), epochs=1, evaluation_samples=0)
    report = make_report(model, rows[:50], settings=ReportSettings("elbo"), train_rows=rows)
    drawn = []
    monkeypatch.setattr(_draw, "draw_tiles", lambda ax, images, columns, levels, **_: drawn.append((images, levels)))
    _figures.save_report_figures(report, tmp_path)
    (lowest, lowest_levels), (pairs, pair_levels) = drawn
    assert {row.tobytes() for row in lowest.astype(float)} <= {row.tobytes() for row in rows.astype(float)}
    nearest = pairs[10:20].reshape(10, 1, 36)
    assert np.abs(nearest - rows.reshape(1, -1, 36)).max(2).min(1).max() < 1e-4
    assert report.white == model.white == white
    expected = [(0.0, 255.0)] * 2 if scale else [(part.min(), part.max()) for part in (lowest, pairs)]
    assert [lowest_levels, pair_levels] == expected


def _page_of(rows, tmp_path, monkeypatch):
    """A report on the rows, and the axes of its pictures."""
    _only(monkeypatch, "_generation")
    model = aevb.fit(rows, latent_dim=2, hidden=(8,), epochs=1, evaluation_samples=0)
    report = make_report(model, rows[:50], settings=ReportSettings("elbo"), train_rows=rows)
    drawings = {}
    monkeypatch.setattr(_figures, "save_each", lambda made, *_: drawings.update(made))
    _figures.save_report_figures(report, tmp_path)
    figures = [Figure(layout="constrained") for _ in range(2)]
    for figure, name in zip(figures, ("lowest_rows", "nearest_rows"), strict=True):
        drawings[name](figure)
        figure.draw_without_rendering()
    return report, figures


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_legend_of_measurements_is_that_of_what_is_drawn(tmp_path, monkeypatch, channels):
    """Most are near their lowest here: they were drawn inverted, under a title that called the lowest black."""
    rows = 270.0 + 40 * np.random.default_rng(1).random((120, 6, 6, *channels)) ** 6
    report, figures = _page_of(rows, tmp_path, monkeypatch)
    assert report.white is None
    for figure in figures:
        ax = figure.axes[0]
        if channels:
            assert ax.get_title("left").endswith(")") and "(black is " in ax.get_title("left")
            continue
        image, bar = ax.images[0], figure.axes[1]
        assert image.get_cmap().name == "viridis" and "black" not in ax.get_title("left")
        assert bar.get_ylim()[0] < 271 < 300 < bar.get_ylim()[1]


def test_the_pictures_of_a_page_are_all_inverted_where_its_rows_are_dark(tmp_path, monkeypatch):
    """The rows that fit worst may be bright ones: they were shown white on black beside samples in black on white."""
    rows = np.zeros((120, 6, 6), np.uint8)
    rng = np.random.default_rng(1)
    rows[:, 2:4, 2:4] = rng.integers(150, 256, (120, 2, 2))
    rows[:12] = rng.integers(100, 256, (12, 6, 6))
    report, figures = _page_of(rows, tmp_path, monkeypatch)
    assert np.median(report.lowest_rows) > 64
    assert report.dark and plots.is_dark(rows, 255.0)
    assert [figure.axes[0].images[0].get_cmap().name for figure in figures] == ["gray_r", "gray_r"]
