"""Arrays become rows exactly, or are refused by name in one line."""

import re

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from aevb import data
from aevb.data import Dataset, load, load_test
from aevb.errors import ConfigError, DataError


def refused(source, *words):
    """Loading fails with a one-line DataError that holds every word; returns the message."""
    with pytest.raises(DataError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", ">u2", "i4", ">i8", "u8", "f2", ">f4", "f8"])
def test_zeros_and_ones_are_kept_as_uint8(dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    loaded = load(values)
    assert loaded.rows.dtype == np.uint8 and loaded.rows.dtype.isnative
    np.testing.assert_array_equal(loaded.rows, values.astype(int))
    assert loaded.name == "array" and loaded.event_shape == (3,) and len(loaded) == 2 and loaded.num_columns == 3


@pytest.mark.parametrize("dtype", ["u2", "i4", ">i8", "f2", "f4", "f8", "g"])
def test_small_whole_numbers_are_stored_alike_whatever_held_them(dtype):
    """Integers of 0..255 were stored, and then modelled, as bytes; the same numbers as floats were not."""
    values = np.array([[0, 1, 200], [90, 0, 1]])
    loaded = load(values.astype(dtype))
    assert loaded.rows.dtype == np.float32 and not loaded.came_as_bytes
    assert loaded.fingerprint == load(values.astype(np.float32)).fingerprint
    image = load(values.astype(dtype).reshape(1, 2, 3))  # an image by its shape
    assert image.rows.dtype == np.uint8 and image.fingerprint == load(values.astype("u1").reshape(1, 2, 3)).fingerprint
    assert load(values.astype("u1")).came_as_bytes and load(values.astype("u1")).rows.dtype == np.uint8


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8", ">f8", "g"])
def test_floats_become_native_float32_where_that_is_exact_and_else_float64(dtype):
    values = np.array([[0.5, -1.25], [3.0, 2.0**-20]]).astype(dtype)
    loaded = load(values)
    assert loaded.rows.dtype == np.float32 and loaded.rows.dtype.isnative
    np.testing.assert_array_equal(loaded.rows, values)
    if values.dtype.itemsize > 4:
        values[1, 1] = 1e8 + 0.1
        loaded = load(values)
        assert loaded.rows.dtype == np.float64 and loaded.rows.dtype.isnative
        np.testing.assert_array_equal(loaded.rows, values.astype(np.float64))


@pytest.mark.parametrize("values", [[[-1, 4]], [[256, 0]], [[2**24, -(2**24)]], [[2**30, 2**40]], [[-(2**63), 0]]])
def test_integers_that_survive_become_float32(values):
    loaded = load(np.array(values, np.int64))
    assert loaded.rows.dtype == np.float32
    assert [int(v) for v in loaded.rows[0]] == values[0]


@pytest.mark.parametrize("value", [2**24 + 1, -(2**31) + 1, 2**53 - 1])
def test_integers_that_need_it_become_float64(value):
    loaded = load(np.array([[0, 3], [value, 0]], np.int64))
    assert loaded.rows.dtype == np.float64 and int(loaded.rows[1, 0]) == value


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**63 - 1, "i8"),
        (2**64 - 1, "u8"),
        (2**53 + 1, "i8"),
        (-(2**53) - 1, "i8"),
    ],
)
def test_integers_that_would_be_rounded_are_refused(value, dtype):
    values = np.zeros((4, 3), dtype)
    values[2, 1] = value
    refused(values, str(value), "row 2 (from 0), column 2", "2**53")


def test_integers_beyond_the_first_block_are_looked_at(monkeypatch):
    monkeypatch.setattr("aevb.data.arrays._BLOCK", 4)
    values = np.zeros((50, 2), np.int64)
    values[49, 1] = 2**53 + 1
    refused(values, "row 49 (from 0), column 2")
    floats = np.zeros((50, 2))
    floats[48, 0], floats[49, 0] = np.inf, np.nan
    assert "columns" not in refused(floats, "2 NaN or infinite", "inf", "row 48 (from 0), column 1")
    floats[48:] = 0
    floats[47, 1] = 1e39
    refused(floats, "1e+39", "row 47 (from 0), column 2", "float32")


