"""Progress: a bar on a terminal, plain lines in a log, nothing when quiet."""

import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from aevb._spec import kind_of
from aevb._splits import Splits
from aevb.config import Config
from aevb.data import Values, columns_of_one_value, is_binary, one_value_words, rows_found_in
from aevb.models import LikelihoodSpec, Mlp, NetworkSpec

Record = Mapping[str, Any]  # of an epoch: a line of metrics.jsonl


class Progress:
    """Tells how a fit goes. This one says nothing; the others derive from it."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, lines: list[str], epochs: int) -> None:
        """The fit begins: what is told of it, and how many epochs it has."""

    def epoch(self, record: Record) -> None:
        """An epoch has ended."""

    def say(self, text: str) -> None:
        """Anything else, one line."""


class LineProgress(Progress):
    """One plain line per epoch, for logs and pipes."""

    def start(self, lines: list[str], epochs: int) -> None:
        self.epochs = epochs
        for line in lines:
            self.say(line)

    def epoch(self, record: Record) -> None:
        self.say(f"epoch {record['epoch']}/{self.epochs}  {summary(record)}")

    def say(self, text: str) -> None:
        print(text, flush=True)


class BarProgress(Progress):
    """A bar with epoch, bounds, speed and time left, on a terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        self.console = Console(stderr=stderr, highlight=False)
        self.bar = RichProgress(
            MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=7)),
            BarColumn(bar_width=10, table_column=Column(min_width=4)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True, min_width=5)),
            # Last, so that it is what a narrow terminal cuts.
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=self.console,
            expand=True,
        )

    def start(self, lines: list[str], epochs: int) -> None:
        for line in lines:
            # Paths are left whole.
            for part in textwrap.wrap(line, self.console.width, break_long_words=False, break_on_hyphens=False):
                self.say(part)
        self.task = self.bar.add_task("compiling", total=epochs)
        self.bar.start()

    def epoch(self, record: Record) -> None:
        self.bar.update(self.task, advance=1, description=summary(record))

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def __exit__(self, *exception: Any) -> None:
        self.bar.stop()


class NotebookProgress(Progress):
    """A few lines below the cell, written anew after each epoch."""

    def start(self, lines: list[str], epochs: int) -> None:
        from IPython.display import display

        self.epochs, self.lines = epochs, lines
        self.handle = display(self._with("compiling"), raw=True, display_id=True)

    def epoch(self, record: Record) -> None:
        self.say(f"epoch {record['epoch']}/{self.epochs}  {summary(record)}")

    def say(self, text: str) -> None:
        self.handle.update(self._with(text), raw=True)

    def _with(self, text: str) -> dict[str, str]:
        return {"text/plain": "\n".join([*self.lines, text])}


def watched_progress(*, quiet: bool) -> Progress:
    """Of a fit in Python: a display where somebody watches, in a notebook or on a terminal, and else nothing."""
    if quiet:
        return Progress()
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        return NotebookProgress()
    return BarProgress(stderr=True) if sys.stderr.isatty() else Progress()


def make_progress(*, quiet: bool) -> Progress:
    """Of a fit on the command line: what suits where the output goes."""
    if quiet:
        return Progress()
    return BarProgress() if sys.stdout.isatty() else LineProgress()


def describe(config: Config, splits: Splits, directory: Path | None = None) -> list[str]:
    """What is about to be fitted, and every choice that was made for the user."""
    rows = f"{len(splits.train)} training rows"
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        if part is not None:
            rows += f", {len(part)} {name}"
    model, training = config.model, config.training
    assert model is not None
    assert isinstance(model.likelihood, LikelihoodSpec) and isinstance(model.network, NetworkSpec)
    network, likelihood, values = model.network, model.likelihood, model.likelihood.values
    of_layers = (str(splits.train.rows.shape[1]), network.sizes, str(model.latent_dim))
    sizes = "-".join(part for part in of_layers if part)
    activation = f"{network.activation}, " if isinstance(network, Mlp) else ""
    lines = [
        f"fitting {splits.train.name} ({rows})" + (f" into {directory}" if directory else ""),
        f"model {sizes}, {activation}{likelihood.kind} likelihood, binarization {config.data.binarization}, "
        f"scaling {config.data.scaling}; estimator {kind_of(training.estimator)}, {kind_of(training.optimizer)} "
        f"{training.learning_rate:g}",
    ]
    if splits.train.columns is not None and splits.train.labels is not None:
        lines.append("note: the column 'label' is taken for labels and is not modelled; rename it if it should be")
    if splits.is_cut and splits.validation is not None and values is Values.REAL:
        found, of = int(rows_found_in(splits.validation, splits.train).sum()), len(splits.validation)
        if found:
            lines.append(
                f"note: {found:,} of the {of:,} validation rows equal training rows. If the file holds copies, these "
                "are not new rows, and numbers on them are too high: take the copies out"
            )
    if values is Values.REAL and (told := one_value_words(columns_of_one_value(splits.train))):
        lines.append(f"note: {told[0].lower()}{told[1:-1]}")
    if values is Values.BINARY and config.data.binarization == "none" and not is_binary(splits.train.rows):
        lines.append(
            "note: grey pixels under a Bernoulli decoder; the objective is a cross-entropy, not a likelihood, "
            "and cannot be compared with ELBOs of binarised data"
        )
    return lines


def summary(record: Record) -> str:
    """One epoch in a few words."""
    names = [key.removeprefix("train_") for key in record if key.startswith("train_")]
    bound = names[0]
    text = f"{bound.replace('_', ' ')} train {_nats(record[f'train_{bound}'])}"
    if f"validation_{bound}" in record:
        text += f" validation {_nats(record[f'validation_{bound}'])}"
    text += f"  {record['examples_per_second']:,.0f} examples/s"
    if record["skipped_steps"]:
        text += f"  {record['skipped_steps']} steps skipped (not finite)"
    return text


def _nats(value: float | None) -> str:
    return "not finite" if value is None else f"{value:z.2f}"


@contextlib.contextmanager
def make_stages(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Tell how an evaluation goes, on stderr: a bar with the time left on a terminal, a line per stage in a log."""
    if quiet:
        yield lambda stage, done, total: None
        return
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def line(stage: str, done: int, total: int) -> None:
            if stage not in seen:
                seen.add(stage)
                resumed = f", {done:,} of {total:,} rows are done already" if stage == "log p(x)" and done else ""
                print(f"evaluating: {stage}{resumed}", file=sys.stderr, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task = bar.add_task("loading", total=None)
        current = ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal current
            # A stage of its own starts the clock anew: the time left is that of the rows, not of the diagnostics.
            if stage != current and "log p(x)" in (stage, current):
                bar.reset(task)
            current = stage
            bar.update(task, description=stage, completed=done, total=total)

        yield show
