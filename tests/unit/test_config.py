"""Every error of `Config`, its TOML, and its names against the library's."""

import dataclasses
import math
from typing import get_args

import pytest

from aevb import Config, ConfigError, config, estimators, models, train
from aevb.data import Binarization, Scaling
from aevb.estimators._score import BASELINES
from aevb.models import Activation, Initialization


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
        ("min_scale", 0.0, "positive and finite"),
        ("min_scale", math.inf, "positive and finite"),
        ("beta1", 1.0, "less than 1"),
        ("beta2", -0.1, "at least 0"),
        ("decay", 1, "less than 1"),
        ("momentum", 1.5, "less than 1"),
        ("epsilon", -1e-8, "must not be negative"),
        ("epsilon", math.inf, "must not be negative"),
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
        ("learning_rate_schedule", "cos", "must be one of"),
        ("estimator", "sgvb", "did you mean"),
        ("likelihood", "normal", "must be one of"),
        ("binarization", "static", "must be one of"),
        ("scaling", "minmax", "must be one of"),
    ],
)
def test_bad_values(field, value, message):
    with pytest.raises(ConfigError) as caught:
        Config(**{field: value})
    assert field in str(caught.value)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("validation", [0.0, ""])
def test_early_stopping_needs_validation_data(validation):
    with pytest.raises(ConfigError, match="when early_stopping is on"):
        Config(early_stopping=2, validation=validation)
    assert Config(early_stopping=2, validation="rows.npy").early_stopping == 2


def test_only_lossless_conversions():
    made = Config(learning_rate=1, hidden=[3, 4], validation=0)
    assert made.learning_rate == 1.0
    assert isinstance(made.learning_rate, float)
    assert made.hidden == (3, 4)
    assert made.validation == 0.0


def test_boundaries_are_allowed():
    Config(seed=2**63 - 1, beta1=0.0, momentum=0.0, kl_warmup=40, epochs=40, hidden=(), epsilon=0.0, validation=0.999)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("latent_dims", "did you mean 'latent_dim'?"),
        ("batch-size", "did you mean 'batch_size'?"),
        ("zzz", "known are data,"),
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
    assert original.replace(epochs=3).epochs == 3
    assert original == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.epochs = 3


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


@pytest.mark.parametrize("original", [Config(), Config(**CHANGED), Config(hidden=(), validation=0.0)])
def test_toml_round_trip(original, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(original.to_toml(), encoding="utf-8")
    assert Config.from_toml(path) == original
    assert Config.from_toml(str(path)) == original
    assert Config.from_dict(dataclasses.asdict(original)) == original
    keys = [line.split(" = ")[0] for line in original.to_toml().splitlines() if " = " in line]
    assert set(keys) == {f.name for f in dataclasses.fields(Config) if getattr(original, f.name) is not None}


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
    assert all(f.metadata["help"] for f in dataclasses.fields(Config))


def test_the_names_are_those_of_the_library():
    assert get_args(config.ActivationName) == tuple(models.ACTIVATIONS) == get_args(Activation)
    assert get_args(config.InitializationName) == models.INITIALIZATIONS == get_args(Initialization)
    assert get_args(config.OptimizerName) == train.OPTIMIZERS
    assert get_args(config.ScheduleName) == train.SCHEDULES
    assert get_args(config.EstimatorName) == ("auto", *estimators.ESTIMATORS)
    assert get_args(config.BaselineName) == BASELINES
    assert set(get_args(config.PosteriorName)) == {"auto", *models.POSTERIORS.kinds}
    assert set(get_args(config.PriorName)) == {"auto", *models.PRIORS.kinds}
    assert get_args(config.LikelihoodName) == ("auto", *models.LIKELIHOODS.kinds)
    assert set(get_args(config.BinarizationName)) == {"auto", *get_args(Binarization)}
    assert set(get_args(config.ScalingName)) == {"auto", *get_args(Scaling)}
