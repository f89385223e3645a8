"""Files of every kind, sound and damaged: the right rows or a one-line DataError, never anything else."""

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from aevb.data import load, load_test
from aevb.errors import DataError

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 3, 4), dtype=np.uint8)


def refused(source, *words):
    with pytest.raises(DataError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def idx(array, code=0x08, shape=None):
    shape = array.shape if shape is None else shape
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(compressed=False, **arrays):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


# Names and paths


@pytest.mark.parametrize("name", ["mnits", "MNIST", "nmist", "minst"])
def test_misspelt_name_gets_a_suggestion(name):
    refused(name, f"unknown data set {name!r}", "did you mean 'mnist'?", "the names are: mnist", ".npz .csv or IDX")


def test_unknown_name_and_missing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in refused("zzz", "unknown data set", "mnist")
    refused("", "unknown data set")
    refused("x.npy", "no such file: 'x.npy'")
    refused(tmp_path / "deep" / "x", "no such file")
    write(tmp_path, "plain", b"")
    refused(tmp_path / "plain" / "x.npy", "no such file")
    refused("a\nb.npy", r"a\nb.npy")
    refused("a\0b", "cannot be read")
    refused("x" * 5000 + ".npy", "cannot be read")
    assert not os.path.exists("mnist")


def test_directory_pipe_and_suffix(tmp_path):
    refused(tmp_path, "is a directory")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "not a regular file")
    refused(write(tmp_path, "x.png", b"\x89PNG\r\n"), "suffix '.png'", ".npy, .npz, .csv and IDX")
    refused(write(tmp_path, "x.csv.gz", gzip.compress(b"a,b\n1,2\n")), "gzipped", "IDX")
    refused(write(tmp_path, "x.gz", b"\x1f\x8b junk"), "gzipped")
    refused(write(tmp_path, "x", b""), "suffix ''")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("suffix", ["npy", "npz", "csv", "idx"])
