"""What a model remembers of the data that it was fitted to."""

from dataclasses import dataclass

from .dataset import Dataset


@dataclass(frozen=True)
class DataInfo:
    """A data set's name, fingerprint and form, without its rows."""

    name: str
    fingerprint: str
    num_rows: int
    event_shape: tuple[int, ...]
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> "DataInfo":
        """Describe a data set."""
        return cls(dataset.name, dataset.fingerprint, len(dataset), dataset.event_shape, dataset.columns)
