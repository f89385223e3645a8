"""CSV tables: exact values, and the file, column and row of whatever is wrong."""

import subprocess
import sys

import numpy as np
import pytest

from aevb.data import load
from aevb.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path, *words):
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and "t.csv" in message
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1.5,2\n-3e2,4\n",
        "a,b\n1.5,2\n-3e2,4",
        "\ufeffa,b\r\n1.5,2\r\n-3e2,4\r\n",
        "a,b\r1.5,2\r-3e2,4\r",
        '"a","b"\n"1.5","2"\n-3e2, 4 \n',
        "a , b\n\n+1.5,2\n\n-3e2,4\n\n",
    ],
)
def test_floats(table, content):
    loaded = load(table(content))
    assert loaded.columns == ("a", "b") and loaded.event_shape == (2,) and loaded.labels is None
    assert loaded.rows.dtype == np.float32
    np.testing.assert_array_equal(loaded.rows, [[1.5, 2], [-300, 4]])


def test_a_mark_within_a_name_separates_nothing(table):
    assert load(table('"a;c;d",b\n1.5,2\n-3e2,4\n')).columns == ("a;c;d", "b")


def test_integers_are_numbers_like_others_and_labels_are_apart(table):
    loaded = load(table("a,label,b\n0,3,255\n7,-4,1.0\n"))
    assert loaded.rows.dtype == np.float32 and loaded.rows.tolist() == [[0, 255], [7, 1]]
    assert loaded.fingerprint == load(np.array([[0, 255], [7, 1]])).fingerprint  # whatever the container
    assert loaded.columns == ("a", "b") and loaded.labels.tolist() == [3, -4] and loaded.labels.dtype == np.int64
    loaded = load(table('label,a\n"Adélie, x",0\nNA,256\n'))
    assert load(table('a,label\n1,"x\ny"\n2,z\n')).labels.tolist() == ["x\ny", "z"]
    assert loaded.labels.tolist() == ["Adélie, x", "NA"] and loaded.rows.dtype == np.float32


def test_values_equal_those_of_python(table):
    rows = np.random.default_rng(0).normal(size=(300, 7)) * 10.0 ** np.arange(-3, 4)
    text = ",".join("abcdefg") + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows.tolist())
    np.testing.assert_array_equal(load(table(text)).rows, rows)