def test_no_permission(tmp_path, suffix):
    path = write(tmp_path, f"x.{suffix}", b"1")
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.parametrize("suffix", ["npy", "idx", "csv"])
def test_read_errors_of_the_system_are_data_errors(tmp_path, suffix, monkeypatch):
    path = write(tmp_path, f"x.{suffix}", b"1")

    def fail(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", fail)
    refused(path, "Permission denied", str(path))


# NumPy files


@pytest.mark.parametrize("array", [IMAGES, np.asfortranarray(IMAGES), IMAGES.astype(">f8"), IMAGES[::-1], IMAGES > 9])
def test_npy_is_read_exactly(tmp_path, array):
    path = write(tmp_path, "x.NPY", npy(array))
    for source in (path, str(path)):
        loaded = load(source)
        np.testing.assert_array_equal(loaded.rows, array.reshape(5, 12))
        assert loaded.event_shape == (3, 4) and loaded.name == str(path) and loaded.labels is None
    assert load_test(path) is None


def test_npy_that_is_no_array_of_numbers_is_refused(tmp_path):
    for array, word in [
        (np.array([[{}]]), "object"),
        (np.array([["a"]]), "strings"),
        (np.zeros((2, 2), complex), "complex"),
        (np.zeros((2, 2), [("a", "f4")]), "structured"),
        (np.zeros(3), "reshape"),
        (np.zeros((0, 3)), "0 rows"),
        (np.zeros((2, 0)), "0 columns"),
        (np.full((2, 2), np.nan), "4 NaN"),
    ]:
        refused(write(tmp_path, "x.npy", npy(array)), word, "x.npy")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("wrap", [lambda b: b, lambda b: npy(np.zeros(1, object))[:128] + b])
def test_pickles_are_never_opened(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    content = wrap(pickle.dumps(Evil()))
    write(tmp_path, "x.npy", content)
    refused("x.npy")
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    refused("x.npz")
    assert not os.path.exists("owned")


def test_npy_with_false_sizes(tmp_path):
    content = npy(IMAGES)
    refused(write(tmp_path, "x.npy", content + b"\0"), "declares shape (5, 3, 4)")
    for shape in [b"(5, 3, 9)", b"(-5,3, 4)", b"(5, 3,-4)"]:
        refused(write(tmp_path, "x.npy", content.replace(b"(5, 3, 4)", shape)), "declares shape")
    huge = content.replace(b"(5, 3, 4), }" + b" " * 20, b"(2000000000, 300000000, 4), }   ")
    assert huge != content
    tracemalloc.start()
    refused(write(tmp_path, "x.npy", huge), "declares shape (2000000000")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    refused(write(tmp_path, "x.npy", b"\x93NUMPY\x03\x00" + content[8:]), "version")


def test_npz_layouts(tmp_path):
    one = load(write(tmp_path, "one.npz", npz(anything=IMAGES)))
    assert one.labels is None and one.event_shape == (3, 4)
    labels = np.arange(5)
    for key in (labels, labels[:, None], labels.astype(">i8"), np.array(list("abcde"))):
        pair = load(write(tmp_path, "two.npz", npz(compressed=True, x=IMAGES, y=key)))
        np.testing.assert_array_equal(pair.labels, key.ravel())
        assert pair.labels.dtype.isnative
    assert load_test(tmp_path / "two.npz") is None
    path = write(tmp_path, "keras.npz", npz(x_test=IMAGES[:2], x_train=IMAGES, y_train=labels, y_test=labels[:2]))
    np.testing.assert_array_equal(load(path).rows, IMAGES.reshape(5, 12))
    np.testing.assert_array_equal(load(path).labels, labels)
    test = load_test(path)
    np.testing.assert_array_equal(test.rows, IMAGES[:2].reshape(2, 12))
    np.testing.assert_array_equal(test.labels, labels[:2])
    assert test.name != load(path).name


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"a": IMAGES, "b": IMAGES},
        {"x": IMAGES, "z": IMAGES},
        {"x_test": IMAGES, "y_train": IMAGES},
        {"x_train": IMAGES, "y_test": IMAGES},
        {"x_train": IMAGES, "x": IMAGES},
    ],
)
def test_npz_with_other_keys(tmp_path, arrays):
    words = [repr(key) for key in arrays] or ["(none)"]
    refused(write(tmp_path, "x.npz", npz(**arrays)), *words, "expected exactly one array", "x_train")


def test_npz_with_bad_members(tmp_path):
    refused(write(tmp_path, "x.npz", npz(x=IMAGES, y=np.arange(4))), "5 rows", "(4,)")
    refused(write(tmp_path, "x.npz", npz(x=IMAGES, y=np.zeros(5))), "float64")
    refused(write(tmp_path, "x.npz", npz(x=np.zeros((2, 2), object))), "x.npz[x]", "object")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", npy(IMAGES))
        archive.writestr("x.npy", npy(IMAGES))
    refused(tmp_path / "x.npz", "holds the arrays")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.txt", "hello")
    refused(tmp_path / "x.npz", "damaged")


# IDX


