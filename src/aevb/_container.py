"""One file of named arrays with a JSON header: written whole or not at all, and read with every bit checked.

It is a plain safetensors file, which other tools can open: 8 bytes of header length, a JSON header padded with spaces,
the arrays end to end. Its metadata hold one text under `aevb`, the JSON object

    {"container": 1, "header": <what the caller gave>, "header_sha256": <of the other three>, "sha256": {name: digest}}

An array's digest covers its dtype, shape and bytes. Both JSON texts must be exactly what serialising their parsed
content gives, so no bit of the file, padding included, can change unseen.

The digests detect damage (a cut file, a flipped bit, a bad copy), not malice: whoever alters the arrays can write new
digests beside them. Against hostile files, reading executes nothing, believes no size before comparing it with the
file's, and uses little more memory than that. What the header *means* is for the caller to check.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from aevb.errors import AevbError, ModelFileError, OutputError

MAX_HEADER_BYTES = 8 << 20
TEMPORARY_PREFIX = ".aevb-"  # then <process id>-<random>.tmp; only a killed process leaves one behind

_Entry = tuple[np.dtype[Any], tuple[int, ...], int, int]  # of one array: dtype, shape, first byte, end
_VERSION = 1
_MAX_DEPTH = _MAX_DIMENSIONS = 32
_MAX_COMMAS = 500_000  # bounds the time that parsing takes
_NAMES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U8": "u1", "BOOL": "?"}
_DTYPES: dict[str, np.dtype[Any]] = {code: np.dtype(name) for code, name in _NAMES.items()}  # a closed list
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_OTHER_FORMATS: tuple[tuple[bytes, str], ...] = (
    *((bytes((0x80, protocol)), "a Python pickle") for protocol in range(2, 6)),
    (b"PK\x03\x04", "a zip archive (.keras, .npz and PyTorch's .pt files are)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras' .h5)"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file itself)"),
    (bytes(8), "zeros in place of a header"),
    (b"", "no complete safetensors header (another kind of file, or one that was cut or altered)"),
)


def commit(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make `path` hold what `write` puts into the file it is given: all of it, durably, or else nothing.

    The bytes go to a new file in the same directory, which is flushed to the disk and then renamed over `path`; the
    directory is flushed last. Whatever fails, a keyboard interrupt included, `path` holds what it held before and the
    temporary file is gone; only if that last flush fails is the new file already in place, and the error says so. A
    symbolic link at `path` is replaced, not followed. `OutputError` is raised where the operating system refuses; other
    exceptions of `write` pass through unchanged.
    """
    _check_path(path, OutputError)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}.tmp"
    replaced = False
    try:
        with contextlib.ExitStack() as stack:
            if os.name == "posix":  # opened before anything is written, since this can fail as well
                directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, directory)
            try:
                with open(temporary, "xb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            replaced = True
            if os.name == "posix":
                os.fsync(directory)
    except OSError as error:
        if isinstance(error, AevbError):
            raise
        if replaced and error.errno == errno.EINVAL:
            return  # this file system does not flush directories at all
        done = "the new file is in place, but a power cut may undo it" if replaced else "nothing there was changed"
        advice = "check that the directory exists, may be written to and has space left"
        raise OutputError(f"{str(path)!r}: cannot be written: {error.strerror or error}; {done}; {advice}") from error


def write_container(path: Path, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write `header` and `arrays` to `path` as one file; equal inputs give equal bytes.

    The header may hold what JSON can give back: None, bool, int of 64 bits, finite float, str, list (a tuple comes back
    as one), dict with str keys. The arrays may be of dtype float64, float32, int64, int32, uint32, uint8 or bool.
    Anything else is a `TypeError` or `ValueError`; for `OutputError` see `commit`.
    """
    _check_value({"header": dict(header)}, "header")
    tensors = {name: _checked_array(name, array) for name, array in sorted(arrays.items())}
    digests = {name: _digest(tensor) for name, tensor in tensors.items()}
    content = safetensors.numpy.save(tensors, metadata={"aevb": _seal(dict(header), digests)})
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        _unseal(_layout(content[8:start], len(content) - start)[0])
    except _Malformed as error:  # never write what could not be read
        raise ValueError(f"header and arrays make {error.args[0]}") from None
    commit(path, lambda file: file.write(content))


def read_container(path: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read back the header and the arrays that `write_container` wrote, or raise.

    The file is read once and closed; the arrays are read-only views of that copy in memory, in order of their names,
    and stay valid whatever happens to the file. `ModelFileError` is raised where it is missing, unreadable, of another
    kind, cut short, altered, or from a later version.
    """
    _check_path(path, ModelFileError)
    try:
        text, entries, body = _read_file(path)
        header, digests = _unseal(text)
        for name in sorted(digests.keys() ^ entries.keys()):
            problem = "no array" if name in digests else "an array without a digest:"
            raise _Malformed(f"{problem} {_shown(name)}")
        arrays = {name: _array(name, entries[name], body, digests[name]) for name in sorted(entries)}
    except _Malformed as error:
        found, advice = (*error.args, "restore it from a copy or write it again")[:2]
        raise ModelFileError(f"{str(path)!r}: expected an intact aevb model file, found {found}; {advice}") from None
    except (OSError, MemoryError, OverflowError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__} {error}".strip()
        advice = "check the path, its permissions and the free memory"
        raise ModelFileError(f"{str(path)!r}: cannot be read: {reason}; {advice}") from error
    return header, arrays


class _Malformed(Exception):
    """What was found in a file and, if there is more to say than the usual, what to do; the reader adds the path."""


def _read_file(path: Path) -> tuple[str, dict[str, _Entry], bytes]:
    """Our metadata, the arrays' places and bytes; each declared size is compared with the file's before it is used."""
    nonblocking = getattr(os, "O_NONBLOCK", 0)  # so that opening a pipe does not wait for its writer
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | nonblocking)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _Malformed("a device, pipe or socket", "give the path of a file")
        if status.st_size == 0:
            raise _Malformed("an empty file")
        start = file.read(32)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > MAX_HEADER_BYTES or 8 + length > status.st_size or start[8:9] != b"{":
            found = next(description for magic, description in _OTHER_FORMATS if start.startswith(magic))
            raise _Malformed(found, "nothing in it was loaded; give a file that aevb wrote")
        file.seek(8)
        size = status.st_size - 8 - length
        text, entries = _layout(file.read(length), size)
        body = file.read(size)
    if len(body) != size:
        raise _Malformed("a file that became shorter while it was read", "try again when nothing writes to it")
    return text, entries, body


def _layout(head: bytes, size: int) -> tuple[str, dict[str, _Entry]]:
    """Parse a safetensors header whose arrays take `size` bytes; return our metadata text and the arrays' places."""
    if len(head) > MAX_HEADER_BYTES:
        raise _Malformed(f"a header of {len(head)} bytes, where {MAX_HEADER_BYTES} is the most")
    header = _parse(head.decode(errors="replace"), "header")
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if head != text + b" " * (-len(text) % 8):
        raise _Malformed("a header that is damaged or comes from another program")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("aevb"), str) or len(metadata) != 1:
        raise _Malformed("a safetensors file without the metadata that aevb writes", "give a file that aevb wrote")
    entries = {name: _entry(name, value) for name, value in header.items()}
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise _Malformed(f"an array {_shown(name)} that overlaps another or leaves a hole before it")
        position = end
    if position != size:
        raise _Malformed(f"{size} bytes of arrays where its header declares {position}")
    return metadata["aevb"], entries


