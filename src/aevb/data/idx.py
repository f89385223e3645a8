"""Reader of IDX, the format of the MNIST files: a magic number, big-endian sizes, then the numbers.

The declared sizes are held against the bytes that are there before anything is allocated for them, and what is
decompressed is bounded by the declared size.
"""

import gzip
import zlib
from io import BufferedIOBase
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 16
_CHUNK = 1 << 20
_DEFLATE_RATIO = 1032  # deflate cannot expand a byte to more than this


def is_idx(head: bytes) -> bool:
    """Whether `head` (four bytes or more) starts with an IDX magic number."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _DTYPES and 1 <= head[3] <= _MAX_DIMENSIONS


def is_gzip(head: bytes) -> bool:
    """Whether `head` starts as a gzip stream does."""
    return head[:2] == b"\x1f\x8b"


def gzip_holds_idx(file: BufferedIOBase) -> bool:
    """Whether a gzip stream starts with an IDX magic number; a damaged one does not. Rewinds `file`."""
    try:
        with gzip.GzipFile(fileobj=file) as unzipped:
            return is_idx(unzipped.read(4))
    except (OSError, EOFError, zlib.error):
        return False
    finally:
        file.seek(0)


def read_idx(file: BufferedIOBase, size: int, name: str) -> NDArray[Any]:
    """Read a whole IDX stream of `size` bytes, gzipped or not, from its start.

    Returns an array of the declared shape, in the stored (big-endian) byte order.

    Raises:
        DataError: if the magic number is wrong, the stream is damaged, or its length is not the declared one.
    """
    zipped = is_gzip(file.read(2))
    file.seek(0)
    try:
        if zipped:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read(unzipped, size * _DEFLATE_RATIO, None, name)
        return _read(file, size, size, name)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name!r} is damaged ({_line(error)}): copy or download it again") from error


def _read(stream: Any, most: int, exactly: int | None, name: str) -> NDArray[Any]:
    head = stream.read(4)
    if not is_idx(head):
        raise DataError(f"{name!r} is not an IDX file: it starts with {head.hex(' ') or 'nothing'}, not 00 00 08 03")
    sizes = stream.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DataError(f"{name!r} is cut short inside its IDX header: copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    dtype = np.dtype(_DTYPES[head[2]])
    header, body = 4 + len(sizes), prod(shape) * dtype.itemsize
    if header + body > most or (exactly is not None and header + body != exactly):
        there = "at most " * (exactly is None) + str(most)
        raise DataError(
            f"{name!r} declares the shape {shape}, that is {header + body} bytes, but holds {there}: "
            "copy or download it again"
        )
    content = bytearray()
    while len(content) <= body and (chunk := stream.read(min(_CHUNK, body + 1 - len(content)))):
        content += chunk
    if len(content) != body:
        there = f"only {len(content)}" if len(content) < body else "more"
        raise DataError(
            f"{name!r} declares the shape {shape}, that is {body} bytes of numbers, but holds {there}: "
            "copy or download it again"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
