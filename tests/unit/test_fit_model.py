"""Models and algorithms of one's own through the front door: every verb, saving, and what is refused."""

import dataclasses
import html
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

import aevb
from aevb import train
from aevb.distributions import MultivariateNormal, Normal, positive_scale
from aevb.errors import ConfigError, DataError, ModelFileError, UnavailableError
from aevb.estimators import Iwae, SgvbA, SgvbB
from aevb.models import MLP, AbstractGenerativeModel, AbstractPriorLikelihood, AbstractRecognitionModel, Linear
from aevb.reports import ReportSettings, compare, make_report, save_report

D, J, C, NOISE = 4, 2, 3, 0.5
RNG = np.random.default_rng(0)
W, V = RNG.normal(size=(D, J)), RNG.normal(size=(D, C))
LABELS = np.eye(C, dtype=np.uint8)[RNG.integers(0, C, 300)]
PLAIN = (RNG.normal(size=(300, J)) @ W.T + NOISE * RNG.normal(size=(300, D))).astype(np.float32)
ROWS = {"x": (PLAIN + LABELS @ V.T).astype(np.float32), "c": LABELS}
QUICK = {"epochs": 2, "batch_size": 50, "evaluation_samples": 20}


class Factors(AbstractPriorLikelihood):
    """x = W z + noise."""

    loadings: Array
    raw_scale: Array

    def prior(self):
        return Normal(jnp.zeros(J), 1.0).to_event(1)

    def likelihood(self, z):
        return Normal(self.loadings @ z, positive_scale(self.raw_scale, 1e-3)).to_event(1)


class Conditional(AbstractPriorLikelihood):
    """x = W z + V c + noise; an example is {"x": x, "c": c}."""

    loadings: Array
    offsets: Array

    def split(self, x):
        return x["x"], (x["c"],)

    def join(self, observed, *given):
        return {"x": observed, "c": given[0]}

    def prior(self, c):
        return Normal(jnp.zeros(J), 1.0).to_event(1)

    def likelihood(self, z, c):
        return Normal(self.loadings @ z + self.offsets @ c, NOISE).to_event(1)


class Broadcasting(Conditional):
    """Of one that is given as a matrix, and takes what it should not."""

    def likelihood(self, z, c):
        return super().likelihood(z, c.ravel())


class JointOnly(AbstractGenerativeModel):
    factors: Factors

    def log_joint(self, x, z):
        return self.factors.log_joint(x, z)

    def sample(self, key):
        return self.factors.sample(key)


class Encoder(AbstractRecognitionModel):
    network: MLP
    out: Linear

    def posterior(self, x):
        x = jnp.concatenate([x["x"], x["c"]]) if isinstance(x, dict) else x
        loc, raw = jnp.split(self.out(self.network(x)), 2)
        return Normal(loc, positive_scale(raw)).to_event(1)


def encoder(size=D) -> Encoder:
    keys = jax.random.split(jax.random.key(1), 2)
    return Encoder(MLP(size, (8,), key=keys[0]), Linear(8, 2 * J, key=keys[1]))


def factors() -> Factors:
    return Factors(jnp.asarray(W, jnp.float32), jnp.zeros(D))


def conditional() -> Conditional:
    return Conditional(jnp.asarray(W, jnp.float32), jnp.asarray(V, jnp.float32))


@pytest.fixture(scope="module")
def plain():
    return aevb.fit_model((factors(), encoder()), PLAIN, **QUICK, learning_rate=0.01)


@pytest.fixture(scope="module")
def in_one_piece():
    return aevb.fit_model((JointOnly(factors()), encoder()), PLAIN, **QUICK)


@pytest.fixture(scope="module")
def of_labels():
    return aevb.fit_model((conditional(), encoder(D + C)), ROWS, **QUICK, learning_rate=0.01)


# --- the verbs --------------------------------------------------------------------------------------------------------


