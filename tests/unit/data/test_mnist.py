"""The embedded MNIST is the canonical one, and a damaged installation is noticed."""

from importlib import resources

import numpy as np
import pytest

from aevb.data import embedded, load, load_test
from aevb.errors import DataError


def test_train_and_test_parts_are_mnist():
    train, test = load("mnist"), load_test("mnist")
    assert train.rows.shape == (60000, 784) and test.rows.shape == (10000, 784)
    assert train.rows.dtype == test.rows.dtype == np.uint8
    assert train.event_shape == test.event_shape == (28, 28) and train.name == "mnist" != test.name
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.labels).tolist() == counts
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(float(train.rows.mean()) / 255, 4) == 0.1307 and round(float(train.rows.std()) / 255, 4) == 0.3081
    assert round(float(test.rows.mean()) / 255, 4) == 0.1325
    assert train.rows.max() == 255 and train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    digest = "9c436d2887cef707f897b6c934d1164e2853acc969706388e3c3bfc30a8eeb6f"
    assert train.fingerprint == f"sha256:{digest}"


@pytest.mark.parametrize("filename", list(embedded._SHA256))
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:99] + b"!" + b[100:], lambda b: b""]
)
def test_damaged_installation(filename, damage, monkeypatch):
    sound = embedded._read_bytes
    monkeypatch.setattr(embedded, "_read_bytes", lambda f: damage(sound(f)) if f == filename else sound(f))
    with pytest.raises(DataError, match=f"{filename}.*damaged.*reinstall"):
        load("mnist") if filename.startswith("train") else load_test("mnist")


def test_missing_installation_file(monkeypatch):
    def missing(_):
        raise FileNotFoundError(2, "No such file")

    monkeypatch.setattr(embedded, "_read_bytes", missing)
    with pytest.raises(DataError, match="reinstall"):
        load("mnist")


def test_terms_are_beside_the_files():
    notice = (resources.files("aevb.data") / "mnist" / "NOTICE").read_text("utf-8")
    for words in (
        "Yann LeCun and Corinna Cortes",
        "CC BY-SA 3.0",
        "unchanged",
        "Apache-2.0",
        *embedded._SHA256.values(),
    ):
        assert words in notice
