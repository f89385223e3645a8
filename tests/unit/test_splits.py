"""The parts of a run's data: no row in two of them, and which of them a model is judged on."""

import numpy as np
import pytest

from aevb import Config, DataError
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


@pytest.mark.parametrize("num_rows", [1, 2, 4, 5])
def test_a_share_that_was_not_named_never_refuses_data(num_rows):
    """Tables of up to five rows were refused, for a tenth of them is no row."""
    parts = load_splits(ROWS[:num_rows], Config())
    assert parts.held_out == ("train", parts.train)
    assert len(parts.train) == num_rows
    with pytest.raises(DataError, match=rf"0\.1 of {num_rows} rows leaves .* set validation=0 for no validation"):
        load_splits(ROWS[:num_rows], Config(validation=0.1))
    with pytest.raises(DataError, match=f"early_stopping needs validation rows, and a tenth of {num_rows} rows is no"):
        load_splits(ROWS[:num_rows], Config(early_stopping=1))
    given = load_splits(ROWS[:num_rows], Config(early_stopping=1), validation=ROWS[5:7])
    assert (len(given.train), len(given.validation)) == (num_rows, 2)


def test_the_share_that_was_not_named_is_a_tenth():
    parts = load_splits(ROWS, Config())
    named = load_splits(ROWS, Config(validation=0.1))
    assert first_column(parts.validation) == first_column(named.validation)
    assert len(parts.validation) == 5
    assert len(load_splits(ROWS[:6], Config()).validation) == 1
