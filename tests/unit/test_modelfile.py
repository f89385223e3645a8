"""A model file's header says in several places what the model is; these must agree, for arrays of one fit another's."""

import copy
from pathlib import Path

import numpy as np
import pytest

import aevb
from aevb._container import read_container, write_container
from aevb.errors import ModelFileError
from aevb.train import Sgd

BINARY = np.random.default_rng(0).integers(0, 2, (40, 6), dtype=np.uint8)
SMALL = {"latent_dim": 2, "hidden": (4,), "epochs": 1, "batch_size": 20, "evaluation_samples": 0}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    aevb.fit(BINARY, **SMALL, posterior="full-covariance").save(path)
    return path


def test_the_file_as_it_was_written_can_be_read(saved, tmp_path):
    path = tmp_path / "again"
    write_container(path, *read_container(saved))
    assert aevb.load(path).spec == aevb.load(saved).spec


def test_idle_options_of_old_files_are_dropped(tmp_path):
    """Formats 1 to 3 had all options of all kinds, and nothing refused one that was not looked at."""
    golden = Path(__file__).parents[1] / "golden" / "format3" / "bernoulli_gaussian_normal.safetensors"
    header, arrays = read_container(golden)
    header = copy.deepcopy(header)
    header["config"] |= {"optimizer": "sgd", "beta1": 0.5}
    write_container(tmp_path / "old", header, arrays)
    assert aevb.load(tmp_path / "old").config.training.optimizer == Sgd()


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("model", "likelihood", {"kind": "continuous-bernoulli"}),
        ("model", "posterior", {"kind": "elliptical", "df": 5.0}),
        ("model", "network", {"kind": "mlp", "hidden": [4], "activation": "relu"}),
        ("model", "likelihood", {"kind": "bernoulli", "grey": True}),
        ("config", "likelihood", "continuous-bernoulli"),
        ("config", "posterior", "elliptical"),
        ("config", "network", {"kind": "mlp", "hidden": [4], "activation": "relu"}),
        ("config", "latent_dim", 3),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(saved, tmp_path, section, name, value):
    header, arrays = read_container(saved)
    header = copy.deepcopy(header)
    table = header["config"]["model"] if section == "config" else header[section]
    assert table[name] != value
    table[name] = value
    path = tmp_path / "altered"
    write_container(path, header, arrays)
    with pytest.raises(ModelFileError, match=f"the model has {name}"):
        aevb.load(path)
