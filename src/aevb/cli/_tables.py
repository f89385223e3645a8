"""Tables for the terminal."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aevb._measures import about_units
from aevb._splits import not_held_out
from aevb.data import one_value_words
from aevb.evaluate import EstimatorNoise
from aevb.fitted import FittedModel
from aevb.models import MLP, Linear, untie
from aevb.reports import WORDS, Compared, Report, nats, numbers

from ._words import as_flags, in_encoding


def print_result(fitted: FittedModel) -> None:
    """What a fit came to."""
    result = fitted.result
    print_evaluation(result["evaluation"], result["held_out"])
    console = _console()
    console.print(
        f"{result['epochs']} epochs in {result['train_seconds']:.1f} s, "
        f"{result['examples_per_second']:,.0f} examples/s (median epoch)"
    )
    if result["stopped"] == "early_stopping":
        console.print("stopped early; the parameters are those of the best validation bound")
    _say_selected(result)
    if trained_on := result["held_out_in_training"]:
        console.print(not_held_out(trained_on, result["evaluation"]["num_rows"], result["held_out"]))
    if result["skipped_steps"]:
        console.print(f"{result['skipped_steps']} steps were skipped: their bound or gradient was not finite")


def print_files(files: Sequence[Path]) -> None:
    """What was written, one path a line and never cut, so that it can be copied."""
    if files:
        console = _console()
        console.print("files:")
        for path in files:
            console.print(f"  {path}", soft_wrap=True, markup=False)


def _say_selected(result: Mapping[str, Any]) -> None:
    """Numbers of the rows that early stopping chose the parameters by are no held-out ones."""
    if result.get("selected_on") and result["selected_on"] == result["held_out"]:
        _console().print(
            "these validation rows also chose the parameters: the numbers are the best of several epochs', in "
            "expectation too high for new rows; for others name test data (--test)"
        )


def print_evaluation(evaluation: Mapping[str, Any], part: str) -> None:
    """The ELBO and its terms, and log p(x)."""
    rows = [(what, mean, error) for what, mean, error in numbers(evaluation)]
    _print_table(f"nats per example, {_rows(evaluation['num_rows'])} of {part}", ("", "mean", "± s.e."), rows)
    console = _console()
    console.print(f"binarization {evaluation['binarization']}, scaling {evaluation['scaling']}", style="dim")
    if "grey_objective" in evaluation:
        console.print("grey pixels under a Bernoulli decoder: there is no log p(x), and no other data to compare with")
    elif evaluation["log_jacobian"]:
        console.print(about_units(evaluation["log_jacobian"]))


def print_report(report: Report) -> None:
    """The numbers, and what they mean in words."""
    print_evaluation(report.content, report.content["part"])
    console = _console()
    for answer in report.answers:
        console.print(f"\n[bold]{escape(answer.question)}[/bold] {escape(as_flags(answer.text))}")
    console.print()
    for section in report.sections:
        console.print(f"* {section.question} {as_flags(section.headline)}", markup=False)


def print_comparison(lines: Sequence[Compared], part: str) -> None:
    """A line per model, with its difference to the first."""
    n = lines[0].elbo.num_rows
    columns = ["run", "ELBO", "log p(x)", "log p(x) less the first's", "rows better"]
    if lines[0].log_p is None:
        columns[2:4] = ["ELBO less the first's"]
    rows = []
    for i, line in enumerate(lines):
        difference = line.elbo_difference if line.log_p_difference is None else line.log_p_difference
        values = [nats(line.elbo)]
        if line.log_p is not None:
            values.append(nats(line.log_p))
        values += [nats(difference), f"{100 * line.rows_better:.0f} %"] if i else ["", ""]
        rows.append((line.name, *values))
    _print_table(f"nats per example, {_rows(n)} of {part}; differences row by row", columns, rows, paths=True)
    console = _console()
    if len({line.method for line in lines}) > 1:
        by = ", ".join(f"{line.name} {WORDS[line.method]}" for line in lines)
        console.print(f"log p(x) by: {by}. Importance sampling is low in expectation.", markup=False)
    for line in lines:
        if line.rows_in_doubt:
            some = f"in {line.rows_in_doubt:,} of {n:,} rows"
            told = (
                f"cannot be trusted {some}"
                if line.quadrature_error is None
                else f"is known to {line.quadrature_error:.2g} nats: {some} the grid was not fine or wide enough"
            )
            console.print(f"log p(x) of {line.name} {told}; see aevb evaluate", markup=False)
    if told := one_value_words(max((line.of_one_value for line in lines), key=len)):
        console.print(told, markup=False)
    jacobians = {line.log_jacobian for line in lines}
    if jacobians != {0.0}:
        same = about_units(jacobians.pop()) if len(jacobians) == 1 else ""
        console.print(same or "Densities are in the data's own units, whatever each model's scaling.")


@contextlib.contextmanager
def gradient_lines(*, quiet: bool) -> Iterator[Callable[[EstimatorNoise], None]]:
    """A table of gradient noise whose lines appear as they are measured. Where it is too wide each estimator has its
    numbers below it."""
    if quiet:
        yield lambda line: None
        return
    console = _console()
    columns = ("variance q", "SNR q", "variance p", "SNR p", "ms a draw")
    form = "{:<21}{:>8}{:>11}{:>9}{:>11}{:>9}{:>11}"
    wide = len(form.format("", "", *columns)) <= console.width

    def ratio(snr: float) -> str:
        return "-" if math.isnan(snr) else f"{snr:.3g}"  # neither signal nor noise

    def show(line: EstimatorNoise) -> None:
        q, p = line.groups["recognition"], line.groups["generative"]
        numbers = [f"{q.variance:.3g}", ratio(q.signal_to_noise), f"{p.variance:.3g}", ratio(p.signal_to_noise)]
        numbers.append(f"{1e3 * q.seconds_per_draw:.2f}")
        if wide:
            print(form.format(line.estimator, line.num_samples, *numbers), flush=True)
        else:
            _print_below(console, line.estimator, ("samples", *columns), (str(line.num_samples), *numbers))
            sys.stdout.flush()

    console.print(
        "gradient of the bound per example: variance summed over parameters, and signal-to-noise ratio |E g| / sd, of "
        "the recognition model q(z | x) and the generative model p(x, z). iwae and dreg climb their own bound.",
        markup=False,
    )
    if wide:
        print(form.format("estimator", "samples", *columns))
    yield show


def print_info(fitted: FittedModel) -> None:
    """Layers, configuration, data and result."""
    console = _console()
    generative = untie(fitted.generative)
    for title, model, first in (
        ("encoder q(z | x)", fitted.encoder, f"x ({fitted.preset.data_dim})"),
        ("decoder p(x | z) and prior p(z)", generative, f"z ({fitted.latent_dim})"),
    ):
        console.print(_layers(title, model, first))
    total = sum(leaf.size for leaf in _arrays((generative, fitted.encoder)))
    console.print(f"total parameters: {total:,}\n")
    data = fitted.data
    console.print(f"data: {data.name}, {data.num_rows} rows of shape {data.event_shape}", soft_wrap=True)
    console.print(f"fingerprint: {data.fingerprint}\n", soft_wrap=True)
    console.print("configuration:")
    for line in fitted.config.to_toml().splitlines():
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print()
    if "evaluation" in fitted.result:
        print_evaluation(fitted.result["evaluation"], fitted.result["held_out"])
        _say_selected(fitted.result)
    stopped = str(fitted.result.get("stopped", "no result")).replace("_", " ")
    console.print(f"{len(fitted.history)} epochs, {stopped}; aevb {fitted.aevb_version}")


def _layers(title: str, model: eqx.Module, first: str) -> Table:
    """Layer by layer, as Keras' summary() shows a model."""
    table = _table(title, "layer", "input", "output", "parameters")
    table.add_row("input", "", first, "0")
    for path, part in jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda part: isinstance(part, Linear)):
        name = jax.tree_util.keystr(path).lstrip(".")
        if isinstance(part, Linear):
            network = getattr(model, "network", None)
            activation = f" ({network.activation})" if name.startswith("network") and isinstance(network, MLP) else ""
            table.add_row(name + activation, *map(str, part.weight.shape), f"{part.weight.size + part.bias.size:,}")
        elif eqx.is_inexact_array(part):
            table.add_row(name, "", " x ".join(map(str, part.shape)), f"{part.size:,}")
    table.add_section()
    table.add_row("total", "", "", f"{sum(leaf.size for leaf in _arrays(model)):,}")
    return table