def test_many_columns(table):
    names = [f"c{i}" for i in range(20_000)]
    loaded = load(table(",".join(names) + "\n" + ",".join("7" * 20_000) + "\n"))
    assert loaded.rows.shape == (1, 20_000) and loaded.columns == tuple(names)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty"]),
        ("\n", ["blank line"]),
        ("a,b\n", ["0 rows"]),
        ("a,b", ["0 rows"]),
        ("label\nx\n", ["0 columns"]),
        ("1,2\n3,4\n", ["numbers in its first row", "header"]),
        ("1.5,label\n3,4\n", ["numbers in its first row"]),
        ("a,b,a\n1,2,3\n", ["columns 1 and 3", "'a'"]),
        (",a\n0,1\n", ["column 1 has no name", "index=False"]),
        ("a;b\n1;2\n", ["';'"]),
        ('a;b;"gam,ma"\n1;2;3\n', ["';'"]),
        ('a\tb\t"gam,ma"\n1\t2\t3\n', ["'\\t'"]),
        ("a\tb\n1\t2\n", [r"'\t'"]),
        ('a,"b\n1,2\n', ["header"]),
        ("a,b\n1,2\n3\n", ["row 1 (from 0) has 1 cells", "header has 2"]),
        ("a,b\n1,2\n\n3,4,5\n", ["row 1 (from 0) has 3 cells"]),
        ("a,b\n1,x\n", ["column 'b', row 0 (from 0)", "'x' is text"]),
        ("a,b\n1,2\n3,4\n5,abc\n", ["column 'b', row 2 (from 0)", "'abc'"]),
        ("a,b\n1,2\n3,\n", ["column 'b', row 1 (from 0)", "missing"]),
        ("a,b\n1,2\n3, \n", ["column 'b', row 1 (from 0)", "missing"]),
        ("a,b\nNA,2\n", ["column 'a', row 0 (from 0)", "missing", "'NA'"]),
        ("a,b\nnan,2\n", ["column 'a', row 0 (from 0)", "missing"]),
        ("a\n1\n\n3\n", ["column 'a', row 1 (from 0)", "missing"]),
        ("a,b\n1,inf\n", ["column 'b', row 0 (from 0)", "not finite"]),
        ("a,b\n1,1e400\n", ["column 'b', row 0 (from 0)", "not finite"]),
        ("a,b\n1,2\n1,-1e39\n", ["column 'b', row 1 (from 0)", "float32"]),
        ("a,b\n1,2\n1,9007199254740994\n", ["column 'b', row 1 (from 0)", "9007199254740994", "2**53"]),
        ("a,b,c,label\n1,x,\n2,3,4,\n", ["row 0 (from 0) has 3 cells"]),
        ("a,b,c,label\n1,x,2,u\n,y,3,v\n", ["column 'b', row 0 (from 0): 'x' is text", "also wrong: 'a' (row 1)"]),
        (
            "a,b,c,d,e,f,g\n" + "x," * 6 + "x\n",
            ["'a', row 0 (from 0)", "also wrong: 'b' (row 0), 'c' (row 0), 'd' (row 0), 'e' (row 0) and 2 more"],
        ),
        ("a,b\n1e39,2\n1,1e300\n", ["column 'a', row 0 (from 0): 1e+39", "also wrong: 'b' (row 1)"]),
        ('a,b\n1,"1,000"\n', ["column 'b', row 0 (from 0)", "thousands"]),
        ("a,b\n1,0x10\n", ["column 'b', row 0 (from 0)", "text"]),
        ("a,b\n1,1_000\n", ["column 'b', row 0 (from 0)", "text"]),
        ("a,b\n1,true\n", ["column 'b', row 0 (from 0)", "text"]),
        ("a,b\n1,2020-01-01\n", ["column 'b', row 0 (from 0)", "text"]),
        ("a,label\n1,\n", ["'label', row 0 (from 0)", "missing"]),
        ("a,label\n1,x\n2, \n", ["'label', row 1 (from 0)", "missing"]),
        ("é,b\n1,2\n".encode("latin-1"), ["UTF-8"]),
        (b"a,b\n1,caf\xe9\n", ["column 'b', row 0 (from 0)", "text"]),
        (b"a,label\n1,caf\xe9\n", ["column 'label', row 0 (from 0)", "UTF-8"]),
        ("a,b\n1,2\n".encode("utf-16"), ["UTF-8"]),
        (b"a,b\n1,\x00\n", ["column 'b', row 0 (from 0)"]),
        (b"\x89PNG\r\n\x1a\n", ["UTF-8"]),
        ("a,b\n1," + "9" * 200_000 + "\n", []),
    ],
)
def test_errors_say_where(table, content, words):
    refused(table(content), *words)


def test_text_far_into_the_file_is_found(table):
    refused(table("a,b\n" + "1,2\n" * 70_000 + "1,oops\n" + "1,2\n" * 10), "column 'b', row 70000 (from 0)", "'oops'")


def test_a_fault_has_the_number_of_its_row_whatever_the_container(table, tmp_path):
    values = np.arange(30.0).reshape(10, 3)
    values[7, 2] = np.nan
    np.save(tmp_path / "t.npy", values)
    lines = [",".join("" if np.isnan(cell) else f"{cell}" for cell in row) for row in values]
    for path in (tmp_path / "t.npy", table("\n".join(["a,b,c", *lines]) + "\n")):
        with pytest.raises(DataError, match=r"row 7 \(from 0\)"):
            load(path)


def test_a_line_without_end_is_bounded(table, monkeypatch):
    monkeypatch.setattr("aevb.data.table._LONGEST_LINE", 1 << 12)
    refused(table("a" * 5000), "first line")
    refused(table("a,b\n1," + " " * 50_000 + "2\n"))


def test_every_truncation_is_read_or_refused(table):
    content = '\ufeffaé,b,label\r\n1.5,2,"x"\r\n-3e2,4,y\r\n'.encode()
    for length in range(len(content)):
        try:
            load(table(content[:length]))
        except DataError as error:
            assert "\n" not in str(error)


def test_pyarrow_is_imported_for_tables_only():
    code = (
        "import sys, numpy as np, aevb.data as d; d.load(np.zeros((2, 2))); d.load('mnist');"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('pyarrow', 'pandas', 'numpyro', 'matplotlib')];"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
