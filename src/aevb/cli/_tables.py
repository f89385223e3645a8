"""Tables for the terminal."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aevb.evaluate import EstimatorNoise, Mean
from aevb.fitted import FittedModel
from aevb.models import Linear, untie
from aevb.reports import Compared, Report, nats, numbers
from aevb.rundir import RunDirectory


def print_result(fitted: FittedModel, run: RunDirectory) -> None:
    """What a fit came to, and the files that it wrote."""
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
    if result["skipped_steps"]:
        console.print(f"{result['skipped_steps']} steps were skipped: their bound or gradient was not finite")
    console.print("files:")
    for path in run.files():
        console.print(f"  {path}", soft_wrap=True)


def _say_selected(result: Mapping[str, Any]) -> None:
    """Numbers of the rows that early stopping chose the parameters by are no held-out ones."""
    if result.get("selected_on") and result["selected_on"] == result["held_out"]:
        _console().print(
            "these validation rows also chose the parameters: the numbers are the best of several epochs', in "
            "expectation too high for new rows; for others name test data (--test)"
        )


def print_evaluation(evaluation: Mapping[str, Any], part: str) -> None:
    """The ELBO and its terms, and log p(x)."""
    table = _table(f"nats per example, {evaluation['num_rows']} rows of {part}", "", "mean", "± s.e.")
    for what, mean, error in numbers(evaluation):
        table.add_row(escape(what), mean, error)
    console = _console()
    console.print(table)
    console.print(f"binarization {evaluation['binarization']}, scaling {evaluation['scaling']}", style="dim")
    if "grey_objective" in evaluation:
        console.print("grey pixels under a Bernoulli decoder: there is no log p(x), and no other data to compare with")
    elif evaluation["log_jacobian"]:
        console.print(
            f"densities are of the scaled data; add {evaluation['log_jacobian']:.2f} nats for the data's own units"
        )


def print_report(report: Report, files: Sequence[Path]) -> None:
    """The numbers, what they mean in words, and where the rest is."""
    print_evaluation(report.content, report.content["part"])
    console = _console()
    for verdict in report.verdicts:
        console.print(f"* {verdict}", markup=False)
    if report.content["lowest_rows"]:
        rows = ", ".join(str(item["row"]) for item in report.content["lowest_rows"][:10])
        console.print(f"* Rows with the lowest score, from 0: {rows}.", markup=False)
    if files:
        console.print("files:")
        for path in files:
            console.print(f"  {path}", soft_wrap=True, markup=False)


def print_comparison(lines: Sequence[Compared], part: str) -> None:
    """A line per model, with its difference to the first."""
    n = lines[0].elbo.num_rows
    columns = ["run", "ELBO", "log p(x)", "log p(x) less the first's", "rows better"]
    if lines[0].log_p is None:
        columns[2:4] = ["ELBO less the first's"]
    table = _table(f"nats per example, {n} rows of {part}; differences row by row", *columns)
    for i, line in enumerate(lines):
        difference = line.elbo_difference if line.log_p_difference is None else line.log_p_difference
        values = [nats(_as_dict(line.elbo))]
        if line.log_p is not None:
            values.append(nats(_as_dict(line.log_p)))
        values += [nats(_as_dict(difference)), f"{100 * line.rows_better:.0f} %"] if i else ["", ""]
        table.add_row(escape(line.name), *values)
    _console().print(table)


def _as_dict(mean: Mean) -> dict[str, float]:
    return {"mean": mean.value, "standard_error": mean.standard_error}


@contextlib.contextmanager
def gradient_lines(*, quiet: bool) -> Iterator[Callable[[EstimatorNoise], None]]:
    """A table of gradient noise whose lines appear as they are measured."""
    columns = ("estimator", "samples", "variance q", "SNR q", "variance p", "SNR p", "ms a draw")
    form = "{:<21}{:>8}{:>12}{:>9}{:>12}{:>9}{:>11}"

    def show(line: EstimatorNoise) -> None:
        q, p = line.groups["recognition"], line.groups["generative"]
        numbers = (f"{q.variance:.3g}", f"{q.signal_to_noise:.3g}", f"{p.variance:.3g}", f"{p.signal_to_noise:.3g}")
        print(form.format(line.estimator, line.num_samples, *numbers, f"{1e3 * q.seconds_per_draw:.2f}"), flush=True)

    if quiet:
        yield lambda line: None
        return
    print("gradient of the bound per example: variance summed over parameters, and signal-to-noise ratio |E g| / sd,")
    print("of the recognition model q(z | x) and the generative model p(x, z). iwae and dreg climb their own bound.")
    print(form.format(*columns))
    yield show


def print_info(fitted: FittedModel) -> None:
    """Layers, configuration, data and result."""
    console = _console()
    generative = untie(fitted.generative)
    for title, model, first in (
        ("encoder q(z | x)", fitted.recognition, f"x ({fitted.architecture.data_dim})"),
        ("decoder p(x | z) and prior p(z)", generative, f"z ({fitted.latent_dim})"),
    ):
        console.print(_layers(title, model, first))
    total = sum(leaf.size for leaf in _arrays((generative, fitted.recognition)))
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
            activation = f" ({model.trunk.activation})" if name.startswith("trunk") else ""  # type: ignore[attr-defined]
            table.add_row(name + activation, *map(str, part.weight.shape), f"{part.weight.size + part.bias.size:,}")
        elif eqx.is_inexact_array(part):
            table.add_row(name, "", " x ".join(map(str, part.shape)), f"{part.size:,}")
    table.add_section()
    table.add_row("total", "", "", f"{sum(leaf.size for leaf in _arrays(model)):,}")
    return table


def _arrays(tree: Any) -> list[Any]:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _console() -> Console:
    return Console(highlight=False)
