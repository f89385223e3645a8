"""Model files of every format that aevb has written are read for ever, and give the numbers that they gave.

`python -m tests.golden` wrote them. Of format 1 there are densities alone: what its verbs called a mean has changed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from golden.__main__ import LIKELIHOODS, densities

import aevb

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in GOLDEN.glob("*/numbers.json")}
NAMES = [(folder, name) for folder in sorted(EXPECTED) for name in sorted(EXPECTED[folder])]


def test_every_golden_file_has_its_numbers():
    assert set(NAMES) == {(path.parent.name, path.stem) for path in GOLDEN.glob("*/*.safetensors")}
    assert sorted(EXPECTED) == ["format1", "format2", "format3", "format4"]


@pytest.mark.parametrize(("folder", "name"), NAMES)
def test_a_golden_file_gives_its_numbers(folder, name):
    path = GOLDEN / folder / f"{name}.safetensors"
    fitted, rows = aevb.load(path), LIKELIHOODS[name.split("_")[0]][0][:3]
    expected = {key: np.asarray(value, np.float32) for key, value in EXPECTED[folder][name].items()}
    found = densities(fitted, expected["x"], expected["z"]) | {"x": fitted.prepare(rows)[1], "z": expected["z"]}
    if folder != "format1":
        latents = fitted.encode(rows)
        found |= {"mean": latents.mean, "scale": latents.scale, "decoded": fitted.decode(expected["z"])}
    assert set(found) == set(expected)
    for key, values in found.items():
        np.testing.assert_allclose(np.reshape(values, expected[key].shape), expected[key], 1e-4, 1e-4, err_msg=key)