def test_a_model_of_ones_own_has_the_verbs_of_a_preset(plain):
    assert len(plain.history) == 2 and plain.history[1]["train_elbo"] > plain.history[0]["train_elbo"]
    assert set(plain.history[0]) == {
        "epoch", "train_elbo", "train_reconstruction", "train_kl", "validation_elbo", "validation_reconstruction",
        "validation_kl", "grad_norm", "skipped_steps", "seconds", "examples_per_second",
    }  # fmt: skip
    latents = plain.encode(PLAIN)
    assert latents.mean.shape == latents.scale.shape == (300, J) and (latents.scale > 0).all()
    assert plain.decode(latents.mean).shape == plain.reconstruct(PLAIN).shape == (300, D)
    assert plain.sample(5, seed=0).shape == (5, D) and plain.sample_prior(5, seed=0).shape == (5, J)
    np.testing.assert_array_equal(plain.sample(5, seed=0), plain.sample(7, seed=0)[:5])
    assert plain.latent_dim == J and plain.event_shape == (D,) and plain.white is None
    assert plain.result["held_out"] == "validation" and plain.result["train_rows"] == 270
    assert repr(plain) == "FittedModel(array, Factors, 2 epochs)"


def test_its_evaluation_is_that_of_the_exact_model(plain):
    found = plain.evaluate(PLAIN)
    assert found.method == "quadrature"
    g = plain.generative
    scale = np.asarray(positive_scale(g.raw_scale, 1e-3), np.float64)
    covariance = np.asarray(g.loadings, np.float64) @ np.asarray(g.loadings, np.float64).T + np.diag(scale**2)
    exact = MultivariateNormal(jnp.zeros(D), jnp.asarray(covariance)).log_prob(jnp.asarray(PLAIN))
    assert found.log_likelihood.value == pytest.approx(float(np.mean(exact)), abs=2e-3)
    np.testing.assert_allclose(plain.log_likelihood(PLAIN), exact, atol=5e-3)
    assert found.bound.value < found.log_likelihood.value
    assert found.reconstruction.value - found.kl.value == pytest.approx(found.bound.value, abs=1e-4)
    assert found.kl_is_exact
    evaluated = plain.result["evaluation"]
    assert evaluated["num_rows"] == 30 and evaluated["quadrature_log_likelihood"]["standard_error"] > 0
    noise = next(plain.compare_estimators(PLAIN, num_rows=10, num_samples=1, num_draws=5))
    assert noise.num_samples == 1


