"""Choices as objects: what each spec builds, how it is written and read, and that no kind is told by its name."""

import ast
import dataclasses
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _models import Cauchy
from jaxtyping import TypeCheckError

import aevb
from aevb import estimators, train
from aevb.data import Values
from aevb.errors import ConfigError, ModelFileError
from aevb.models import (
    LIKELIHOODS,
    NETWORKS,
    POSTERIORS,
    PRIORS,
    BernoulliLikelihood,
    Decoder,
    Encoder,
    Iaf,
    LaplaceLikelihood,
    Mlp,
    Registry,
    Spec,
    StudentTLikelihood,
    Vae,
    choose_latents,
)

REGISTRIES = (NETWORKS, LIKELIHOODS, POSTERIORS, PRIORS)
ALL = [(registry, kind) for registry in REGISTRIES for kind in registry.kinds]
D, J = 5, 3
KEY = jax.random.key(0)


def is_array(leaf) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def name(value) -> str:
    return value.part if isinstance(value, Registry) else str(value)


# That each is written, read and built is seen by `aevb.testing.check_spec`, in `test_testing.py`.


@pytest.mark.parametrize(("registry", "kind"), ALL, ids=name)
def test_an_option_that_a_spec_has_not_got_is_refused_by_name(registry, kind):
    spec = registry.make(kind)
    with pytest.raises(ConfigError, match=f"the {registry.part} '{kind}' has no option 'colour'"):
        registry.make(kind, colour=1)
    for field in dataclasses.fields(spec):
        with pytest.raises(ConfigError, match=f"{field.name} of '{kind}' must be"):
            registry.make(kind, **{field.name: {}})


@pytest.mark.parametrize("registry", REGISTRIES, ids=name)
def test_a_kind_that_is_not_in_the_registry_is_refused_with_what_was_meant(registry):
    kind = registry.kinds[0]
    with pytest.raises(ConfigError, match=f"unknown {registry.part} '{kind}x'; did you mean '{kind}'"):
        registry.from_dict({"kind": f"{kind}x"})
    for content in ({}, [], {"kind": 3}, "mlp", None):
        with pytest.raises(ConfigError, match="must be a table that names its kind"):
            registry.from_dict(content)
    with pytest.raises(ValueError, match=f"there is a {registry.part} '{kind}' already"):
        registry.register(registry[kind])


@pytest.mark.parametrize("likelihood", LIKELIHOODS.kinds)
@pytest.mark.parametrize("posterior", ["gaussian", "full-covariance", "iaf", "coupling", "gamma"])
def test_a_model_of_specs_is_written_read_and_built_again(likelihood, posterior):
    q, p = choose_latents(POSTERIORS.make(posterior), None)
    spec = Vae(D, J, Mlp((4,)), LIKELIHOODS.make(likelihood), q, p)
    again = Vae.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    shapes = [
        {
            jax.tree_util.keystr(path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(m, is_array))
        }
        for m in (eqx.filter_eval_shape(s.build, key=KEY) for s in (spec, again))
    ]
    assert shapes[0] == shapes[1] and len(shapes[0]) >= 8


@pytest.mark.parametrize("kind", LIKELIHOODS.kinds)
def test_a_likelihood_is_one_distribution_over_x_and_begins_at_the_mean(kind):
    spec = LIKELIHOODS.make(kind)
    mean = np.linspace(0.2, 0.8, D)
    decoder = Decoder(D, J, Mlp((4,)), spec, biases=spec.start(mean), key=KEY)
    z = jnp.zeros(J)

    def of(decoder, z):
        p = decoder.likelihood(z)
        x = p.sample(jax.random.key(1))
        return p.mean, x, p.log_prob(x)

    eager = of(decoder, z)  # compiled it is the same: `test_testing.py`
    if spec.values is not Values.LEVELS:  # its location is there; what falls beyond its edges moves its mean
        np.testing.assert_allclose(eager[0], mean, rtol=2e-3)  # h = 0 at z = 0
    assert eager[1].shape == (D,) and eager[2].shape == ()
    assert spec.has_density == (spec.values in (Values.REAL, Values.UNIT))


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        (LaplaceLikelihood(min_scale=0.1), lambda x, loc, scale: scipy.stats.laplace.logpdf(x, loc, scale)),
        (StudentTLikelihood(df=3.5, min_scale=0.1), lambda x, loc, scale: scipy.stats.t.logpdf(x, 3.5, loc, scale)),
    ],
)
def test_densities_of_the_heavy_tailed_likelihoods(spec, exact, x64):
    raw = {"loc": jnp.array([0.3, -2.0, 5.0]), "raw_scale": jnp.array([-1.0, 0.0, 4.0])}
    x = np.array([0.0, 40.0, 5.5])
    gaussian = LIKELIHOODS.make("gaussian", min_scale=0.1).distribution(raw)
    scale = np.sqrt(np.asarray(gaussian.variance))  # which floor and raw outputs give there, too
    found = spec.distribution(raw).log_prob(jnp.asarray(x))
    np.testing.assert_allclose(found, exact(x, np.asarray(raw["loc"]), scale).sum(), rtol=1e-10)
    assert found > gaussian.log_prob(jnp.asarray(x)) + 100  # what is 40 scales off


