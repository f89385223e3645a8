"""The parts of a run's data: no row in two of them, and which of them a model is judged on."""

import numpy as np

from aevb import Config
from aevb._splits import load_splits

ROWS = np.arange(100, dtype=np.float32).reshape(50, 2)


def first_column(dataset) -> list[int]:
    return [int(value) for value in dataset.rows[:, 0]]


def test_no_row_is_in_two_parts():
    parts = load_splits(ROWS, Config(validation=0.2))
    assert len(parts.validation) == 10
    assert sorted(first_column(parts.train) + first_column(parts.validation)) == list(range(0, 100, 2))
    assert parts.test is None


def test_test_rows_go_before_validation_rows():
    whole = load_splits(ROWS, Config(validation=0.2), test=ROWS[:5])
    assert whole.held_out == ("test", whole.test)
    assert first_column(whole.test) == [0, 2, 4, 6, 8]
    parts = load_splits(ROWS, Config(validation=0.2))
    assert parts.held_out == ("validation", parts.validation)
    alone = load_splits(ROWS, Config(validation=0.0))
    assert alone.held_out == ("train", alone.train)
    given = load_splits(ROWS, Config(validation=0.2), validation=ROWS[:3])
    assert (len(given.train), len(given.validation)) == (50, 3)