def test_every_column_with_a_bad_value_is_named():
    """Only the first was, so that a table was mended column by column and run by run."""
    values = np.ones((3, 8)) * 0.5
    values[2, [1, 3]] = np.nan
    refused(values, "2 NaN or infinite values, in the columns 2, 4; the first is nan at row 2 (from 0), column 2")
    values[0, :] = np.inf
    refused(values, "10 NaN or infinite values, in the columns 1, 2, 3, 4, 5 and 3 more;")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 2), (7, 4)])
def test_non_finite_values_are_placed(dtype, value, place):
    values = np.zeros((8, 5), dtype)
    values[place] = value
    refused(values, "1 NaN or infinite value", f"row {place[0]} (from 0), column {place[1] + 1}")


def test_float64_overflow_is_refused_and_the_largest_float32_is_not():
    largest = float(np.finfo(np.float32).max)
    assert load(np.array([[largest, -largest]])).rows[0, 0] == np.float32(largest)
    refused(np.array([[0.0, -1e300]]), "-1e+300", "row 0 (from 0), column 2", "rescale")


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((2, 2), complex), "complex"),
        (np.zeros((2, 2), "M8[D]"), "dates"),
        (np.zeros((2, 2), "m8[s]"), "time differences"),
        (np.zeros((2, 2), object), "object"),
        (np.zeros((2, 2), "S3"), "byte strings"),
        (np.zeros((2, 2), "U3"), "strings"),
        (np.zeros((2, 2), np.dtypes.StringDType()), "strings"),
        (np.zeros((2, 2), [("a", "f4"), ("b", "i4")]), "structured"),
        (np.zeros((2, 2), [("a", "O")]), "object"),
        (np.ma.masked_array(np.zeros((2, 2)), mask=[[0, 1], [0, 0]]), "masked"),
        (np.zeros(3), "reshape(-1, 1)"),
        (np.zeros(3), "array[None]"),
        (np.array(3.0), "reshape(-1, 1)"),
        (np.zeros((0, 3)), "0 rows"),
        (np.zeros((3, 0)), "0 columns"),
        (np.zeros((3, 4, 0)), "0 columns"),
        (np.zeros((0, 0)), "0 rows"),
    ],
)
def test_other_arrays_are_refused_by_name(array, word):
    refused(array, "array", word)


@pytest.mark.parametrize("source", [None, 3, 2.5, [[1.0]], {"x": 1}, b"mnist\0"])
def test_other_types_are_refused(source):
    with pytest.raises((DataError, TypeCheckError)):
        load(source)


def test_memory_layouts_are_read_exactly_and_left_alone(tmp_path):
    base = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32)
    path = tmp_path / "map.npy"
    np.save(path, base)
    layouts = {
        "fortran": np.asfortranarray(base),
        "negative strides": base[::-1, :, ::-1][::-1, :, ::-1],
        "non-contiguous": np.repeat(base, 2, axis=2)[:, :, ::2],
        "big-endian": base.astype(">f4"),
        "memmap": np.load(path, mmap_mode="r"),
    }
    for name, array in layouts.items():
        before = array.tobytes()
        loaded = load(array)
        np.testing.assert_array_equal(loaded.rows, base.reshape(6, 20), err_msg=name)
        assert loaded.rows.flags.c_contiguous and not loaded.rows.flags.writeable and type(loaded.rows) is np.ndarray
        assert loaded.event_shape == (4, 5) and array.tobytes() == before
    mine = base.reshape(6, 20)
    assert load(mine).rows.base is not None and mine.flags.writeable  # shared, yet mine stays writeable


def test_fingerprint_depends_on_values_shape_and_dtype_only():
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    first = load(rows).fingerprint
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    assert first == load(np.asfortranarray(rows)).fingerprint
    changed, tenths = rows.copy(), rows / 10
    changed[2, 3] += 1
    nearly = np.nextafter(tenths, 9)  # a change that float32 does not see
    others = [load(a) for a in (changed, rows.reshape(4, 3), rows.astype(np.float32), tenths, nearly)]
    assert len({first, *(other.fingerprint for other in others)}) == 6
    # Pinned: a fingerprint in a model file must stay comparable.
    assert first == "sha256:7a2d2cdb22468ac1e92dd09cdebcb8b2c7fa2665071c96b20a9d1c1f1e8e4cb4"


