"""A run directory is made, or found empty, and never written over."""

import pytest

from aevb.errors import OutputError
from aevb.rundir import RunDirectory


def test_a_directory_that_holds_something_is_refused(tmp_path):
    assert RunDirectory.create(tmp_path / "new" / "run").path.is_dir()
    assert RunDirectory.create(tmp_path / "new" / "run").path.is_dir()  # empty still
    (tmp_path / "new" / "run" / "config.toml").touch()
    with pytest.raises(OutputError, match="already holds a run; nothing was overwritten"):
        RunDirectory.create(tmp_path / "new" / "run")
    with pytest.raises(OutputError, match="is not empty"):
        RunDirectory.create(tmp_path / "new")


def test_numbered_directories_take_the_first_free_number(tmp_path):
    (tmp_path / "mnist-2").mkdir()
    assert [RunDirectory.create_numbered(tmp_path, "mnist").path.name for _ in range(2)] == ["mnist-1", "mnist-3"]
