"""Every error of `Config`, its TOML, and its names against the library's."""

import dataclasses
import math
from typing import get_args, get_type_hints

import optax
import pytest

from aevb import Config, ConfigError, models
from aevb._spec import Own, to_plain
from aevb.config import NAMES, SECTIONS, Data, Model, Training, registry_of
from aevb.data import Binarization, Scaling
from aevb.estimators import AbstractEstimator, Iwae, Renyi
from aevb.models import Iaf, Initialization, Mlp, Vamp
from aevb.train import Adam, Sgd


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("latent_dim", 0, "at least 1"),
        ("latent_dim", 2.0, "a whole number"),
        ("latent_dim", True, "a whole number"),
        ("latent_dim", "2", "a whole number"),
        ("latent_dim", None, "a whole number"),
        ("num_samples", 0, "at least 1"),
        ("epochs", 0, "at least 1"),
        ("batch_size", -1, "at least 1"),
        ("hidden", (0,), "needs 1 to"),
        ("hidden", 500, "a list of whole numbers"),
        ("hidden", "500", "a list of whole numbers"),
        ("hidden", (1.5,), "whole number"),
        ("kl_warmup", -1, "must not be negative"),
        ("kl_warmup", 10_000, "must not be longer than the run of"),
        ("early_stopping", -1, "must not be negative"),
        ("evaluation_samples", -1, "must not be negative"),
        ("seed", -1, "must not be negative"),
        ("seed", 2**63, "below 2^63"),
        ("learning_rate", 0, "positive and finite"),
        ("learning_rate", -0.1, "positive and finite"),
        ("learning_rate", math.inf, "positive and finite"),
        ("learning_rate", math.nan, "got nan"),
        ("learning_rate", "0.1", "a number"),
        ("learning_rate", True, "a number"),
        ("min_scale", "0.1", "a number"),
        ("beta1", 1.0, "less than 1"),
        ("beta2", -0.1, "at least 0"),
        ("beta1", 1, "less than 1"),
        ("epsilon", -1e-8, "must not be negative"),
        ("epsilon", math.inf, "must be finite"),
        ("validation", 1.0, "less than 1"),
        ("validation", -0.1, "at least 0"),
        ("validation", [0.1], "a number or a text"),
        ("parameter_prior", 1, "true or false"),
        ("parameter_prior", "yes", "true or false"),
        ("data", 3, "a text"),
        ("activation", "tahn", "did you mean 'tanh'"),
        ("activation", ["tanh"], "must be one of"),
        ("optimizer", "Adam", "did you mean 'adam'"),
        ("initialization", "he", "must be one of 'glorot', 'paper'"),
        ("learning_rate_schedule", "cos", "did you mean 'cosine'"),
        ("estimator", "sgvb", "did you mean"),
        ("likelihood", "normal", "choose one of bernoulli"),
        ("binarization", "static", "must be one of"),
        ("scaling", "minmax", "must be one of"),
    ],
)
def test_bad_values(field, value, message):
    with pytest.raises(ConfigError) as caught:
        Config(**{field: value})
    assert field in str(caught.value).replace("learning-rate schedule", field)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("validation", [0.0, ""])
def test_early_stopping_needs_validation_data(validation):
    with pytest.raises(ConfigError, match="when early_stopping is on"):
        Config(early_stopping=2, validation=validation)
    assert Config(early_stopping=2, validation="rows.npy").training.early_stopping == 2


def test_only_lossless_conversions():
    made = Config(learning_rate=1, hidden=[3, 4], validation=0)
    assert made.training.learning_rate == 1.0
    assert isinstance(made.training.learning_rate, float)
    assert made.model.network == Mlp((3, 4))
    assert made.data.validation == 0.0


