"""The container: what is written comes back exactly, any damage is refused, and a failed write changes nothing."""

import builtins
import errno
import io
import json
import math
import os
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from aevb._container import MAX_HEADER_BYTES, TEMPORARY_PREFIX, _seal, commit, read_container, write_container
from aevb.errors import DataError, ModelFileError, OutputError

HEADER = {
    "format": 1,
    "seed": 2**64 - 1,
    "name": "Gau\u00df \U0001f600 \udcff",
    "rate": -1e-300,
    "sizes": [2, 3],
    "x": None,
}


def arrays() -> dict[str, np.ndarray]:
    return {
        "float64": np.array([[0.0, -0.0, np.nan], [np.inf, 5e-324, 1 / 3]]),
        "float32": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "int64": np.array([-(2**63), 2**63 - 1]),
        "int32": np.array([-1], np.int32),
        "uint32": np.array([2**32 - 1, 7], np.uint32),
        "uint8": np.arange(5, dtype=np.uint8),
        "bool": np.array([True, False, True]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        'µ/" \\\n\x1f\x7f': np.zeros((2, 0), bool),
        "": np.array(7, np.uint8),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small valid file, alone in its directory."""
    path = tmp_path / "model.aevb"
    write_container(path, {"a": 1, "b": "\u00e9"}, {"w": np.array([1.5, 2.5], np.float32), "m": np.array([True])})
    return path


def refused(path: Path, *words: str) -> str:
    """Assert that reading `path` is refused quickly with one line that has all `words`."""
    start = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        read_container(path)
    assert time.process_time() - start < 1.0  # the aim is 0.1 s
    message = str(caught.value)
    assert message.isprintable() and repr(str(path)) in message and ";" in message
    assert len(message) < 600 + len(repr(str(path)))
    assert all(word in message for word in words), message
    return message


def file_of(header: Any, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with this header, an object or a text or bytes."""
    text = header if isinstance(header, str | bytes) else json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    head = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head) if length is None else length) + head + body