def _rows(num_rows: int) -> str:
    return "1 row" if num_rows == 1 else f"{num_rows} rows"


def _arrays(tree: Any) -> list[Any]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, paths: bool = False) -> None:
    """A table whose first column is a name and whose others are numbers, which are never broken.

    Where a name is too long it is folded; a path loses its beginning, for its end is what tells two runs apart. Where
    that would leave too little of the names, each has its numbers below it.
    """
    console = _console()
    columns, *cells = [[in_encoding(cell, console.encoding) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if _total(widths) > console.width:  # headings are broken between their words
        words = [[max(map(len, heading.split()), default=0)] for heading in columns]
        widths[1:] = [max(*word, *(len(row[i]) for row in cells)) for i, word in enumerate(words)][1:]
        widths[0] = min(widths[0], console.width - _total([0, *widths[1:]]))
    names = [row[0] for row in cells]
    if paths and widths[0] > 3:
        names = [name if len(name) <= widths[0] else "..." + name[3 - widths[0] :] for name in names]
    if (widths[0] < 12 and widths[0] < max(map(len, names))) or len(set(names)) < len({row[0] for row in cells}):
        console.print(title, style="bold", markup=False)
        for name, *numbers_of_it in cells:
            _print_below(console, name.strip(), columns[1:], numbers_of_it)
        return
    table = _table(title)
    for i, (heading, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", width=width)
    for name, row in zip(names, cells, strict=True):
        table.add_row(*(escape(cell) for cell in (name, *row[1:])))
    console.print(table)


def _print_below(console: Console, name: str, headings: Sequence[str], cells: Sequence[str]) -> None:
    """A line of a table that is too wide: the name, and each number below it."""
    console.print(name, markup=False, overflow="fold")
    for heading, cell in zip(headings, cells, strict=True):
        if cell:
            between = " " if len(heading) + len(cell) + 3 <= console.width else "\n    "
            console.print(f"  {heading}{between}{cell}", markup=False)


def _total(widths: Sequence[int]) -> int:
    """Characters that a table of such columns takes, lines and margins included."""
    return sum(widths) + 3 * len(widths) + 1


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for `main`, where Rich would end the process with a code of its own


def _console() -> Console:
    return _Console(highlight=False)