@pytest.mark.parametrize("likelihood", ["laplace", "student-t"])
def test_one_wild_value_does_not_set_the_scale_of_its_column(likelihood):
    """With the standard deviation for a scale, a column with one 999999 had no digits left: 8 nats a row were lost."""
    rows = np.random.default_rng(0).normal(size=(400, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1.0]]) + 3.0
    wild = rows.copy()
    wild[7, 1] = 999_999.0
    options = {"likelihood": likelihood, "latent_dim": 1, "hidden": (4,), "epochs": 30, "learning_rate": 0.01}
    clean, spoilt = (aevb.fit(r, **options, validation=0.0, evaluation_samples=0) for r in (rows, wild))
    assert spoilt.preprocessing.std[1] == pytest.approx(rows[:, 1].std(), rel=0.2)
    log_p = [model.log_likelihood(rows).mean() for model in (clean, spoilt)]
    assert log_p[1] > log_p[0] - 1
    gaussian = aevb.fit(wild, **options | {"likelihood": "gaussian"}, validation=0.0, evaluation_samples=0)
    assert gaussian.log_likelihood(rows).mean() < log_p[1] - 3  # negative control: what it was


def test_parts_of_a_model_are_specs():
    with pytest.raises((ConfigError, TypeCheckError), match="network"):
        Vae(D, J, BernoulliLikelihood())
    with pytest.raises((ConfigError, TypeCheckError), match="likelihood"):
        Vae(D, J, Mlp((8,)), BernoulliLikelihood)


