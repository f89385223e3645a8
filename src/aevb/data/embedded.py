"""MNIST as it comes with the package: four unchanged files, checked against their SHA-256 at every reading."""

import hashlib
import io
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError

from .arrays import from_array
from .dataset import Dataset
from .idx import read_idx

_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def mnist_train() -> Dataset:
    """The 60,000 training images, (60000, 784) uint8, with labels 0..9.

    Raises:
        DataError: if a file of the installation is missing or altered.
    """
    return from_array(_array("train-images-idx3-ubyte.gz"), "mnist", _array("train-labels-idx1-ubyte.gz"))


def mnist_test() -> Dataset:
    """The 10,000 test images, (10000, 784) uint8, with labels 0..9; errors as `mnist_train`."""
    return from_array(_array("t10k-images-idx3-ubyte.gz"), "mnist (test part)", _array("t10k-labels-idx1-ubyte.gz"))


def _read_bytes(filename: str) -> bytes:
    return (resources.files("aevb.data") / "mnist" / filename).read_bytes()


def _array(filename: str) -> NDArray[Any]:
    try:
        content = _read_bytes(filename)
    except OSError as error:
        raise DataError(f"{filename} cannot be read from the installed aevb ({error}): reinstall aevb") from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256[filename]:
        raise DataError(
            f"{filename} of the installed aevb is damaged (SHA-256 {found[:16]}..., expected "
            f"{_SHA256[filename][:16]}...): reinstall aevb"
        )
    return np.asarray(read_idx(io.BytesIO(content), len(content), filename))