def test_dataset_load_take_and_repr():
    dataset = Dataset("d", np.arange(6, dtype=np.uint8).reshape(3, 2), (2,), np.array(["a", "b", "c"]), ("u", "v"))
    assert load(dataset) is dataset and load_test(dataset) is None and load_test(dataset.rows) is None
    part = dataset.take(np.array([2, 0]))
    np.testing.assert_array_equal(part.rows, [[4, 5], [0, 1]])
    assert dataset.row_numbers is None and part.row_numbers.tolist() == [2, 0]
    assert part.take([1]).row_numbers.tolist() == [0]  # the number in what the user gave, not in the part
    assert part.labels.tolist() == ["c", "a"] and part.columns == ("u", "v") and part.name == "d"
    assert part.fingerprint != dataset.fingerprint
    assert "3 x (2,) uint8, labels, columns" in repr(dataset)
    for wrong in ([], [3], [-1], [0.5], [True, False, True], [[0]]):
        with pytest.raises((DataError, TypeCheckError)):
            dataset.take(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": np.zeros((3, 2), ">f8")},
        {"rows": np.zeros((3, 2), np.float16)},
        {"row_numbers": np.zeros(2, int)},
        {"row_numbers": np.zeros(3)},
        {"rows": np.zeros(6, np.uint8)},
        {"rows": np.zeros((0, 2), np.uint8)},
        {"event_shape": (3,)},
        {"labels": np.zeros(2, int)},
        {"labels": np.zeros(3)},
        {"columns": ("a",)},
    ],
)
def test_dataset_refuses_parts_that_do_not_fit(change):
    parts = {"name": "d", "rows": np.zeros((3, 2), np.uint8), "event_shape": (2,)}
    Dataset(**parts)
    with pytest.raises(DataError):
        Dataset(**(parts | change))


def test_info_remembers_the_form():
    dataset = load(np.zeros((3, 2, 2), np.uint8))
    info = data.DataInfo.of(dataset)
    assert (info.name, info.num_rows, info.event_shape, info.columns) == ("array", 3, (2, 2), None)
    assert info.fingerprint == dataset.fingerprint


def test_errors_have_the_exit_codes_of_the_command_line():
    assert DataError.exit_code == 3 and ConfigError.exit_code == 2


def test_rows_of_one_set_are_found_in_another_whatever_stores_them():
    """Training rows that are given as held-out ones must be recognised, uint8 or float."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (5000, 7), dtype=np.uint8)
    train[17] = 0
    index = np.array([4999, 0, 17])
    for dtype in (np.uint8, np.float32, np.float64):
        mine = np.concatenate([train[index], [[0, 1, 2, 3, 4, 5, 6]]]).astype(dtype)
        expected = [True, True, True, False]
        rows = Dataset("new", mine, (7,))
        assert data.rows_found_in(rows, Dataset("old", train, (7,))).tolist() == expected
        assert data.rows_found_in(rows, Dataset("old", train.astype(np.float32), (7,))).tolist() == expected
    tenths = np.arange(21).reshape(3, 7) / 10
    for one, other in ((tenths, tenths.astype(np.float32)), (tenths.astype(np.float32), tenths)):
        assert data.rows_found_in(Dataset("one", one, (7,)), Dataset("other", other, (7,))).all()
    near = Dataset("near", train[:3] + 0.25, (7,))  # float64: equal once cast back, and yet other numbers
    assert not data.rows_found_in(near, Dataset("old", train, (7,))).any()
    minus = Dataset("minus", -np.zeros((1, 7), np.float32), (7,))
    assert data.rows_found_in(minus, Dataset("old", train, (7,))).all()
    with pytest.raises(DataError, match=r"7 columns.* 6"):
        data.rows_found_in(near, Dataset("narrow", train[:, :6], (6,)))