def test_a_network_may_be_any_module():
    class Doubled(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            return jnp.tanh(self.weight @ jnp.concatenate([x, x]))

    encoder = Encoder(D, J, Doubled(jnp.ones((7, 2 * D))), Iaf(steps=2, hidden=(6,)), key=KEY)
    decoder = Decoder(D, J, Doubled(jnp.ones((7, 2 * J))), key=KEY)
    assert encoder.maps["loc"].weight.shape == (7, J) and decoder.maps["logits"].weight.shape == (7, D)
    estimate = estimators.SgvbA()(KEY, decoder, encoder, jnp.ones(D))
    assert np.isfinite(estimate.bound)
    with pytest.raises(ValueError, match="a network must give one vector"):
        Encoder(D, J, lambda x: x[:, None], key=KEY)


class Halves(eqx.Module):
    """tanh(W v): a module of one's own."""

    weight: jax.Array

    def __call__(self, v):
        return jnp.tanh(self.weight @ v)


def halves(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return Halves(jax.random.normal(keys[0], (4, D))), Halves(jax.random.normal(keys[1], (3, J)))


FEW = {"latent_dim": J, "epochs": 1, "batch_size": 20, "evaluation_samples": 0, "validation": 0.0, "quiet": True}


def test_modules_of_ones_own_go_through_the_front_door(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, D))
    fitted = aevb.fit(rows, **FEW, network=halves())
    assert "Halves" in repr(fitted) and fitted.config.model.network.kind == "own"
    assert not np.array_equal(fitted.recognition.network.weight, halves()[0].weight)  # it was trained
    fitted.save(tmp_path / "model.safetensors")
    again = aevb.load(tmp_path / "model.safetensors", network=halves(1))
    np.testing.assert_array_equal(again.encode(rows).mean, fitted.encode(rows).mean)
    with pytest.raises(ModelFileError, match=r"modules of one's own, Halves, Halves.*network=\(of_x, of_z\)"):
        aevb.load(tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"and network=\.\.\. is"):
        aevb.load(tmp_path / "model.safetensors", network=(halves()[0], jnp.tanh))
    with pytest.raises(ModelFileError, match=r"generative.network.weight is float32\[3, 3\], expected float\[5, 3\]"):
        aevb.load(tmp_path / "model.safetensors", network=(halves()[0], Halves(jnp.ones((5, J)))))
    with pytest.raises(TypeError) as caught:
        aevb.fit(rows, **FEW, network=halves()[::-1])
    assert f"Halves, given as a network, was called with a vector of {J} numbers" in caught.value.__notes__
    with pytest.raises(ConfigError, match="two modules that can be called"):
        aevb.fit(rows, **FEW, network=(Halves, halves()[1]))


def test_a_spec_of_ones_own_goes_into_files_once_it_is_registered(tmp_path, monkeypatch):
    spec = Vae(D, J, Mlp((4,)), Cauchy())
    generative, _ = spec.build(key=KEY)
    assert np.isfinite(generative.likelihood(jnp.zeros(J)).log_prob(jnp.ones(D)))
    with pytest.raises(ConfigError, match=r"'cauchy' is one of your own.*LIKELIHOODS.register"):
        spec.to_dict()
    monkeypatch.setattr(LIKELIHOODS, "_classes", dict(LIKELIHOODS._classes))
    assert LIKELIHOODS.register(Cauchy) is Cauchy
    assert Vae.from_dict(spec.to_dict()) == spec


def test_a_spec_of_ones_own_is_fitted_by_name_or_as_an_object(tmp_path, monkeypatch):
    rows, path = np.random.default_rng(0).normal(size=(40, D)), tmp_path / "model.safetensors"
    one = aevb.fit(rows, **FEW, hidden=(4,), likelihood=Cauchy())
    with pytest.raises(ConfigError, match=r"'cauchy' is one of your own.*LIKELIHOODS.register"):
        one.save(path)
    with pytest.raises(ConfigError, match="unknown likelihood 'cauchy'"):
        aevb.fit(rows, **FEW, likelihood="cauchy")
    monkeypatch.setattr(LIKELIHOODS, "_classes", dict(LIKELIHOODS._classes))
    LIKELIHOODS.register(Cauchy)
    aevb.fit(rows, **FEW, hidden=(4,), likelihood="cauchy").save(path)
    again = aevb.load(path)
    assert again.config.model.likelihood == Cauchy() == again.spec.likelihood
    np.testing.assert_array_equal(again.encode(rows).mean, one.encode(rows).mean)


def test_a_file_that_names_an_unknown_spec_is_refused(tmp_path):
    from aevb._container import read_container, write_container

    golden = Path(__file__).parents[1] / "golden" / "format3"
    header, arrays = read_container(golden / "bernoulli_gaussian_normal.safetensors")
    for part, kind in (("likelihood", "os.system"), ("network", "transformer"), ("posterior", "cauch")):
        altered = json.loads(json.dumps(header))
        altered["model"][part]["kind"] = kind
        write_container(tmp_path / "altered", altered, arrays)
        with pytest.raises(ModelFileError, match=f"unknown {part} '{kind}'"):
            aevb.load(tmp_path / "altered")
    assert ModelFileError.exit_code == 4


# --- kinds are objects ------------------------------------------------------------------------------------------------

ROOT = Path(aevb.__file__).parent
BY_NAME = {"_old_formats.py"}  # which reads what was written when there were no specs
KINDS = {
    *(kind for registry in REGISTRIES for kind in registry.kinds), *estimators.ESTIMATORS, *train.OPTIMIZERS
} - {"f", "normal", "score"}  # names of other things, too: a dtype, a family of distributions, a label  # fmt: skip


def comparisons(source: str) -> list[str]:
    """Comparisons of anything with the name of a kind."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare | ast.MatchValue))
    return [
        ast.unparse(node)
        for node in nodes
        if any(isinstance(part, ast.Constant) and part.value in KINDS for part in ast.walk(node))
    ]


def test_no_kind_is_told_by_its_name():
    files = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    assert files.keys() >= BY_NAME
    found = {file: comparisons(path.read_text()) for file, path in files.items() if file not in BY_NAME}
    assert {file: told for file, told in found.items() if told} == {}


@pytest.mark.parametrize("source", ["x == 'gaussian'", "x in ('iaf', 'y')", "match x:\n case 'vamp':\n  pass"])
def test_a_comparison_with_a_name_would_be_seen(source):
    assert comparisons(source)


def test_the_base_of_specs_is_no_spec_itself():
    assert not hasattr(Spec, "kind")
    assert BernoulliLikelihood() != LaplaceLikelihood()
