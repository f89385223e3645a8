"""Where data come from: the name of an embedded set, an array, or a path to .npy, .npz, .csv or IDX."""

import difflib
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError

from . import embedded
from .arrays import from_array
from .dataset import Dataset as Dataset
from .idx import gzip_holds_idx, is_gzip, is_idx, read_idx
from .npy import read_npy, read_npz
from .table import read_csv

_T = TypeVar("_T")
Source = str | os.PathLike[str] | NDArray[Any] | jax.Array | Dataset

NAMES: tuple[str, ...] = ("mnist",)


def load(source: Source) -> Dataset:
    """The training part of a source.

    Args:
        source: a name in `NAMES`; a path to a `.npy`, `.npz`, `.csv` or IDX file (IDX, also gzipped, is known by its
            first bytes; labels beside `*images-idx3*` are read from `*labels-idx1*`); an array (N, ...) with one row
            per example; or a `Dataset`, which is returned as it is.

    Raises:
        DataError: if the source is unknown, unreadable, damaged, or holds anything but finite real numbers; see
            `aevb.data.arrays.from_array` for the dtypes.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, np.ndarray):
        return from_array(source, "array")
    if isinstance(source, jax.Array):
        return from_array(np.asarray(source), "array")
    if isinstance(source, str) and source == "mnist":
        return embedded.mnist_train()
    path, name = _path(source)
    return _load_file(path, name)


def load_test(source: Source) -> Dataset | None:
    """The source's own held-out part, or None if it has none: MNIST's test images, or `x_test` of a .npz.

    Raises:
        DataError: as `load`.
    """
    if isinstance(source, (Dataset, np.ndarray, jax.Array)):
        return None
    if isinstance(source, str) and source == "mnist":
        return embedded.mnist_test()
    path, name = _path(source)
    if _suffix(path) != ".npz":
        return None
    arrays = _guarded(lambda: read_npz(path, name, ("x_test", "y_test")), name)
    return from_array(arrays["x_test"], f"{name} (test part)", arrays.get("y_test")) if "x_test" in arrays else None


def _path(source: Any) -> tuple[str, str]:
    """The path of an existing regular file and the name to show for it."""
    try:
        path = os.fsdecode(os.fspath(source))
    except TypeError:
        raise DataError(
            f"data of type {type(source).__name__} are not understood: pass a NumPy array (np.asarray(...), "
            f"DataFrame.to_numpy()), a path, or one of the names {', '.join(NAMES)}"
        ) from None
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r} cannot be read ({_reason(error)}): check the path and its permissions") from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{path!r} is a directory: give the path of one .npy, .npz, .csv or IDX file")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path!r} is not a regular file: save the data to a file first")
    return path, path


def _missing(path: str) -> DataError:
    if _suffix(path) or os.path.basename(path) != path:
        return DataError(f"no such file: {path!r}; check the path, or use one of the names {', '.join(NAMES)}")
    close = difflib.get_close_matches(path.lower(), NAMES, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return DataError(
        f"unknown data set {path!r}; {hint}the names are: {', '.join(NAMES)}; or give a path to .npy .npz .csv or IDX"
    )


def _load_file(path: str, name: str) -> Dataset:
    suffix = _suffix(path)
    if suffix == ".npz":
        arrays = _guarded(lambda: read_npz(path, name, ("x", "y")), name)
        return from_array(arrays["x"], name, arrays.get("y"))
    if suffix == ".csv":
        return _guarded(lambda: read_csv(path, name), name)
    if suffix == ".npy":
        return from_array(_guarded(lambda: _open_npy(path, name), name), name)
    return from_array(_guarded(lambda: _open_idx(path, name), name), name, _labels_beside(path))


def _open_npy(path: str, name: str) -> NDArray[Any]:
    with open(path, "rb") as file:
        return read_npy(file, os.fstat(file.fileno()).st_size, name)


def _open_idx(path: str, name: str) -> NDArray[Any]:
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(0)
        named = _suffix(path.removesuffix(".gz")) == ".idx" or path.removesuffix(".gz").endswith("-ubyte")
        if not named and not is_idx(head):
            zipped = is_gzip(head)
            if not (zipped and gzip_holds_idx(file)):
                inside = "is gzipped, but does not hold IDX" if zipped else f"has the suffix {_suffix(path)!r}"
                raise DataError(f"{name!r} {inside}: data are read from .npy, .npz, .csv and IDX files (IDX also .gz)")
        return read_idx(file, os.fstat(file.fileno()).st_size, name)


def _labels_beside(path: str) -> NDArray[Any] | None:
    folder, filename = os.path.split(path)
    for images, labels in (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1")):
        if images in filename:
            beside = os.path.join(folder, filename.replace(images, labels))
            other = beside.removesuffix(".gz") if beside.endswith(".gz") else beside + ".gz"
            for candidate in (beside, other):
                if os.path.isfile(candidate):
                    return _guarded(partial(_open_idx, candidate, candidate), candidate)
    return None


def _guarded(read: Callable[[], _T], name: str) -> _T:
    try:
        return read()
    except DataError:
        raise
    except (OSError, MemoryError) as error:
        raise DataError(f"{name!r} cannot be read ({_reason(error)}): check the file and its permissions") from error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()
