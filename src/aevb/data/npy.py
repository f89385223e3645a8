"""Readers of NumPy's .npy and .npz: never pickled objects, and declared sizes checked before they are believed."""

import lzma
import struct
import warnings
import zipfile
import zlib
from io import BufferedIOBase
from math import prod
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from aevb.errors import DataError

from .arrays import check_dtype

# What zipfile and its decompressors let out for damaged bytes, encryption and unknown methods.
_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, KeyError, NotImplementedError, OverflowError, RuntimeError, ValueError),
)


def read_npy(file: BufferedIOBase, size: int, name: str) -> NDArray[Any]:
    """Read a .npy stream that must be `size` bytes long.

    Raises:
        DataError: for a damaged or cut stream, one with bytes left over, or a dtype that is not plain numbers.
    """
    return _read_npy(file, size, name, labels=False)


def read_npz(path: str, name: str, wanted: tuple[str, str]) -> dict[str, NDArray[Any]]:
    """Read those of the arrays of a .npz whose role is in `wanted`, keyed by role: x, y, x_test or y_test.

    The file holds one array of any name, or `x` with optional `y`, or `x_train` with optional `y_train`, `x_test`,
    `y_test` (the layout of Keras' mnist.npz).

    Raises:
        DataError: for other keys, a damaged archive, or arrays that `read_npy` refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            keys = [info.filename.removesuffix(".npy") for info in members]
            roles = _roles(keys, name)
            found = {}
            for key, info in zip(keys, members, strict=True):
                if (role := roles[key]) in wanted:
                    with archive.open(info) as file:
                        label = role.startswith("y")
                        found[role] = _read_npy(
                            cast(BufferedIOBase, file), info.file_size, f"{name}[{key}]", labels=label
                        )
            return found
    except DataError:
        raise
    except _ZIP_ERRORS as error:
        raise DataError(f"{name!r} is damaged or not a .npz file ({_line(error)}): copy or save it again") from error


def _roles(keys: list[str], name: str) -> dict[str, str]:
    given = set(keys)
    if len(given) == len(keys):
        if len(keys) == 1:
            return {keys[0]: "x"}
        if given == {"x", "y"}:
            return {"x": "x", "y": "y"}
        known = {"x_train": "x", "y_train": "y", "x_test": "x_test", "y_test": "y_test"}
        if "x_train" in given and given <= set(known) and ("x_test" in given or "y_test" not in given):
            return {key: known[key] for key in keys}
    shown = ", ".join(ascii(key) for key in keys[:10]) + (", ..." if len(keys) > 10 else "")
    raise DataError(
        f"{name!r} holds the arrays {shown or '(none)'}; expected exactly one array, or x with optional y, or x_train "
        "with optional y_train, x_test, y_test"
    )


def _read_npy(file: BufferedIOBase, size: int, name: str, *, labels: bool) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files written by Python 2 are read, with no word on it
            version = npy_format.read_magic(file)
            read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            if version not in ((1, 0), (2, 0)):
                raise DataError(f"{name!r} has .npy version {version}: save it again as plain numbers with np.save")
            shape, fortran, dtype = read_header(file)
            shape = tuple(int(length) for length in shape)
            header = file.tell()
    except DataError:
        raise
    except Exception as error:  # NumPy parses the header as Python text, and lets out what parsing may raise
        raise DataError(f"{name!r} is damaged or not a .npy file ({_line(error)}): copy or save it again") from error
    if not (labels and dtype.kind == "U" and dtype.itemsize):
        check_dtype(dtype, name)
    body = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or header + body != size:
        raise DataError(
            f"{name!r} declares shape {shape} of {dtype.name}, that is {header + body} bytes, but holds {size}: "
            "copy or save it again"
        )
    content = file.read(body)
    if len(content) != body or file.read(1):
        raise DataError(f"{name!r} ends before its declared {body} bytes: copy or save it again")
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + "...") if len(text) > 200 else text or type(error).__name__