def test_a_conditional_model_is_sampled_given_what_is_given(of_labels):
    given = np.repeat(np.eye(C), 400, axis=0)
    samples = of_labels.sample(len(given), seed=0, given=given)
    assert samples.shape == (1200, D)
    offsets = np.asarray(of_labels.generative.offsets)
    spread = np.sqrt((np.asarray(of_labels.generative.loadings) ** 2).sum(axis=1) + NOISE**2)
    for c in range(C):
        error = samples[400 * c : 400 * (c + 1)].mean(axis=0) - offsets[:, c]
        assert (np.abs(error) < 6 * spread / 20).all()
        other = samples[400 * c : 400 * (c + 1)].mean(axis=0) - offsets[:, (c + 1) % C]
        assert (np.abs(other) > 6 * spread / 20).any()  # negative control
    assert of_labels.reconstruct(ROWS).shape == (300, D)
    assert of_labels.encode(ROWS).mean.shape == (300, J)
    found = of_labels.evaluate(ROWS)
    assert found.method == "is" and found.bound.value < found.log_likelihood.value + 1e-2
    for wrong, message in (
        (None, "conditional model: say with given="),
        (given[:3], "arrays of 1200 rows, one for each"),
        (np.where(given > 0, np.nan, given), "must be finite numbers"),
        (given.astype(str), "must be finite numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            of_labels.sample(1200, seed=0, given=wrong)
    with pytest.raises(TypeError) as caught:  # of the model's own code
        of_labels.sample(1200, seed=0, given=given[:, :1])
    assert "what is given has the shapes [(1,)]; the model was fitted to rows of" in caught.value.__notes__[-1]
    with pytest.raises(ConfigError, match=r"makes an example of shape \(1, 3\) at .* and its rows are of"):
        dataclasses.replace(of_labels, generative=Broadcasting(*jax.tree.leaves(of_labels.generative))).sample(
            1200, seed=0, given=given[:, None]
        )
    with pytest.raises(UnavailableError, match="depends on what is given"):
        of_labels.decode(np.zeros((2, J)))
    with pytest.raises(DataError, match=r"shape \(4,\) at \['x'\]"):
        of_labels.encode(PLAIN)


def test_a_verb_that_a_model_has_not_got_says_why(in_one_piece):
    fitted = in_one_piece
    assert fitted.config.training.estimator == SgvbA()
    assert set(fitted.history[0]) >= {"train_elbo", "validation_elbo"} and "train_kl" not in fitted.history[0]
    found = fitted.evaluate(PLAIN)
    assert found.reconstruction is None and found.kl is None and found.log_likelihood.value > found.bound.value - 0.01
    assert found.to_dict()["kl"] is None
    assert fitted.sample(3, seed=0).shape == (3, D)
    for verb in (lambda: fitted.decode(np.zeros((2, J))), lambda: fitted.reconstruct(PLAIN)):
        with pytest.raises(UnavailableError, match=r"needs p\(x \| z\), and JointOnly has log p\(x, z\) in one piece"):
            verb()
    with pytest.raises(UnavailableError, match="only a preset has"):
        _ = fitted.preprocessing
    with pytest.raises(ConfigError, match="is given nothing"):
        fitted.sample(3, seed=0, given=np.zeros((3, 1)))


# --- transforms, estimators, algorithms -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scaled(aevb.AbstractTransform):
    """x = row / scale."""

    scale: float

    def __call__(self, key, row):
        return row / self.scale

    def inverse(self, x):
        return x * self.scale

    def log_jacobian(self):
        return -D * float(np.log(self.scale))

    def to_dict(self):
        return {"kind": "scaled", "scale": self.scale}


def test_a_transform_changes_units_and_nothing_else(plain, tmp_path):
    scaled = aevb.fit_model((factors(), encoder()), 10 * PLAIN, transform=Scaled(10.0), **QUICK, learning_rate=0.01)
    np.testing.assert_allclose(scaled.encode(10 * PLAIN).mean, plain.encode(PLAIN).mean, atol=2e-3)
    np.testing.assert_allclose(scaled.sample(5, seed=0), 10 * plain.sample(5, seed=0), rtol=5e-3, atol=0.05)
    told, of_x = scaled.evaluate(10 * PLAIN), plain.evaluate(PLAIN)
    assert told.bound.value == pytest.approx(of_x.bound.value - D * np.log(10.0), abs=2e-3)
    assert told.log_likelihood.value == pytest.approx(of_x.log_likelihood.value - D * np.log(10.0), abs=2e-3)
    assert told.kl.value == pytest.approx(of_x.kl.value, abs=2e-3)
    path = tmp_path / "scaled"
    scaled.save(path)
    with pytest.raises(ModelFileError, match=r"transformed by .*scale.*10.*give the one"):
        aevb.load(path, like=(factors(), encoder()))
    again = aevb.load(path, like=(factors(), encoder()), transform=Scaled(10.0))
    np.testing.assert_array_equal(again.encode(10 * PLAIN).mean, scaled.encode(10 * PLAIN).mean)


@pytest.mark.parametrize("estimator", [Iwae(3), "iwae", SgvbA(2)])
def test_an_estimator_is_an_object_or_a_name(estimator):
    fitted = aevb.fit_model((factors(), encoder()), PLAIN, **QUICK, estimator=estimator, optimizer=optax.sgd(1e-3))
    assert ("train_iwae_bound" in fitted.history[0]) == (estimator != SgvbA(2))
    assert fitted.history[-1]["skipped_steps"] == 0


def test_an_algorithm_of_ones_own():
    algorithm = train.full_vb(factors(), encoder(), SgvbB(), optax.adam(1e-2), num_examples=270)
    fitted = aevb.fit_model(algorithm, PLAIN, **QUICK)
    assert fitted.history[0]["train_objective"] < fitted.history[0]["train_elbo"]  # the KL of theta is in it
    assert fitted.result["evaluation"]["num_rows"] == 30
    with pytest.raises(ConfigError, match="estimator was decided where the algorithm was made"):
        aevb.fit_model(algorithm, PLAIN, **QUICK, estimator="iwae")
    with pytest.raises(ConfigError, match="learning_rate was decided where the algorithm was made"):
        aevb.fit_model(algorithm, PLAIN, **QUICK, learning_rate=0.5)


def test_an_algorithm_without_a_recognition_model():
    inner = train.aevb(factors(), encoder(), SgvbB(), optax.adam(1e-2), num_examples=270)
    algorithm = inner._replace(model=lambda state: (inner.model(state)[0], None))
    fitted = aevb.fit_model(algorithm, PLAIN, **QUICK)
    assert fitted.recognition is None and "evaluation" not in fitted.result
    assert fitted.sample(3, seed=0).shape == (3, D) and fitted.decode(np.zeros((2, J))).shape == (2, D)
    with pytest.raises(UnavailableError, match="trained without a recognition model"):
        fitted.encode(PLAIN)


def test_early_stopping_keeps_the_best_and_the_same_run_gives_the_same_model():
    options = {**QUICK, "epochs": 30, "early_stopping": 1, "learning_rate": 0.3}
    one, other = (aevb.fit_model((factors(), encoder()), PLAIN, **options) for _ in range(2))
    assert one.result["stopped"] == "early_stopping" and one.result["selected_on"] == "validation"
    bounds = [record["validation_elbo"] for record in one.history]
    assert one.result["evaluation"]["elbo"]["mean"] == pytest.approx(max(bounds), abs=0.5)
    np.testing.assert_array_equal(one.encode(PLAIN).mean, other.encode(PLAIN).mean)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_model_of_ones_own_is_saved_and_read_back(of_labels, tmp_path):
    path = tmp_path / "model.safetensors"
    of_labels.save(path)
    like = (jax.tree.map(jnp.zeros_like, conditional()), encoder(D + C))
    again = aevb.load(path, like=like)
    np.testing.assert_array_equal(again.encode(ROWS).mean, of_labels.encode(ROWS).mean)
    assert again.history == of_labels.history and again.data == of_labels.data
    assert again.result == json.loads(json.dumps(of_labels.result))
    assert again.evaluate(ROWS).bound == of_labels.evaluate(ROWS).bound
    with pytest.raises(ModelFileError, match=r"a model of one's own, Conditional and Encoder.*like=\(generative"):
        aevb.load(path)
    wider = (conditional(), encoder(D + C + 1))
    with pytest.raises(
        ModelFileError, match=r"recognition\.network\.layers\[0\]\.weight is .*\[7, 8\], expected .*\[8, 8\]"
    ):
        aevb.load(path, like=wider)
    with pytest.raises(ModelFileError, match=r"Conditional and Encoder, and like=\.\.\. is of Factors"):
        aevb.load(path, like=(factors(), encoder(D + C)))
    preset = tmp_path / "preset"
    aevb.fit(PLAIN, latent_dim=1, hidden=(3,), epochs=1, evaluation_samples=0).save(preset)
    with pytest.raises(ModelFileError, match="holds a preset"):
        aevb.load(preset, like=like)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, D)), "there are 0 rows"),
        ({"x": np.zeros((5, D)), "c": np.zeros((4, C))}, "one length"),
        (np.full((20, D), np.nan), "NaN or infinite"),
        (np.array([["a"]]), "arrays of numbers"),
        ({}, "there are no rows"),
    ],
)
def test_rows_that_are_none_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        aevb.fit_model((factors(), encoder()), rows, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 3}, "latent_dim is of presets"),
        ({"likelihood": "bernoulli"}, "likelihood is of presets"),
        ({"epochz": 3}, "did you mean 'epochs'"),
        ({"estimator": "sgvb-x"}, "unknown estimator 'sgvb-x'; did you mean 'sgvb-b'"),
        ({"validation": "rows.csv"}, "not a path"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises((ConfigError, DataError), match=message):
        aevb.fit_model((factors(), encoder()), PLAIN, **QUICK | options)


def test_estimator_b_with_a_model_in_one_piece_is_refused():
    with pytest.raises(ConfigError, match="estimator sgvb-b cannot be used here"):
        aevb.fit_model((JointOnly(factors()), encoder()), PLAIN, **QUICK, estimator="sgvb-b")


class Broken(Factors):
    def likelihood(self, z):
        raise KeyError("a fault of the user's own")


def test_an_error_of_the_users_model_reaches_the_user():
    with pytest.raises(KeyError, match="a fault of the user's own") as caught:
        aevb.fit_model((Broken(jnp.ones((D, J)), jnp.zeros(D)), encoder()), PLAIN, **QUICK)
    assert any(frame.name == "likelihood" for frame in caught.traceback)


class Forgotten(Factors):
    def likelihood(self, z):
        return Normal(self.loadings @ z, 1.0)


def test_a_forgotten_to_event_is_told_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"add \.to_event\(1\)"):
        aevb.fit_model((Forgotten(jnp.ones((D, J)), jnp.zeros(D)), encoder()), PLAIN, **QUICK)