def entry(begin: Any, end: Any, shape: Any, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# --- round trip ---------------------------------------------------------------------------------------------------


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_container(path, HEADER, arrays())
    header, loaded = read_container(path)
    assert header == HEADER
    assert list(loaded) == sorted(arrays())
    for name, array in arrays().items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.aligned and not loaded[name].flags.writeable
    assert os.listdir(tmp_path) == ["model"]


def test_nothing_at_all_is_a_model_too(tmp_path: Path) -> None:
    write_container(tmp_path / "model", {}, {})
    assert read_container(tmp_path / "model") == ({}, {})


def test_layout_of_the_array_in_memory_does_not_matter(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for array in (base.T, np.asfortranarray(base), base[::-2, 1::2], base[1], np.broadcast_to(base[0], (3, 6))):
        write_container(tmp_path / "a", {}, {"x": array})
        write_container(tmp_path / "b", {}, {"x": array.copy(order="C")})
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        np.testing.assert_array_equal(read_container(tmp_path / "a")[1]["x"], array)


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    write_container(tmp_path / "a", HEADER, arrays())
    write_container(tmp_path / "b", dict(reversed(HEADER.items())), dict(reversed(arrays().items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_container(tmp_path / "c", HEADER | {"format": 2}, arrays())
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path, model: Path) -> None:
    script = """
        import sys, pathlib, numpy as np
        from aevb._container import write_container
        write_container(pathlib.Path(sys.argv[1]), {"b": "\\u00e9", "a": 1},
                        {"m": np.array([True]), "w": np.array([1.5, 2.5], np.float32)})
    """
    for seed in ("1", "2"):
        run_python(script, tmp_path / seed, PYTHONHASHSEED=seed)
        assert (tmp_path / seed).read_bytes() == model.read_bytes()


def test_other_tools_can_read_it(model: Path) -> None:
    loaded = safetensors.numpy.load_file(model)
    np.testing.assert_array_equal(loaded["w"], np.array([1.5, 2.5], np.float32))


def test_a_tuple_comes_back_as_a_list(tmp_path: Path) -> None:
    write_container(tmp_path / "m", {"a": (1, (2,))}, {})
    assert read_container(tmp_path / "m")[0] == {"a": [1, [2]]}


def test_arrays_outlive_the_file(model: Path) -> None:
    _, loaded = read_container(model)
    with open(model, "r+b") as file:  # in place, which would show through a memory map
        file.write(b"\xff" * model.stat().st_size)
    model.unlink()
    np.testing.assert_array_equal(loaded["w"], [1.5, 2.5])


def test_reading_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_container(path, {}, {"x": np.zeros(4_000_000), "b": np.zeros(1_000_000, bool)})
    tracemalloc.start()
    try:
        loaded = read_container(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(loaded) == 2 and peak < path.stat().st_size + 2**20


# --- what cannot be written -----------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"a": math.nan}, ValueError),
        ({"a": [-math.inf]}, ValueError),
        ({"a": 2**64}, ValueError),
        ({"a": -(10**400)}, ValueError),
        ({"a": nested(40)}, ValueError),
        ({"a": "x" * MAX_HEADER_BYTES}, ValueError),
        ({"a": [0] * 500_002}, ValueError),
        ({1: "a"}, TypeError),
        ({"a": {None: 1}}, TypeError),
        ({"a": {1, 2}}, TypeError),
        ({"a": b"x"}, TypeError),
        ({"a": np.int64(1)}, TypeError),
        ({"a": np.zeros(1)}, TypeError),
    ],
)
def test_headers_that_json_cannot_give_back_are_refused(tmp_path: Path, header: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        write_container(tmp_path / "m", header, {})
    assert os.listdir(tmp_path) == []


def test_every_header_that_is_written_can_be_read(tmp_path: Path) -> None:
    written = 0
    for depth in range(40):
        try:
            write_container(tmp_path / "m", {"a": nested(depth)}, {})
        except ValueError:
            break
        assert read_container(tmp_path / "m")[0] == {"a": nested(depth)}
        written += 1
    assert 20 < written < 40
    write_container(tmp_path / "m", {"a": "x" * (MAX_HEADER_BYTES - 300)}, {})
    read_container(tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "array", "error"),
    [
        ("x", np.array([object()]), TypeError),
        ("x", np.array(["a"]), TypeError),
        ("x", np.zeros(2, np.float16), TypeError),
        ("x", np.zeros(2, ">f4"), TypeError),
        ("x", np.zeros(2, complex), TypeError),
        ("x", np.ma.zeros(2), TypeError),
        ("x", np.float32(1), TypeError),
        ("x", [1.0], TypeError),
        ("x", np.zeros((1,) * 33), TypeError),
        ("__metadata__", np.zeros(2), ValueError),
        ("\ud800", np.zeros(2), ValueError),
        (1, np.zeros(2), ValueError),
    ],
)
def test_arrays_that_would_not_come_back_are_refused(
    tmp_path: Path, name: Any, array: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="array"):
        write_container(tmp_path / "m", {}, {name: array})
    assert os.listdir(tmp_path) == []


# --- damage ---------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_detected(model: Path) -> None:
    content = model.read_bytes()
    assert 400 < len(content) < 2000
    assert content[8 : 8 + content[0] + 256 * content[1]].endswith(b" "), "the padding takes part in this test"
    missed = []
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        model.write_bytes(damaged)
        try:
            read_container(model)
        except ModelFileError:
            continue
        missed.append(bit)
    assert missed == []
    model.write_bytes(content)
    read_container(model)


def test_safetensors_alone_misses_flipped_bits(model: Path) -> None:
    """Negative control: the test above would fail for a reader without digests."""
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    safetensors.numpy.load(bytes(content))


def test_every_cut_is_detected(model: Path) -> None:
    content = model.read_bytes()
    for length in range(len(content)):
        model.write_bytes(content[:length])
        refused(model)


@pytest.mark.parametrize("tail", [b"\0", b" ", b"\n", b"\0" * 4096])
def test_appended_bytes_are_detected(model: Path, tail: bytes) -> None:
    model.write_bytes(model.read_bytes() + tail)
    refused(model, "bytes of arrays where its header declares")


def test_zeroed_blocks_are_detected(model: Path) -> None:
    content = model.read_bytes()
    for start in range(0, len(content), 16):
        model.write_bytes(content[:start] + bytes(len(content) - start))
        refused(model)
    model.write_bytes(bytes(len(content)))
    refused(model, "zeros")


def test_a_changed_array_is_named(model: Path) -> None:
    content = model.read_bytes()
    for position, name in ((-2, "w"), (-1, "m")):
        damaged = bytearray(content)
        damaged[position] ^= 1
        model.write_bytes(damaged)
        refused(model, f"array '{name}'", "digest")


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    """Give the file other arrays below the metadata that it has, as an attentive editor could."""
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    path.write_bytes(safetensors.numpy.save(change(safetensors.numpy.load(content)), metadata=metadata))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"w": a["w"]}, ("no array 'm'",)),
        (lambda a: a | {"extra": a["m"]}, ("without a digest", "'extra'")),
        (lambda a: {"m": a["m"], "v": a["w"]}, ("'v'",)),
        (lambda a: a | {"w": a["w"].view(np.int32)}, ("array 'w'", "digest")),
        (lambda a: a | {"w": a["w"].reshape(2, 1)}, ("array 'w'", "digest")),
        (lambda a: a | {"w": a["w"][::-1].copy()}, ("array 'w'", "digest")),
    ],
)
def test_missing_extra_and_changed_arrays(model: Path, change: Any, words: tuple[str, ...]) -> None:
    rewrite(model, lambda a: a)
    read_container(model)  # negative control: the rewriting itself is harmless
    rewrite(model, change)
    refused(model, *words)


