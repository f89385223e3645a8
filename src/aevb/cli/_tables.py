"""Tables for the terminal."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
from rich.console import Console
from rich.table import Table

from aevb.evaluate import EstimatorNoise
from aevb.fitted import FittedModel
from aevb.models import Linear, untie
from aevb.rundir import RunDirectory

LABELS = {
    "elbo": "ELBO",
    "log_likelihood": r"  reconstruction E_q\[log p(x|z)]",
    "grey_objective": "objective (grey pixels, not a likelihood)",
    "negative_cross_entropy": "  minus cross-entropy",
    "kl": "  KL(q(z|x) || p(z))",
}


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
    if result["skipped_steps"]:
        console.print(f"{result['skipped_steps']} steps were skipped: their bound or gradient was not finite")
    console.print("files:")
    for path in run.files():
        console.print(f"  {path}", soft_wrap=True)


def print_evaluation(evaluation: Mapping[str, Any], part: str) -> None:
    """The ELBO and its terms, and log p(x)."""
    table = _table(f"nats per example, {evaluation['num_rows']} rows of {part}", "", "mean", "± s.e.")
    for key, label in LABELS.items():
        if key in evaluation:
            sampled_kl = key == "kl" and not evaluation.get("kl_is_exact", True)
            table.add_row(label + (", sampled" if sampled_kl else ""), *_cells(evaluation[key]))
    sampled = evaluation["importance_sampled_log_likelihood"]
    if sampled is not None:
        table.add_row(f"log p(x), importance sampling, K={evaluation['num_samples']}", *_cells(sampled))
    console = _console()
    console.print(table)
    console.print(f"binarization {evaluation['binarization']}, scaling {evaluation['scaling']}", style="dim")
    if "grey_objective" in evaluation:
        console.print("grey pixels under a Bernoulli decoder: there is no log p(x), and no other data to compare with")
    elif evaluation["log_jacobian"]:
        console.print(
            f"densities are of the scaled data; add {evaluation['log_jacobian']:.2f} nats for the data's own units"
        )


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


def _cells(mean: Mapping[str, float | None]) -> tuple[str, str]:
    value, error = mean["mean"], mean["standard_error"]
    assert value is not None
    return f"{value:.2f}", "" if error is None else f"{error:.2f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _console() -> Console:
    return Console(highlight=False)