def test_records_and_parts_of_the_data_are_as_in_fit():
    records, models = [], []
    fitted = aevb.fit_model(
        (factors(), encoder()), PLAIN, **QUICK, on_epoch=records.append, on_trained=models.append, validation=0
    )
    assert [record["epoch"] for record in records] == [1, 2] and "validation_elbo" not in records[0]
    assert len(models) == 1 and fitted.result["held_out"] == "train"
    given = aevb.fit_model((factors(), encoder()), PLAIN[:200], **QUICK, validation=PLAIN[200:250], test=PLAIN[250:])
    assert given.result["train_rows"] == 200 and given.result["held_out"] == "test"


def test_held_out_rows_that_were_trained_on_are_told():
    with pytest.warns(aevb.HeldOutWarning, match="20 of the 20 rows of test equal rows that are trained on"):
        fitted = aevb.fit_model((factors(), encoder()), PLAIN, **QUICK, test=PLAIN[:20], validation=0)
    assert fitted.result["held_out_in_training"] == 20
    fitted = aevb.fit_model((factors(), encoder()), PLAIN[20:], **QUICK, test=PLAIN[:20], validation=0)
    assert fitted.result["held_out_in_training"] == 0


@dataclasses.dataclass(frozen=True)
class Shifted(aevb.AbstractTransform):
    by: float

    def __call__(self, key, row):
        return row - self.by