# --- hostile files --------------------------------------------------------------------------------------------------

DEEP = 100_000
HUGE = "9" * 100_000
META = {"aevb": _seal({}, {})}
U8 = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
MALFORMED: dict[str, tuple[bytes, str]] = {
    "length 0": (file_of("", b"xyz"), "zeros"),
    "length 1": (file_of("{       ", length=1), "JSON"),
    "length beyond the file": (file_of({}, length=64), "no complete safetensors header"),
    "length beyond the limit": (file_of({}, b" " * (MAX_HEADER_BYTES + 8), length=MAX_HEADER_BYTES + 8), "no complete"),
    "length 2**63": (file_of({}, length=2**63), "no complete safetensors header"),
    "length 2**64-1": (file_of({}, length=2**64 - 1), "no complete safetensors header"),
    "leading space": (file_of(" {}"), "no complete safetensors header"),
    "leading byte order mark": (file_of("\ufeff{}"), "no complete safetensors header"),
    "not UTF-8": (file_of(b'{"\xff":1}'), "damaged"),
    "encoded surrogate": (file_of(b'{"\xed\xa0\x80":1}'), "damaged"),
    "escaped surrogate": (file_of('{"\\ud800":1}'), "damaged"),
    "not JSON": (file_of("{nonsense}"), "JSON"),
    "single quotes": (file_of("{'a':1}"), "JSON"),
    "two objects": (file_of("{}{}"), "JSON"),
    "unclosed": (file_of("{"), "JSON"),
    "control character": (file_of('{"a\n":1}'), "JSON"),
    "NUL after the header": (file_of(b"{}\0\0\0\0\0\0"), "JSON"),
    "repeated name": (
        file_of('{"a":' + U8 + ',"a":' + U8 + "}", b"x"),
        "twice",
    ),
    "repeated inner key": (file_of('{"a":{"dtype":"F32",' + U8[1:] + "}", b"x"), "twice"),
    "repeated metadata": (file_of('{"__metadata__":{},"__metadata__":{}}'), "twice"),
    "NaN": (file_of('{"a":NaN}'), "not finite"),
    "Infinity": (file_of('{"a":-Infinity}'), "not finite"),
    "1e400": (file_of('{"a":1e400}'), "not finite"),
    "huge integer": (file_of('{"a":' + HUGE + "}"), "too long"),
    "huge fraction": (file_of('{"a":0.' + HUGE + "}"), "too long"),
    "65 bits": (file_of('{"a":' + str(2**64) + "}"), "64 bits"),
    "deep lists": (file_of('{"a":' + "[" * DEEP + "]" * DEEP + "}"), "nested"),
    "deep objects": (file_of('{"a":' * DEEP + "1" + "}" * DEEP), "nested"),
    "deep and unclosed": (file_of('{"a":' + "[" * DEEP), "nested"),
    "somewhat deep": (file_of('{"a":' + "[" * 40 + "]" * 40 + "}"), "nested"),
    "long list": (file_of('{"a":[' + "0," * 600_000 + "0]}"), "commas"),
    "many objects": (file_of('{"a":[' + "{}," * 600_000 + "{}]}"), "commas"),
    "nearly too long a list": (file_of('{"a":[' + "0," * 49_999 + "0]}"), "metadata"),
    "too much padding": (file_of(json.dumps({"__metadata__": META}, separators=(",", ":")) + " " * 8), "damaged"),
    "no padding": (b"\3\0\0\0\0\0\0\0{ }", "damaged"),
    "no metadata": (file_of({}), "without the metadata"),
    "metadata is a list": (file_of({"__metadata__": []}), "without the metadata"),
    "foreign metadata": (file_of({"__metadata__": {"format": "pt"}}), "without the metadata"),
    "further metadata": (file_of({"__metadata__": {**META, "x": "y"}}), "without the metadata"),
    "metadata not text": (file_of({"__metadata__": {"aevb": {}}}), "without the metadata"),
}
BAD_ENTRIES: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "not an object": ({"a": 1}, b"", "without exactly"),
    "missing key": ({"a": {"dtype": "U8", "shape": [1]}}, b"x", "without exactly"),
    "further key": ({"a": entry(0, 1, [1]) | {"x": 1}}, b"x", "without exactly"),
    "float16": ({"a": entry(0, 2, [1], "F16")}, b"xx", "dtype"),
    "unknown dtype": ({"a": entry(0, 2, [1], "O")}, b"xx", "dtype"),
    "dtype of another type": ({"a": entry(0, 1, [1], ["U8"])}, b"x", "dtype"),
    "shape is no list": ({"a": entry(0, 1, 1)}, b"x", "shape"),
    "offsets are no list": ({"a": {"dtype": "U8", "shape": [1], "data_offsets": "01"}}, b"x", "offsets"),
    "negative size": ({"a": entry(0, 1, [-1, -1])}, b"x", "sizes"),
    "size is a float": ({"a": entry(0, 1, [1.0])}, b"x", "sizes"),
    "size is a bool": ({"a": entry(0, 1, [True])}, b"x", "sizes"),
    "size is text": ({"a": entry(0, 1, ["1"])}, b"x", "sizes"),
    "33 dimensions": ({"a": entry(0, 1, [1] * 33)}, b"x", "32 sizes"),
    "many huge dimensions": ({"a": entry(0, 1, [2**63] * 40_000)}, b"x", "32 sizes"),
    "one offset": ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"x", "two offsets"),
    "three offsets": ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}}, b"x", "two offsets"),
    "negative offset": ({"a": entry(-1, 0, [1])}, b"x", "sizes"),
    "reversed offsets": ({"a": entry(1, 0, [1])}, b"x", "do not fit"),
    "too few bytes": ({"a": entry(0, 1, [1], "F32")}, b"x", "do not fit"),
    "2**62 elements": ({"a": entry(0, 8, [2**62], "F64")}, b"x" * 8, "do not fit"),
    "product wraps to 0": ({"a": entry(0, 0, [2**32, 2**32])}, b"", "do not fit"),
    "declared 2**50 bytes": ({"a": entry(0, 2**50, [2**50])}, b"x", "declares"),
    "end of 2**64-1": ({"a": entry(0, 2**64 - 1, [2**64 - 1])}, b"x", "impossible"),
    "vast but empty": ({"a": entry(0, 0, [0, 2**62], "F64")}, b"", "impossible"),
    "past the end": ({"a": entry(0, 2, [2])}, b"x", "declares 2"),
    "bytes left over": ({"a": entry(0, 1, [1])}, b"xy", "declares 1"),
    "hole at the start": ({"a": entry(1, 2, [1])}, b"xy", "hole"),
    "hole in the middle": ({"a": entry(0, 1, [1]), "b": entry(2, 3, [1])}, b"xyz", "hole"),
    "overlap": ({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, b"xyz", "overlaps"),
    "same place twice": ({"a": entry(0, 1, [1]), "b": entry(0, 1, [1])}, b"x", "overlaps"),
    "misaligned": ({"a": entry(0, 1, [1]), "b": entry(1, 5, [1], "F32")}, b"xyzab", "do not fit"),
    "no digest": ({"a": entry(0, 1, [1])}, b"x", "without a digest"),
    "terrible name": ({"\x1b[31m\u202e" * 1000: entry(0, 1, [1], "F9")}, b"x", "dtype"),
}
MALFORMED |= {
    name: (file_of({"__metadata__": META} | entries, body), word) for name, (entries, body, word) in BAD_ENTRIES.items()
}


