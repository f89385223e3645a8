"""What a command is given: runs and data, told apart if they are swapped, and found again if they are not named."""

import re
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aevb._splits import Splits, load_splits
from aevb.config import Config
from aevb.data import NAMES, Dataset
from aevb.data import load as load_data
from aevb.errors import AevbError, ConfigError, DataError
from aevb.fitted import FittedModel, load
from aevb.modelfile import MODEL_FILE, is_data_file

Note = Callable[[str], object]


class Rows(NamedTuple):
    """Rows to judge a run on."""

    part: str  # what they are called
    data: Dataset
    train: Dataset | None  # those that the model was fitted to, where they could be found


def load_run(run: str, data: str | None = None, words: Sequence[str] = ()) -> FittedModel:
    """The fitted model of a run directory or model file.

    Args:
        run: what was given as one.
        data: what was given as data beside it.
        words: of the whole command.

    Raises:
        ConfigError: it is data; where the data named beside it is a run, the two are swapped.
        ModelFileError: it is missing, cut or altered.
    """
    if _is_data(run) and not _is_run(run):
        if data is not None and _is_run(data):
            swapped = shlex.join({run: data, data: run}.get(word, word) for word in words)
            raise ConfigError(f"RUN and DATA are swapped: {run} is data and {data} is a run; write: aevb {swapped}")
        raise ConfigError(f"{run} is data, and a run directory or model file must stand in its place")
    return load(run)


def check_data(command: str, data: str) -> None:
    """Raise a ConfigError if what was given as data is a run or a configuration."""
    if _is_run(data):
        hint = f"; repeat it with: aevb fit --config {data}/config.toml" if command == "fit" else ""
        raise ConfigError(f"{data} is a run, and data must stand in its place{hint}")
    if data.endswith(".toml"):
        raise ConfigError(f"{data} is a configuration and no data; write: aevb fit --config {data}")


def rows_to_judge(fitted: FittedModel, data: str | None, *, how: str, note: Note) -> Rows:
    """The rows that were named, or what the run held out; of the very data that the run was split from, that part too.

    Args:
        fitted: the run's model.
        data: data that were named; None: the run's own.
        how: how to name data, for the message where the run's own cannot be found.
        note: told in one line when another part is taken than a reader would think.

    Raises:
        DataError: the data cannot be read, or the run's own are not what they were.
    """
    if data is None:
        splits = _own_splits(fitted, how)
        part, rows = splits.held_out
        return Rows(part, rows, splits.train)
    named = load_data(data)
    whole = split_like(fitted, data)
    if whole is None:
        return Rows(data, named, _train_rows(fitted))
    part, rows = whole.held_out
    if part == "train":
        given = [f"{file} was given as {name} data" for name, file in _given(fitted.config)]
        also = f"; {' and '.join(given)} at the fit" if given else ""
        note(f"this model was fitted to {data}, and held out nothing of it: these are training rows{also}")
    elif rows.fingerprint != named.fingerprint:
        note(
            f"this model was fitted to the training rows of {data}; its {part} part, {len(rows)} rows, was held out "
            "and is used"
        )
    return Rows(part, rows, whole.train)


def rows_for_all(models: Sequence[tuple[str, FittedModel]], data: str | None, note: Note) -> Rows:
    """Rows to judge several runs on: those that were named, or what all of them held out.

    Raises:
        DataError: as `rows_to_judge`, or they held out different rows and no data are named.
    """
    how, notes = "name the data to compare them on, with --data DATA", dict[str, None]()
    each = [rows_to_judge(model, data, how=how, note=notes.setdefault) for _, model in models]
    if data is None:
        for (name, _), rows in zip(models, each, strict=True):
            if rows.data.fingerprint != each[0].data.fingerprint:
                raise DataError(f"{name} held out other rows than {models[0][0]}; {how}")
        return each[0]
    held_out = {rows.data.fingerprint: rows for rows in each if rows.part != data}
    if len(held_out) > 1:
        note(
            f"these models were fitted to {data} and held out different rows of it: all rows are used, most of which "
            "trained them, so that the numbers are not those of new rows; give runs one --seed, or --test, to share "
            "what they hold out"
        )
        return Rows(data, load_data(data), None)
    for text in notes:
        note(text)
    return next(iter(held_out.values()), each[0])


def split_like(fitted: FittedModel, data: str) -> Splits | None:
    """The parts of the data that a run was fitted to, if these are they: the training rows have its fingerprint.

    Rows of other files, which may have been given as validation or test data, are no part of them.
    """
    config = fitted.config
    whole = config.replace(early_stopping=0, test="", validation=0.0)
    shared = [whole.replace(validation=config.data.validation)] if isinstance(config.data.validation, float) else []
    for candidate in (*shared, whole):  # also whole, for arrays may have been given beside it
        try:
            splits = load_splits(data, candidate)
        except AevbError:
            continue
        if splits.train.fingerprint == fitted.data.fingerprint:
            return splits
    return None


def latents(path: str) -> np.ndarray:
    """Latent vectors from a file, those that `aevb encode` writes included: their scales are left aside."""
    if path.endswith(".npz") and Path(path).is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sorted(archive.namelist()) == ["mean.npy", "scale.npy"]:
                return load_data(np.load(path, allow_pickle=False)["mean"]).rows
    dataset = load_data(path)
    names = dataset.columns or ()
    means = [i for i, name in enumerate(names) if re.fullmatch(r"z_[0-9]+", name)]
    scales = [i for i, name in enumerate(names) if re.fullmatch(r"z_[0-9]+_scale", name)]
    return dataset.rows[:, means] if means and len(means) + len(scales) == len(names) else dataset.rows


def _own_splits(fitted: FittedModel, how: str) -> Splits:
    config = fitted.config
    if config.data.source in ("", "array"):
        raise DataError(f"this model was fitted to an array in memory, so its data cannot be found again; {how}")
    for path in _files(config):
        if not Path(path).exists():
            name = re.split(r"[/\\]", path)[-1]
            raise DataError(
                f"the data that this model was fitted with are not here: {name} was {path}; {how} (if it is the same "
                "file, what the model held out of it is used)"
            )
    splits = load_splits(config.data.source, config)
    if splits.train.fingerprint != fitted.data.fingerprint:
        raise DataError(
            f"{config.data.source} has changed since this model was fitted to it, so its held-out part is lost; {how}"
        )
    return splits


def _train_rows(fitted: FittedModel) -> Dataset | None:
    """The rows that the model was fitted to, if they can be found where they were."""
    data = fitted.config.data.source
    if data in ("", "array") or (data not in NAMES and not Path(data).exists()):
        return None
    splits = split_like(fitted, data)
    return splits and splits.train


def _files(config: Config) -> list[str]:
    files = [config.data.source, *(file for _, file in _given(config))]
    return [file for file in files if file not in NAMES]


def _given(config: Config) -> list[tuple[str, str]]:
    """What was held out by a name of its own: the part and the name."""
    named = {
        "test": config.data.test,
        "validation": config.data.validation if isinstance(config.data.validation, str) else "",
    }
    return [(part, file) for part, file in named.items() if file]


def _is_run(text: str) -> bool:
    path = Path(text)
    return (path / MODEL_FILE).is_file() or (path.suffix == ".safetensors" and path.is_file())


def _is_data(text: str) -> bool:
    path = Path(text)
    return (text in NAMES and not path.exists()) or (path.is_file() and is_data_file(path))