@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
@pytest.mark.parametrize("name", ["a-ubyte", "a.idx", "a", "a.IDX3", "a-ubyte.gz", "b.gz"])
def test_idx_of_every_type(tmp_path, code, dtype, name):
    array = (IMAGES // 2).astype(dtype)
    content = idx(array, code)
    path = write(tmp_path, name, gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    loaded = load(path)
    np.testing.assert_array_equal(loaded.rows, array.reshape(5, 12))
    assert loaded.event_shape == (3, 4) and loaded.labels is None and load_test(path) is None


@pytest.mark.parametrize("images", ["t-images-idx3-ubyte", "t-images-idx3-ubyte.gz", "t-images.idx3-ubyte"])
@pytest.mark.parametrize("zip_labels", [False, True])
def test_idx_labels_beside(tmp_path, images, zip_labels):
    content = idx(IMAGES)
    path = write(tmp_path, images, gzip.compress(content) if images.endswith("gz") else content)
    labels = images.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    content = idx(np.arange(5, dtype=np.uint8))
    beside = write(tmp_path, labels + ".gz" * zip_labels, gzip.compress(content) if zip_labels else content)
    np.testing.assert_array_equal(load(path).labels, np.arange(5))
    content = idx(np.arange(4, dtype=np.uint8))
    beside.write_bytes(gzip.compress(content) if zip_labels else content)
    refused(path, "5 rows", "(4,)")
    beside.write_bytes(content[:-1])
    refused(path, beside.name)


def test_idx_with_false_sizes(tmp_path):
    content = idx(IMAGES)
    refused(write(tmp_path, "a-ubyte", content + b"\0"), "declares the shape (5, 3, 4)")
    refused(write(tmp_path, "a-ubyte.gz", gzip.compress(content + b"\0")), "declares the shape", "more")
    refused(write(tmp_path, "a-ubyte.gz", gzip.compress(content[:-1])), "only 59")
    refused(write(tmp_path, "a-ubyte.gz", gzip.compress(content) + b"trailing"), "damaged")
    refused(write(tmp_path, "a-ubyte", b"\x89PNG\r\n"), "not an IDX file", "89 50 4e 47")
    refused(write(tmp_path, "a-ubyte", b""), "nothing")
    refused(write(tmp_path, "a-ubyte", idx(IMAGES, shape=(0, 3, 4))[:16]), "0 rows")
    refused(write(tmp_path, "a-ubyte", idx(np.arange(3, dtype=np.uint8))), "reshape")
    refused(write(tmp_path, "a-ubyte", bytes([0, 0, 8, 200]) + bytes(900)), "not an IDX file")


def test_idx_declaring_too_much_allocates_nothing(tmp_path):
    false = idx(IMAGES, shape=(2**32 - 1,) * 3)
    bomb = idx(np.zeros(0, np.uint8), shape=(5, 3, 4)) + bytes(50_000_000)
    paths = [
        write(tmp_path, "a-ubyte", false),
        write(tmp_path, "a-ubyte.gz", gzip.compress(false)),
        write(tmp_path, "b-ubyte.gz", gzip.compress(idx(IMAGES, shape=(5, 3, 400)))),
        write(tmp_path, "bomb-ubyte.gz", gzip.compress(bomb)),
    ]
    tracemalloc.start()
    for path in paths:
        refused(path, "declares the shape")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


# Damage at every place


SOUND = {
    "x.npy": npy(IMAGES),
    "f.npy": npy(np.asfortranarray(IMAGES.astype(">f4"))),
    "x.npz": npz(x=IMAGES, y=np.arange(5)),
    "z.npz": npz(compressed=True, x=IMAGES),
    "a-ubyte": idx(IMAGES),
    "a-ubyte.gz": gzip.compress(idx(IMAGES), mtime=0),
}


@pytest.mark.parametrize("name", SOUND)
def test_every_truncation_is_a_data_error(tmp_path, name):
    content = SOUND[name]
    load(write(tmp_path, name, content))
    for length in range(0, len(content), 1 if len(content) < 300 else 3):
        message = refused(write(tmp_path, name, content[:length]))
        assert name in message, (length, message)
    if not name.endswith("npz"):  # a zip archive may be followed by a comment, and zipfile finds its end
        refused(write(tmp_path, name, content + b"x"))


@pytest.mark.parametrize("name", SOUND)
def test_flipped_bytes_never_raise_anything_else(tmp_path, name):
    content, rng = SOUND[name], np.random.default_rng(5)
    outcomes = {True: 0, False: 0}
    for place in range(0, len(content), 1 if len(content) < 300 else 2):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        path = write(tmp_path, name, bytes(changed))
        try:
            loaded = load(path)
            outcomes[True] += 1
            # Formats with a checksum must notice a change of the numbers.
            if name.endswith(("npz", "gz")):
                np.testing.assert_array_equal(loaded.rows.ravel(), IMAGES.ravel())
        except DataError as error:
            outcomes[False] += 1
            assert "\n" not in str(error)
    assert outcomes[False] > 5
