"""Arrays to files: .npy, .npz or .csv, never over a file that exists."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aevb._container import commit
from aevb.errors import ConfigError, OutputError

SUFFIXES = (".npy", ".npz", ".csv")


def check(output: str) -> Path:
    """The path, if it can be written: asked before the work is done.

    Raises:
        ConfigError: the suffix is unknown.
        OutputError: the file exists, or its directory does not.
    """
    path = Path(output)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{output}: unknown kind of file {path.suffix!r}; end it in {', '.join(SUFFIXES)}")
    check_free(path)
    return path


def check_free(path: Path) -> None:
    """Raise an OutputError if a file at `path` would overwrite something, or has no directory to lie in."""
    if path.exists():
        raise OutputError(f"{path} exists already; nothing was overwritten. Name another file, or remove it first")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no directory {path.parent}")


def check_directory(output: str) -> Path:
    """The path of a directory to write several files to; a ConfigError if it has the name of one file."""
    path = Path(output)
    if path.suffix.lower() in (".png", ".html", ".json", ".csv") and not path.is_dir():
        raise ConfigError(f"{output}: several files are written; name a directory for them")
    return path


def write(path: Path, arrays: dict[str, np.ndarray], columns: Sequence[str]) -> None:
    """Write arrays of N rows each: to .npy the first of them, to .npz all by name, to .csv all side by side."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, next(iter(arrays.values())), allow_pickle=False)
    elif path.suffix.lower() == ".npz":
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
    else:
        import pyarrow as pa
        import pyarrow.csv

        table = np.concatenate([array.reshape(len(array), -1) for array in arrays.values()], axis=1)
        pa.csv.write_csv(pa.table([table[:, i] for i in range(table.shape[1])], names=list(columns)), buffer)
    commit(path, lambda file: file.write(buffer.getbuffer()))
