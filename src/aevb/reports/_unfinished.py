"""What is done of a report, kept in files until the report is written: an interrupted one goes on from there."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from aevb._container import read_container, write_container
from aevb.errors import ModelFileError
from aevb.fitted import FittedModel
from aevb.models import Rows

from ._settings import ReportSettings


class Unfinished:
    """Arrays in files of a directory, each under a digest of all that they depend on. Without one nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: set[Path] = set()

    def read(self, digest: str) -> dict[str, np.ndarray]:
        """What was kept under this digest; nothing if there is none."""
        path = self._path(digest)
        if path is None or not path.exists():
            return {}
        try:
            return read_container(path)[1]
        except ModelFileError:  # cut or altered: it is computed anew
            return {}

    def keep(self, digest: str, arrays: Mapping[str, np.ndarray]) -> None:
        """In place of what is kept under this digest.

        Raises:
            OutputError: the directory cannot be written.
        """
        path = self._path(digest)
        if path is not None:
            write_container(path, {"kind": "unfinished report"}, arrays)

    def discard(self) -> None:
        """Remove what was read and kept: the report is written."""
        for path in self._files:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path | None:
        if self._directory is None:
            return None
        path = self._directory / f".unfinished-{digest}.safetensors"
        self._files.add(path)
        return path


def digest_of(fitted: FittedModel, x: Rows, key: PRNGKeyArray, settings: ReportSettings) -> str:
    """Of all that a result depends on."""
    digest = hashlib.sha256(json.dumps(settings.to_dict(), sort_keys=True).encode())
    for leaf in map(np.asarray, jax.tree.leaves(x)):
        digest.update(np.ascontiguousarray(leaf).tobytes() + str(leaf.dtype).encode())
    for leaf in jax.tree.leaves((fitted.generative, fitted.encoder, jax.random.key_data(key))):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]
