"""The run directory: what `aevb fit` leaves behind.

config.toml          the resolved configuration; `aevb fit --config` with it repeats the run
metrics.jsonl        one JSON object per epoch
model.safetensors    the model
figures/             pictures
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aevb._container import commit
from aevb.config import Config
from aevb.errors import OutputError
from aevb.modelfile import MODEL_FILE

CONFIG_FILE = "config.toml"
METRICS_FILE = "metrics.jsonl"
FIGURES = "figures"


class RunDirectory:
    """A directory that this process made or found empty, and that it alone writes.

    Args:
        path: of the directory.
    """

    def __init__(self, path: Path):
        self.path = path
        self.model = path / MODEL_FILE
        self.config = path / CONFIG_FILE
        self.metrics = path / METRICS_FILE
        self.figures = path / FIGURES

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Make the directory, or take an empty one.

        Raises:
            OutputError: it holds something already, cannot be made, or cannot be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                what = "already holds a run" if (path / CONFIG_FILE).exists() else "is not empty"
                raise OutputError(f"{path} {what}; nothing was overwritten. Give another directory, or remove it first")
            if not os.access(path, os.W_OK | os.X_OK):
                raise OutputError(f"cannot write to {path}: permission denied; name another directory")
        except OutputError:
            raise
        except OSError as e:
            raise OutputError(f"cannot make the directory {path}: {e.strerror}; name another directory") from None
        return cls(path)

    @classmethod
    def create_numbered(cls, parent: Path, name: str) -> "RunDirectory":
        """Make `parent/name-1`, or the first of -2, -3, ... that is free. Safe when two processes ask at once."""
        number = 1
        while True:
            path = parent / f"{name}-{number}"
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                return cls(path)
            except FileExistsError:
                number += 1
            except OSError as e:
                raise OutputError(
                    f"cannot make the directory {path}: {e.strerror}; name one in a place that you can write to"
                ) from None

    def write_config(self, config: Config) -> None:
        """Write `config.toml`."""
        text = f"# Repeat this run with: aevb fit --config THIS_FILE\n{config.to_toml()}"
        commit(self.config, lambda file: file.write(text.encode("utf-8", "surrogateescape")))

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one epoch to `metrics.jsonl`."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as e:
            raise OutputError(f"cannot write {self.metrics}: {e.strerror}") from None

    def discard_unused(self) -> bool:
        """Remove the directory if no epoch was recorded and no model written; returns whether it did."""
        if self.model.exists() or self.metrics.exists():
            return False
        self.config.unlink(missing_ok=True)
        self.path.rmdir()
        return True

    def files(self) -> list[Path]:
        """All files in the directory, sorted."""
        return sorted(p for p in self.path.rglob("*") if p.is_file())