def test_rows_that_float32_would_spoil_are_refused():
    """A transform that takes out an offset saw zeros: the log-likelihood was +2.08 where -4.13 is right."""
    far = PLAIN.astype(np.float64) + 1e9
    with pytest.raises(DataError, match="4 of 4 columns of the rows are too far from zero for their spread"):
        aevb.fit_model((factors(), encoder()), far, transform=Shifted(1e9), **QUICK)
    near = aevb.fit_model((factors(), encoder()), PLAIN.astype(np.float64) + 100, transform=Shifted(100.0), **QUICK)
    again = aevb.fit_model((factors(), encoder()), PLAIN, **QUICK)
    assert near.history[-1]["train_elbo"] == pytest.approx(again.history[-1]["train_elbo"], abs=1e-2)


def test_a_transform_with_other_values_is_another_one(tmp_path):
    fitted = aevb.fit_model((factors(), encoder()), PLAIN, transform=Shifted(1.0), **QUICK)
    fitted.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="transformed by"):
        aevb.load(tmp_path / "model", like=(factors(), encoder()), transform=Shifted(2.0))
    aevb.load(tmp_path / "model", like=(factors(), encoder()), transform=Shifted(1.0))
    assert "Factors" in fitted._repr_html_()  # as a notebook shows it


class Unjoined(Conditional):
    def join(self, observed, *given):
        return (observed, *given)


