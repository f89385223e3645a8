"""The parts of a run's data: training, validation and test rows."""

from typing import Any, NamedTuple

from aevb.config import Config
from aevb.data import Dataset, load, load_test, more_than_by_chance, rows_found_in, share_repeated, split
from aevb.errors import DataError

VALIDATION_SHARE = 0.1  # where none is named


class Splits(NamedTuple):
    """The three parts of the data. Validation and test may be absent."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    is_cut: bool = False  # whether the validation rows were cut from the training rows

    @property
    def held_out(self) -> tuple[str, Dataset]:
        """The part to judge the model on: test data, else validation data, else the training rows themselves."""
        if self.test is not None:
            return "test", self.test
        if self.validation is not None:
            return "validation", self.validation
        return "train", self.train

    def count_trained_on(self) -> int | None:
        """How many of the rows to judge the model on equal training rows: 0 where new rows might by chance, None where
        they were not given apart from these.
        """
        part, rows = self.held_out
        if part == "train" or (part == "validation" and self.is_cut):
            return None
        found = int(rows_found_in(rows, self.train).sum())
        return found if found and more_than_by_chance(found, len(rows), share_repeated(self.train)) else 0


def load_splits(data: Any, config: Config, *, validation: Any = None, test: Any = None) -> Splits:
    """Load the data of a configuration and cut off the validation share.

    Args:
        data: array, `Dataset`, data name or path.
        config: for the validation share, the paths of validation and test data, and the seed of the cut. A share that
            was not named refuses no data: where a tenth of them is no row, none is held out.
        validation, test: data given directly; they go before the configuration's.

    Raises:
        DataError: a part is missing, unreadable, or does not fit the others; or there is no row for early stopping.
    """
    dataset = load(data)
    held_out, is_cut = load(validation) if validation is not None else None, False
    if held_out is None and isinstance(config.data.validation, str) and config.data.validation:
        held_out = load(config.data.validation)
    share = config.data.validation
    if share is None:
        share = VALIDATION_SHARE if round(len(dataset) * VALIDATION_SHARE) else 0.0
    if held_out is None and isinstance(share, float) and share > 0:
        train_index, validation_index = split(len(dataset), share, config.training.seed)
        dataset, held_out, is_cut = dataset.take(train_index), dataset.take(validation_index), True
    if held_out is None and config.training.early_stopping:
        raise DataError(
            f"early_stopping needs validation rows, and a tenth of {len(dataset)} rows is none: set validation=0.5 or "
            "another share, or give more rows"
        )
    test_set = (
        load(test if test is not None else config.data.test)
        if test is not None or config.data.test
        else load_test(data)
    )
    return Splits(dataset, held_out, test_set, is_cut)


def not_held_out(count: int, total: int, part: str) -> str:
    """That so many of the rows of the part to judge the model on equal training rows."""
    return (
        f"{count:,} of the {total:,} rows of {part} equal rows that are trained on: the numbers are not those of new "
        "rows; name data that the model has not seen"
    )
