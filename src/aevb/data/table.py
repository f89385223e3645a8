"""Reader of CSV tables: numeric columns with names, and possibly a column called `label`.

pyarrow reads; when it cannot, or a value is missing, a second and slow pass finds the place for the message.
"""

import csv
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aevb.errors import DataError

from .arrays import from_array
from .dataset import Dataset

_LABEL = "label"
_LONGEST_LINE = 1 << 24  # bytes; also the block that pyarrow reads at a time
_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None")
_NUMBER = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*")


def read_csv(path: str, name: str) -> Dataset:
    """Read a comma-separated UTF-8 file whose first line names the columns.

    Every column must be numeric and complete, except one called `label`, which becomes the labels (integers where all
    of them are, strings otherwise). Stored as `aevb.data.arrays.from_array` stores the same numbers.

    Raises:
        DataError: with the file, the column and the data row (counted from 0, blank lines left out) for text, missing
            and non-finite values, integers that float64 cannot hold, and rows of another length; and for a header
            that is missing, numeric, or repeats a name.
    """
    header = _header(path, name)
    table = _arrow_table(path, name, header)
    places = [index for index, column in enumerate(header) if column != _LABEL]
    columns = tuple(header[index] for index in places)
    if not columns:
        raise DataError(f"{name!r} has 0 columns of numbers beside {_LABEL!r}: nothing to fit")
    if table.num_rows == 0:
        raise DataError(f"{name!r} has 0 rows: there is nothing after the header line")
    labels = _labels(table.column(header.index(_LABEL)).to_numpy(), name) if _LABEL in header else None
    rows = np.empty((table.num_rows, len(columns)), np.float64)
    wrong = []
    for target, index in enumerate(places):
        rows[:, target] = table.column(index).to_numpy()
        wrong += _check_column(rows[:, target], header[index])
    if wrong:
        raise DataError(_said_of(name, wrong))
    return from_array(rows, name, labels, columns)


def _header(path: str, name: str) -> list[str]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        line = file.readline(_LONGEST_LINE)
    if _holds_bytes(line):
        raise DataError(f"{name!r} is not UTF-8 text: save it as UTF-8 CSV")
    if not line:
        raise DataError(f"{name!r} is empty: a header line and at least one row are needed")
    if len(line) >= _LONGEST_LINE:
        raise DataError(f"the first line of {name!r} is longer than {_LONGEST_LINE >> 20} MiB: is it a CSV file?")
    try:
        header = next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise DataError(f"the header line of {name!r} cannot be read ({error}): quote names plainly") from error
    header = [cell.strip() for cell in header]
    cells = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in ";\t|"}
    if other := next((mark for mark, count in cells.items() if count > len(header)), None):
        raise DataError(f"{name!r} seems to be separated by {other!r}: save it with commas")
    numeric = [cell == _LABEL or _is_number(cell) for cell in header]
    if not header or (all(numeric) and header != [_LABEL]):
        found = "starts with a blank line" if not any(header) else "has numbers in its first row"
        raise DataError(f"{name!r} {found}: a header line with the names of the columns is needed")
    places: dict[str, int] = {}
    for index, cell in enumerate(header):
        if not cell:
            raise DataError(
                f"{name!r}: column {index + 1} has no name: name it, or if it is a row index leave it out "
                "(in pandas to_csv(index=False))"
            )
        if (first := places.setdefault(cell, index)) != index:
            raise DataError(f"{name!r}: columns {first + 1} and {index + 1} are both called {cell!r}: rename one")
    if not line.endswith(("\n", "\r")):
        raise DataError(f"{name!r} has 0 rows: there is nothing after the header line")
    return header