def sealed(text: str) -> bytes:
    return file_of({"__metadata__": {"aevb": text}})


MALFORMED |= {
    "inner: not JSON": (sealed("x"), "JSON"),
    "inner: list": (sealed("[]"), "no JSON object"),
    "inner: empty": (sealed("{}"), "digest"),
    "inner: repeated key": (sealed('{"container":1,"container":1}'), "twice"),
    "inner: NaN": (sealed('{"container":NaN}'), "not finite"),
    "inner: huge integer": (sealed('{"container":' + HUGE + "}"), "too long"),
    "inner: deep": (sealed("[" * DEEP), "nested"),
    "inner: later version": (sealed('{"container":2}'), "later aevb"),
    "inner: no version": (sealed(META["aevb"].replace("container", "contains")), "digest"),
    "inner: version true": (sealed(META["aevb"].replace('"container":1', '"container":true')), "digest"),
    "inner: space": (sealed(META["aevb"] + " "), "digest"),
    "inner: further key": (sealed(META["aevb"][:-1] + ',"x":1}'), "digest"),
    "inner: header a list": (sealed(_seal([], {})), "digest"),  # type: ignore[arg-type]
    "inner: digests a list": (sealed(_seal({}, [])), "digest"),  # type: ignore[arg-type]
    "inner: a digest is a number": (
        file_of({"__metadata__": {"aevb": _seal({}, {"a": 1})}, "a": entry(0, 1, [1])}, b"x"),  # type: ignore[dict-item]
        "digest",
    ),
    "inner: missing array": (sealed(_seal({}, {"a": "0"})), "no array 'a'"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_are_refused(tmp_path: Path, case: str) -> None:
    content, word = MALFORMED[case]
    path = tmp_path / "model"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            read_container(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(content) + 2**26
    refused(path, word)


def test_the_builders_of_malformed_files_can_build_a_good_one(tmp_path: Path) -> None:
    """Negative control: what is refused above is refused for the fault named there."""
    (tmp_path / "m").write_bytes(sealed(_seal({"a": 1}, {})))
    assert read_container(tmp_path / "m") == ({"a": 1}, {})


def test_a_boolean_of_another_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_container(path, {}, {"x": np.array([1, 2], np.uint8).view(bool)})  # a valid digest over an invalid boolean
    refused(path, "booleans")


PICKLE = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (PICKLE, "pickle"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
        (b"\x93NUMPY\x01\x00" + b" " * 60, ".npy"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "another kind of file"),
        (b'{"config": 1}', "another kind of file"),
        (b"\x1f\x8b", "another kind of file"),
        (b"a", "another kind of file"),
        (b"", "empty file"),
        (bytes(1000), "zeros"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "m").write_bytes(content)
    refused(tmp_path / "m", word)


def test_reading_opens_nothing_else_and_runs_nothing() -> None:
    script = """
        import sys, pathlib, tempfile, os, numpy as np
        from aevb._container import read_container, write_container
        from aevb.errors import ModelFileError
        folder = pathlib.Path(tempfile.mkdtemp())
        good, bad = folder / "good", folder / "bad"
        write_container(good, {"a": 1}, {"x": np.zeros(3)})
        bad.write_bytes(%r)
        read_container(good)
        events, watching = [], True
        def hook(event, args):
            if watching and not event.startswith(("object.", "os.listdir", "code.")):
                events.append((event, str(args[0]) if args else ""))
        sys.addaudithook(hook)
        read_container(good)
        try:
            read_container(bad)
        except ModelFileError:
            pass
        watching = False
        os.unlink(good), os.unlink(bad), folder.rmdir()
        assert {name for name, _ in events} <= {"open"}, events
        assert {path for _, path in events} == {str(good), str(bad)}, events
        assert "pickle" not in vars(sys.modules["aevb._container"])
    """
    run_python(script % PICKLE)


def test_missing_file_and_directories(tmp_path: Path, model: Path) -> None:
    refused(tmp_path / "none", "No such file")
    refused(tmp_path / "none" / "m", "No such file")
    refused(tmp_path, "directory")
    refused(model / "m", "Not a directory")
    refused(tmp_path / ("x" * 300), "too long")
    refused(tmp_path / "a\0b", "no file can have this name")
    refused(tmp_path / "two\nlines", "No such file")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX special files")
def test_special_files_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "pipe")
    refused(Path("/dev/zero"), "device")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the name of a socket has at most 107 bytes
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        refused(tmp_path / "s")


def test_unreadable_file(model: Path) -> None:
    model.chmod(0)
    if os.access(model, os.R_OK):
        pytest.skip("permissions do not bind this user, who is the super-user or on another kind of system")
    refused(model, "Permission denied")


@pytest.mark.parametrize(
    "failure", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "I/O error")]
)
def test_errors_of_reading(model: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError) -> None:
    def fail(*_: object, **__: object) -> int:
        raise failure

    monkeypatch.setattr(os, "open", fail)
    refused(model, failure.strerror)


def test_a_file_that_shrinks_while_it_is_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        status = list(genuine(descriptor))
        status[stat.ST_SIZE] += 4
        return os.stat_result(status)

    write_container(model, {}, {"x": np.zeros(8, np.uint8)})
    model.write_bytes(model.read_bytes()[:-4])
    monkeypatch.setattr(os, "fstat", longer)
    refused(model, "shorter")


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_vast_sparse_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(file_of({"__metadata__": META}))
    os.truncate(path, 2**43)
    refused(path, "bytes of arrays where its header declares 0")
    path.write_bytes(b"")
    os.truncate(path, 2**43)
    refused(path, "zeros")


def test_not_enough_memory(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        raise MemoryError

    monkeypatch.setattr(os, "open", fail)
    refused(model, "MemoryError")


def test_random_damage(model: Path) -> None:
    """Several bytes at once: inserted, removed, repeated, replaced. Only `ModelFileError`, and never a wrong answer."""
    rng = np.random.default_rng(20240229)
    content = model.read_bytes()
    for _ in range(3000):
        start, end = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        middle = rng.choice(np.frombuffer(b'{}[],:"0123456789e-\\ \0\xff', np.uint8), int(rng.integers(0, 9))).tobytes()
        damaged = content[:start] + middle * int(rng.integers(0, 3)) + content[end:]
        if damaged != content:
            model.write_bytes(damaged)
            refused(model)


# --- commit ---------------------------------------------------------------------------------------------------------


def run_python(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    import aevb

    environment = {**os.environ, "PYTHONPATH": str(Path(aevb.__path__[0]).parent), **environment}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def hello(file: Any) -> None:
    file.write(b"hello ")
    file.write(b"world")


def unchanged(path: Path, content: bytes) -> None:
    assert path.read_bytes() == content and os.listdir(path.parent) == [path.name]


def test_commit_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    commit(path, hello)
    unchanged(path, b"hello world")
    commit(path, lambda file: file.write(b"other"))
    unchanged(path, b"other")


def test_commit_honours_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        commit(tmp_path / "file", hello)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_order_of_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data reach the disk before the name does, the name before `commit` returns; the old file is whole until then."""
    path = tmp_path / "file"
    commit(path, lambda file: file.write(b"old"))
    events: list[str] = []
    genuine_fsync, genuine_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        assert folder or os.fstat(descriptor).st_size == len(b"hello world")
        assert path.read_bytes() == (b"hello world" if folder else b"old")
        events.append("directory" if folder else "file")
        genuine_fsync(descriptor)

    def replace(source: Path, target: Path) -> None:
        assert source.parent == path.parent and source.name.startswith(f"{TEMPORARY_PREFIX}{os.getpid()}-")
        events.append("replace")
        genuine_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    commit(path, hello)
    assert events == ["file", "replace", "directory"]


def test_an_interrupted_write_is_not_seen(tmp_path: Path) -> None:
    """While the new content is being written, the old one is what readers find."""
    path = tmp_path / "file"
    commit(path, lambda file: file.write(b"old"))

    def write(file: Any) -> None:
        file.write(b"x" * 100_000)
        assert path.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == 2

    commit(path, write)
    unchanged(path, b"x" * 100_000)


FAILURES = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied"),
    KeyboardInterrupt(),
    SystemExit(1),
    MemoryError(),
]


class FailingFile(io.FileIO):
    """A file whose n-th raw write fails, after a part of the bytes."""

    remaining = 0
    failure: BaseException = OSError()

    def write(self, data: Any, /) -> int:
        FailingFile.remaining -= 1
        if FailingFile.remaining < 0:
            super().write(bytes(data)[:3])
            raise FailingFile.failure
        return super().write(data)


def inject(monkeypatch: pytest.MonkeyPatch, point: str, failure: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    if point.startswith("write"):
        FailingFile.remaining, FailingFile.failure = int(point[5:]), failure

        def opened(path: Path, mode: str) -> Any:
            assert mode == "xb"
            return io.BufferedWriter(FailingFile(path, mode), 16)

        monkeypatch.setattr(builtins, "open", opened)
    else:
        module, name = {"open": (builtins, "open")}.get(point, (os, "open" if point == "opendir" else point))
        monkeypatch.setattr(module, name, fail)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: getattr(f, "strerror", None) or type(f).__name__)
@pytest.mark.parametrize("point", ["opendir", "open", "write0", "write1", "write2", "fsync", "replace"])
def test_a_failure_at_any_point_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, failure: BaseException
) -> None:
    path = tmp_path / "file"
    commit(path, lambda file: file.write(b"old"))

    def write(file: Any) -> None:
        for _ in range(3):
            file.write(b"0123456789abcdefghij")

    with monkeypatch.context() as patch:
        inject(patch, point, failure)
        expected = OutputError if isinstance(failure, OSError) else type(failure)
        with pytest.raises(expected) as caught:
            commit(path, write)
    if isinstance(caught.value, OutputError) and isinstance(failure, OSError):
        message = str(caught.value)
        assert message.isprintable() and repr(str(path)) in message and failure.strerror in message
        assert "nothing there was changed" in message
    unchanged(path, b"old")
    commit(path, write)  # negative control: without the fault it works
    unchanged(path, b"0123456789abcdefghij" * 3)


def test_a_naive_writer_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the injected fault does destroy a file that is written in place."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    FailingFile.remaining, FailingFile.failure = 0, FAILURES[0]
    with pytest.raises(OSError, match="space"), FailingFile(path, "wb") as file:
        file.write(b"hello world")
    assert path.read_bytes() != b"old"


@pytest.mark.skipif(os.name != "posix", reason="directories are flushed on POSIX only")
@pytest.mark.parametrize(("code", "fatal"), [(errno.EIO, True), (errno.ENOSPC, True), (errno.EINVAL, False)])
def test_failing_flush_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, fatal: bool
) -> None:
    path = tmp_path / "file"
    commit(path, lambda file: file.write(b"old"))
    genuine = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, "broken")
        genuine(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if fatal:
        with pytest.raises(OutputError, match="the new file is in place"):
            commit(path, hello)
    else:
        commit(path, hello)  # the file system has no such operation
    unchanged(path, b"hello world")


def test_einval_from_the_flush_of_the_file_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="nothing there was changed"):
        commit(tmp_path / "file", hello)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("mine"), DataError("mine"), OutputError("mine")])
def test_exceptions_of_the_writer_pass_through(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "file"
    commit(path, lambda file: file.write(b"old"))

    def write(file: Any) -> None:
        file.write(b"x" * 1_000_000)
        raise failure

    with pytest.raises(type(failure)) as caught:
        commit(path, write)
    assert caught.value is failure
    unchanged(path, b"old")


def test_a_failed_write_leaks_no_descriptor(tmp_path: Path) -> None:
    def fail(file: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    first = os.dup(0)
    os.close(first)
    for _ in range(20):
        with pytest.raises(OutputError):
            commit(tmp_path / "file", fail)
    last = os.dup(0)
    os.close(last)
    assert first == last


def test_impossible_places(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    cases = {
        tmp_path / "file" / "m": "Not a directory",
        tmp_path / "none" / "m": "No such file or directory",
        tmp_path / "folder": "directory",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "a\0b": "no file can have this name",
    }
    for path, word in cases.items():
        with pytest.raises(OutputError, match=word) as caught:
            commit(path, hello)
        assert str(caught.value).isprintable() and caught.value.exit_code == 6
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"] and os.listdir(tmp_path / "folder") == ["inside"]


def test_unwritable_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("permissions do not bind this user, who is the super-user or on another kind of system")
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            commit(tmp_path / "file", hello)
    finally:
        tmp_path.chmod(0o755)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, which nobody can write to")
def test_directory_that_takes_no_files() -> None:
    with pytest.raises(OutputError, match="nothing there was changed"):
        commit(Path("/proc/self/model"), hello)


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_the_operating_system_stops_the_write(tmp_path: Path, model: Path) -> None:
    """A real EFBIG, in another process, since such a limit cannot be raised again."""
    script = """
        import resource, signal, sys, pathlib, numpy as np
        from aevb._container import write_container
        from aevb.errors import OutputError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_container(pathlib.Path(sys.argv[1]), {}, {"x": np.zeros(100_000)})
        except OutputError as error:
            assert "File too large" in str(error), error
        else:
            raise SystemExit("nothing was raised")
    """
    before = model.read_bytes()
    run_python(script, model)
    unchanged(model, before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a tmpfs of one's own")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real ENOSPC on a file system of 64 kB that lives in a mount namespace of the other process."""
    script = """
        import os, sys, pathlib, numpy as np
        from aevb._container import read_container, write_container
        from aevb.errors import OutputError
        path = pathlib.Path(sys.argv[1]) / "model"
        write_container(path, {"a": 1}, {"x": np.zeros(1000)})
        try:
            write_container(path, {}, {"x": np.zeros(20_000)})
        except OutputError as error:
            assert "No space left" in str(error), error
        else:
            raise SystemExit("nothing was raised")
        assert read_container(path)[0] == {"a": 1} and os.listdir(path.parent) == ["model"]
    """
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"', str(tmp_path)]
    try:
        possible = subprocess.run([*mount, "true"], capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this machine allows no mount namespaces")
    import aevb

    environment = {**os.environ, "PYTHONPATH": str(Path(aevb.__path__[0]).parent)}
    command = [*mount, sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
@pytest.mark.parametrize("name", [b"\xff\xfe", b"two\nlines \x1b[31m", "é 😀".encode(), b"-", b"x" * 255])
def test_awkward_path_names(tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    path = folder / os.fsdecode(name)
    write_container(path, {"path": str(path)}, {"x": np.zeros(2)})
    assert read_container(path)[0] == {"path": str(path)}
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(path)

    def fail(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError) as caught:
        commit(path, fail)
    assert str(caught.value).isprintable()
    unchanged(path, content[:-1])


def test_a_path_that_no_file_system_can_encode(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no file can have this name"):
        commit(tmp_path / "\ud800", hello)
    refused(tmp_path / "\ud800", "no file can have this name")


def test_relative_paths_and_symbolic_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commit(Path("file"), hello)
    assert (tmp_path / "file").read_bytes() == b"hello world"
    os.symlink("file", "link")
    commit(Path("link"), lambda file: file.write(b"new"))
    assert not Path("link").is_symlink() and (tmp_path / "file").read_bytes() == b"hello world"