def _entry(name: str, value: Any) -> _Entry:
    label = f"an array {_shown(name)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Malformed(f"{label} without exactly a dtype, a shape and two offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise _Malformed(f"{label} of a dtype that is not one of {', '.join(_DTYPES)}")
    sizes = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if any(type(n) is not int or n < 0 for n in sizes) or len(offsets) != 2 or len(shape) > _MAX_DIMENSIONS:
        raise _Malformed(f"{label} without a shape of at most {_MAX_DIMENSIONS} sizes and two offsets")
    dtype = _DTYPES[code]
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize or offsets[0] % dtype.itemsize:
        raise _Malformed(f"{label} whose offsets do not fit its shape and dtype")
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize >= 1 << 63:  # possible where another size is 0
        raise _Malformed(f"{label} of an impossible shape")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _array(name: str, entry: _Entry, body: bytes, expected: str) -> npt.NDArray[Any]:
    dtype, shape, begin, _ = entry
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, buffer=body, offset=begin)
    if _digest(array) != expected:
        raise _Malformed(f"an array {_shown(name)} that does not match its digest (it was altered)")
    if dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
        raise _Malformed(f"an array {_shown(name)} of booleans that holds other values than 0 and 1")
    return array


def _checked_array(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(name, str) or name == "__metadata__" or name != name.encode(errors="replace").decode():
        raise ValueError(f"an array cannot be named {name!r}: it takes a str of valid Unicode, not '__metadata__'")
    if type(array) is not np.ndarray or array.dtype not in _CODES or array.ndim > _MAX_DIMENSIONS:
        allowed = f"a numpy.ndarray of at most {_MAX_DIMENSIONS} dimensions and of dtype {', '.join(map(str, _CODES))}"
        found = f"{type(array).__name__} of shape {np.shape(array)} and dtype {getattr(array, 'dtype', None)}"
        raise TypeError(f"array {name!r} must be {allowed}; it is a {found}")
    return np.asarray(array, order="C")


def _digest(array: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{_CODES[array.dtype]} {list(array.shape)}\n".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _seal(header: dict[str, Any], digests: dict[str, str]) -> str:
    content = {"container": _VERSION, "header": header, "sha256": digests}
    return _canonical(content | {"header_sha256": hashlib.sha256(_canonical(content).encode()).hexdigest()})


def _unseal(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The caller's header and the arrays' digests, if `text` is what `_seal` gives for them."""
    content = _parse(text, "metadata")
    version, header, digests = (content.get(key) for key in ("container", "header", "sha256"))
    if type(version) is int and version > _VERSION:
        raise _Malformed(
            f"container version {version}; this aevb reads {_VERSION}", "install a later aevb or restore it from a copy"
        )
    if not isinstance(header, dict) or not isinstance(digests, dict) or _seal(header, digests) != text:
        raise _Malformed("metadata that do not match their digest (they were altered)")
    return header, digests


def _parse(text: str, what: str) -> dict[str, Any]:
    """Parse a JSON object, refusing what Python's parser lets through: repeated keys, NaN, huge numbers, deep nests."""
    try:
        if text.count(",") > _MAX_COMMAS:
            raise ValueError(f"it has more than {_MAX_COMMAS} commas")
        value = json.loads(
            text, object_pairs_hook=_pairs, parse_int=_number, parse_float=_number, parse_constant=_number
        )
        _check_value(value, what)
    except RecursionError:
        raise _Malformed(f"a {what} that is nested too deeply") from None
    except ValueError as error:
        raise _Malformed(f"a {what} that is no acceptable JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Malformed(f"a {what} that is no JSON object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _number(text: str) -> int | float:
    if len(text) > 32:  # the longest that `json` writes has 24
        raise ValueError("a number is too long")
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _check_value(value: Any, where: str, depth: int = 0) -> None:
    """Raise unless JSON can hold `value` and give it back; `where` is the nearest key, for the message."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"{_shown(where)} is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{_shown(where)} has the key {key!r}; JSON takes keys of type str only")
            _check_value(item, key, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(item, where, depth + 1)
    elif isinstance(value, float | int):
        if not (-(1 << 63) <= value < 1 << 64 if isinstance(value, int) else math.isfinite(value)):
            raise ValueError(f"{_shown(where)} holds a number that is not finite or exceeds 64 bits")
    elif value is not None and not isinstance(value, str):
        raise TypeError(f"{_shown(where)} holds a {type(value).__name__}, which JSON cannot hold")


def _check_path(path: Path, error: type[AevbError]) -> None:
    try:
        with contextlib.suppress(OSError):
            os.lstat(path)
    except ValueError:
        raise error(f"{str(path)!r}: no file can have this name; choose another") from None


def _shown(name: str) -> str:
    """A key or array name from a file, short and on one printable line."""
    return repr(name if len(name) <= 80 else name[:77] + "...")