@pytest.mark.parametrize(
    ("models", "rows", "options", "message"),
    [
        (lambda: (Unjoined(*jax.tree.leaves(conditional())), encoder(D + C)), ROWS, {}, "does not undo its split"),
        (lambda: (encoder(), factors()), PLAIN, {}, "where an AbstractGenerativeModel should be"),
        (lambda: (factors(), Encoder), PLAIN, {}, "got Encoder where an AbstractRecognitionModel should be"),
        (lambda: (factors(), encoder()), [PLAIN, PLAIN], {}, "a list could be either"),
        (lambda: (factors(), encoder()), PLAIN, {"validation": -0.1}, "at least 0 and less than 1"),
        (
            lambda: (factors(), encoder()),
            PLAIN,
            {"optimizer": optax.sgd(0.1), "beta1": 0.5},
            "beta1 is told by the object that was given as optimizer",
        ),
        (
            lambda: (factors(), encoder()),
            PLAIN,
            {"estimator": Iwae(5), "num_samples": 9},
            "num_samples is told by the object that was given as estimator",
        ),
    ],
)
def test_what_does_not_go_together_is_told_at_once(models, rows, options, message):
    with pytest.raises((ValueError, DataError), match=message):
        aevb.fit_model(models(), rows, **QUICK | options)


# --- reports and comparisons ------------------------------------------------------------------------------------------


def test_a_report_page_of_a_conditional_model(of_labels, tmp_path):
    train_part = {name: part[:200] for name, part in ROWS.items()}
    held_out = {name: part[200:] for name, part in ROWS.items()}
    report = make_report(of_labels, held_out, train_rows=train_part, settings=ReportSettings("is", 50))
    content = report.content
    assert content["num_rows"] == 100 and content["num_rows_in_training"] == 0
    found = of_labels.evaluate(held_out)
    assert content["elbo"]["mean"] == pytest.approx(found.bound.value, abs=1e-6)
    assert content["latent"]["aggregate_kl"] is None
    told = " ".join(str(part) for part in (*content["sections"], *content["answers"]))
    assert "D_KL(q(z | x) || p(z | given))" in told and "--" not in told
    assert content["gaps"]["num_rows"] == 50 and "Rows checked: 50, drawn at random from 100." in told
    assert "misfit" in told.lower() or "not reproduced" in told
    paths = save_report(report, tmp_path, "of labels")
    page = html.unescape(next(p for p in paths if p.suffix == ".html").read_text(encoding="utf-8"))
    assert "rows as they are given to a model of one's own" in page
    assert {path.name for path in paths} >= {"evaluation.json", "rows.csv"}


@pytest.mark.parametrize("name", ["in_one_piece", "plain"])
def test_a_report_of_what_a_model_has(name, request, tmp_path):
    fitted = request.getfixturevalue(name)
    report = make_report(fitted, PLAIN[:60], settings=ReportSettings("is", 50))
    save_report(report, tmp_path, "own")
    in_parts = hasattr(fitted.generative, "prior")
    assert (report.content["kl"] is None) != in_parts
    assert ("left_out" in report.content["latent"]) != in_parts
    assert report.lowest_rows.shape == (len(report.content["lowest_rows"]), D)


def test_models_of_ones_own_are_compared_with_presets(plain, in_one_piece):
    preset = aevb.fit(PLAIN, latent_dim=2, hidden=(4,), epochs=1, evaluation_samples=0)
    lines, _ = compare([("own", plain), ("preset", preset)], PLAIN)
    assert lines[0].method == lines[1].method == "quadrature"
    assert lines[0].log_p.value == pytest.approx(plain.evaluate(PLAIN).log_likelihood.value, abs=1e-3)
    assert lines[1].log_p_difference.value == pytest.approx(lines[1].log_p.value - lines[0].log_p.value, abs=1e-6)
    with pytest.raises(ConfigError, match="a model in one piece gives, which does not say"):
        compare([("one piece", in_one_piece), ("preset", preset)], PLAIN)
    bits = (PLAIN > 0).astype(np.uint8)
    binary = aevb.fit(bits, latent_dim=2, hidden=(4,), epochs=1, evaluation_samples=0)
    with pytest.raises(ConfigError, match="cannot be compared"):
        compare([("own", plain), ("preset", binary)], PLAIN)