def test_boundaries_are_allowed():
    Config(seed=2**63 - 1, beta1=0.0, kl_warmup=40, epochs=40, hidden=(), epsilon=0.0, validation=0.999)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("latent_dims", "did you mean 'latent_dim'?"),
        ("batch-size", "did you mean 'batch_size'?"),
        ("zzz", "known are "),
    ],
)
def test_unknown_names(name, hint, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(f"{name} = 3\n")
    for act in (
        lambda: Config().replace(**{name: 3}),
        lambda: Config.from_dict({name: 3}),
        lambda: Config.from_toml(path),
    ):
        with pytest.raises(ConfigError) as caught:
            act()
        assert f"{name!r}" in str(caught.value)
        assert hint in str(caught.value)
    assert str(path) in str(caught.value)


def test_replace_checks_again_and_leaves_the_original():
    original = Config()
    with pytest.raises(ConfigError, match="latent_dim"):
        original.replace(latent_dim=0)
    assert original.replace(epochs=3).training.epochs == 3
    assert original == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.training.epochs = 3


CHANGED = {
    "data": 'a "quoted" path\\with\ttab.npy',
    "validation": "v.npy",
    "test": "t.csv",
    "hidden": (30, 20, 10),
    "epsilon": 1e-5,
    "learning_rate": 1 / 3,
    "seed": 2**63 - 1,
    "parameter_prior": True,
    "optimizer": "rmsprop",
    "kl_warmup": 7,
}


@pytest.mark.parametrize(
    "original",
    [
        Config(),
        Config(**CHANGED),
        Config(hidden=(), validation=0.0),
        Config(posterior=Iaf(steps=8), prior=Vamp(7), likelihood="auto", min_scale=0.5, num_samples=3),
        Config(estimator=Renyi(4, 0.25), optimizer=Adam(beta1=0.5), learning_rate_schedule="cosine"),
        Config(model=None, epochs=3),
    ],
)
def test_toml_round_trip(original, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(original.to_toml(), encoding="utf-8")
    assert Config.from_toml(path) == original
    assert Config.from_toml(str(path)) == original
    assert Config.from_dict(original.to_dict()) == original
    assert set(original.to_dict()) == {"data", "model", "training", "evaluation"}


def test_a_file_may_name_some_fields_only(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 3\nlearning_rate = 1\n")  # with a byte-order mark
    assert Config.from_toml(path) == Config(epochs=3, learning_rate=1.0)


@pytest.mark.parametrize(
    "content", [b"epochs = ", b"epochs = 1\nepochs = 2\n", b"\xff\xfe\x00", b"[[epochs]\n"], ids=repr
)
def test_bad_toml(content, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        Config.from_toml(path)


def test_a_bad_value_in_a_file(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[epochs]\nfoo = 1\n")
    with pytest.raises(ConfigError, match="epochs must be a whole number"):
        Config.from_toml(path)


def test_missing_files(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*none\.toml"):
        Config.from_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        Config.from_toml(tmp_path)


def test_every_field_has_a_help_text():
    assert all(f.metadata["help"] for cls in SECTIONS.values() for f in dataclasses.fields(cls))
    assert all(where.help for where in NAMES.values())


def test_the_names_are_those_of_the_library():
    """Those that are spelled out, so that `aevb --help` need not load JAX."""
    hints = get_type_hints(Model) | get_type_hints(Data)
    assert get_args(hints["initialization"]) == models.INITIALIZATIONS == get_args(Initialization)
    assert set(get_args(hints["binarization"])) == {"auto", *get_args(Binarization)}
    assert set(get_args(hints["scaling"])) == {"auto", *get_args(Scaling)}


def choices():
    return [
        (section, f) for section, cls in SECTIONS.items() for f in dataclasses.fields(cls) if "registry" in f.metadata
    ]


def test_every_option_of_every_kind_has_a_keyword_of_its_type():
    """But for what the data decide."""
    for section, f in choices():
        registry = registry_of(f)
        for kind in registry:
            for option, hint in registry[kind].option_types().items():
                named = [
                    w for w in NAMES.values() if w.option == option and f.name in w.fields and w.section == section
                ]
                assert len(named) == 1 or option == "grey", (kind, option)
                assert all(w.hint is hint or w.hint == hint or w.hint is str for w in named), (kind, option)


def test_every_kind_is_taken_as_a_name_a_table_and_an_object():
    for section, f in choices():
        registry = registry_of(f)
        for kind in registry:
            made = registry.make(kind)
            for value in (kind, {"kind": kind}, made, to_plain(made)):
                assert getattr(getattr(Config(**{f.name: value}), section), f.name) == made
            with pytest.raises(ConfigError, match=f"{f.name} must be the name of a kind"):
                Config(**{f.name: 3})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "sgd", "beta1": 0.5}, "beta1 is an option of optimizer adam alone"),
        ({"optimizer": "sgd", "beta1": 0.9}, "beta1 is an option of optimizer adam alone"),  # its default, too
        ({"momentum": 0.5}, "momentum is an option of optimizer rmsprop, optimizer sgd alone"),
        ({"flow_steps": 2}, "flow_steps is an option of posterior iaf, posterior coupling, prior flow alone"),
        ({"df": 5.0}, "df is an option of likelihood student-t alone"),
        ({"likelihood": "bernoulli", "min_scale": 0.1}, "min_scale is an option of likelihood gaussian"),
        ({"alpha": 0.5}, "alpha is an option of estimator renyi alone"),
        (
            {"likelihood": "auto", "posterior": {"kind": "auto", "steps": 3}},
            "steps is no option of a posterior that is",
        ),
        ({"free_bits_group": 2}, "free_bits_group is an option of free_bits above 0 alone"),
        ({"posterior": {"kind": "gaussian", "steps": 3}}, "has no option 'steps'; it has none"),
        ({"posterior": {"steps": 3}}, "a table that names its kind"),
        ({"posterior": "iaf", "flow_steps": 0}, "steps of 'iaf' must"),
        ({"estimator": "ciwae", "ciwae_weight": 1.5}, "beta of 'ciwae' must lie"),
        ({"estimator": "renyi", "alpha": -math.inf}, "must be finite here"),
        ({"estimator": "iwae", "kl_weight": 2.0}, "does not tell a reconstruction term and a KL apart"),
        ({"latent_dim": 3, "free_bits": 0.1, "free_bits_group": 2}, "must divide latent_dim 3"),
        ({"optimizer": optax.adam(0.1), "learning_rate": 0.5}, "learning_rate is of an optimizer by name"),
        (
            {"optimizer": optax.adam(0.1), "learning_rate_schedule": "cosine"},
            "learning_rate_schedule is of",
        ),
        ({"model": Data()}, "model must be an aevb.config.Model"),
        ({"model": None, "latent_dim": 3}, "latent_dim is of presets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_goes_with_its_kind(fields, message):
    with pytest.raises(ConfigError) as caught:
        Config(**fields)
    assert message in str(caught.value)


def test_options_go_to_each_choice_that_has_them():
    both = Config(posterior="iaf", prior="flow", flow_steps=7, activation="relu").model
    assert both.posterior == Iaf(steps=7, activation="relu")
    assert both.prior.steps == 7 and both.prior.activation == both.network.activation == "relu"
    assert Config(activation="elu", posterior="iaf").model.posterior.activation == "elu"  # given by name
    assert Config(posterior=Iaf(), hidden=(5,)).model.posterior == Iaf()


def test_a_kind_that_is_named_again_keeps_its_options():
    config = Config(posterior=Iaf(steps=8), optimizer="adam", beta1=0.5)
    assert config.replace(posterior="iaf", optimizer="adam") == config
    assert config.replace(posterior="iaf", flow_hidden=(4,)).model.posterior == Iaf(steps=8, hidden=(4,))
    assert config.replace(posterior="gaussian").model.posterior == models.GaussianPosterior()
    assert config.replace(optimizer="sgd").training.optimizer == Sgd()


def test_sections_as_a_whole():
    config = Config(model=Model(latent_dim=5), training=Training(epochs=2), seed=3)
    assert (config.model.latent_dim, config.training.epochs, config.training.seed) == (5, 2, 3)
    assert config.replace(model=Model()).model == Model()


def test_flat_files_of_before_are_read(tmp_path):
    """They had every field, those of kinds that were not chosen at their defaults."""
    path = tmp_path / "config.toml"
    path.write_text(
        'data = "mnist"\nlatent_dim = 3\nhidden = [8]\nactivation = "relu"\nlikelihood = "bernoulli"\n'
        'sigmoid_mean = false\nmin_scale = 0.001\nposterior = "iaf"\nflow_steps = 2\nflow_hidden = [9]\n'
        'prior = "normal"\nprior_components = 100\nestimator = "iwae"\nnum_samples = 7\nnum_groups = 2\nalpha = 0.5\n'
        'ciwae_weight = 0.5\nbaseline = "none"\noptimizer = "sgd"\nbeta1 = 0.9\nbeta2 = 0.999\ndecay = 0.9\n'
        "momentum = 0.5\nevaluation_samples = 11\n"
    )
    config = Config.from_toml(path)
    assert (config.data.source, config.model.latent_dim, config.evaluation.num_samples) == ("mnist", 3, 11)
    assert config.model.network == Mlp((8,), "relu")
    assert config.model.posterior == Iaf(2, (9,), "relu")
    assert (config.training.estimator, config.training.optimizer) == (Iwae(7), Sgd(0.5))
    path.write_text('optimizer = "sgd"\nbeta1 = 0.5\n')
    with pytest.raises(ConfigError, match="beta1 is an option of optimizer adam alone"):
        Config.from_toml(path)
    assert Config.from_dict({"optimizer": "sgd", "beta1": 0.5}, drop_idle=True).training.optimizer == Sgd()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[modle]\nlatent_dim = 3\n", "did you mean 'model'?"),
        ('model = "vae"\n', "c.toml: model must be a table, [model], got 'vae'"),
        ("[model]\nhidden = [3]\n", 'write network = {kind = "...", hidden = ...} in [model]'),
        ("[model.network]\nhidden = [3]\n", "a table that names its kind (mlp), got {'hidden': [3]}"),
        ("[training]\nepochs = -3\n", "c.toml: epochs must be at least 1"),
        ("[model]\nlatent_dims = 3\n", "[model]: 'latent_dims'; did you mean 'latent_dim'?"),
        (
            "[training]\nlatent_dim = 3\n",
            "[training]: 'latent_dim'; write latent_dim in the table [model]",
        ),
        ('[model.posterior]\nkind = "iaff"\n', "did you mean 'iaf'?"),
        ('[model.posterior]\nkind = "iaf"\nstep = 3\n', "has no option 'step'; it has steps, hidden, activation"),
        ('[model.posterior]\nkind = "iaf"\nsteps = "x"\n', "steps of 'iaf' must be a whole number"),
        ('[training.optimizer]\nkind = "own"\nbeta1 = 0.5\n', "a name and nothing else, got {'beta1': 0.5}"),
        ('[training.optimizer]\nkind = "sgd"\nbeta1 = 0.5\n', "the optimizer 'sgd' has no option 'beta1'"),
    ],
)
def test_bad_tables(content, message, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Config.from_toml(path)
    assert message in str(caught.value)


def test_objects_of_ones_own_are_kept_by_name():
    class Mine(AbstractEstimator):
        num_samples: int = 1

        def __call__(self, key, generative, recognition, x):
            raise NotImplementedError

    training = Training(estimator=Mine(), optimizer=optax.adam(1e-3))
    assert isinstance(training.estimator, Mine)
    kept = training.without_objects()
    assert kept.estimator == Own("Mine") and kept.optimizer.kind == "own"
    again = Config.from_dict(Config(training=training).to_dict()).training
    assert again == kept and "learning_rate" not in kept.to_dict() and "learning_rate" in Training().to_dict()