def _arrow_table(path: str, name: str, header: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    types = {column: pa.string() if column == _LABEL else pa.float64() for column in header}
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(column_names=header, skip_rows=1, block_size=_LONGEST_LINE),
            parse_options=arrow_csv.ParseOptions(
                ignore_empty_lines=len(header) > 1, newlines_in_values=_LABEL in header
            ),
            convert_options=arrow_csv.ConvertOptions(column_types=types, null_values=list(_MISSING)),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        _explain(path, name, header)
        raise DataError(f"{name!r} cannot be read as CSV ({' '.join(str(error).split())[:200]})") from error
    if any(table.column(index).null_count for index in range(len(header))):
        _explain(path, name, header)
        raise DataError(f"{name!r} has missing values: fill or drop them first")
    return table


def _explain(path: str, name: str, header: list[str]) -> None:
    """Raise DataError for the first row of a wrong length, or for the first wrong cell of each column; return if there
    is none."""
    wrong: dict[str, tuple[str, int, str]] = {}
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = csv.reader(file)
        try:
            for number, record in enumerate(_data_records(records, len(header))):
                if len(record) != len(header):
                    raise DataError(
                        f"{name!r}: row {number} (from 0) has {len(record)} cells, the header has {len(header)}: mend "
                        "that line"
                    )
                for column, cell in zip(header, record, strict=True):
                    if column not in wrong and (reason := _fault_of(cell, column)):
                        wrong[column] = (column, number, reason)
        except csv.Error as error:
            raise DataError(f"{name!r}, line {records.line_num}: {error}") from error
    if wrong:
        raise DataError(_said_of(name, list(wrong.values())))


def _data_records(records: Any, num_columns: int) -> Iterator[list[str]]:
    next(records, None)
    for record in records:
        if record:
            yield record
        elif num_columns == 1:
            yield [""]


def _fault_of(cell: str, column: str) -> str:
    """What is wrong with a cell, and what to do; nothing where it is sound."""
    if column == _LABEL:
        if _holds_bytes(cell):
            return f"{cell[:40]!a} is not UTF-8 text: save the file as UTF-8"
        return "" if cell.strip() else "the label is missing"
    if cell.strip() in _MISSING:
        return f"the value is missing ({cell!a}): fill it, or drop the row or column"
    if not _NUMBER.fullmatch(cell):
        hint = "remove thousands separators" if re.fullmatch(r"[\d, .]+", cell) else "encode it or drop the column"
        return f"{cell[:40]!a} is text, not a finite number: {hint}"
    return ""


def _check_column(values: NDArray[np.float64], column: str) -> list[tuple[str, int, str]]:
    """The column, row (from 0) and reason of the first value that cannot be taken as it stands; else nothing."""
    with np.errstate(over="ignore", under="ignore"):
        wrong = ~np.isfinite(values.astype(np.float32))
    reason = "is not finite in float32 (its limit is 3.4e38): remove or rescale it"
    largest = float(np.abs(values).max())
    if not wrong.any() and 2**53 < largest < 2**63 and bool((values == np.floor(values)).all()):
        wrong = np.abs(values) > 2**53
        reason = (
            "is an integer that float64 cannot hold exactly (above 2**53): subtract an offset or rescale the column"
        )
    if not wrong.any():
        return []
    row = int(np.argmax(wrong))
    return [(column, row, f"{float(values[row])!r:.60} {reason}")]


def _said_of(name: str, wrong: list[tuple[str, int, str]]) -> str:
    """The first fault in full, and the columns and rows of up to four others."""
    column, row, reason = wrong[0]
    others = ", ".join(f"{column!r} (row {row})" for column, row, _ in wrong[1:5])
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    also = f"; also wrong: {others}{more}" if others else ""
    return f"{name!r}, column {column!r}, row {row} (from 0): {reason}{also}"


def _labels(cells: NDArray[Any], name: str) -> NDArray[Any]:
    for number, cell in enumerate(cells):
        if not cell.strip():
            raise DataError(f"{name!r}, column {_LABEL!r}, row {number} (from 0): the label is missing")
    if all(re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in cells):
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array([str(cell) for cell in cells], np.str_)


def _holds_bytes(text: str) -> bool:
    """Whether `text`, decoded with surrogateescape, holds bytes that are not UTF-8."""
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) or cell.lower() in ("nan", "inf", "-inf")
