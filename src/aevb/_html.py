"""A fitted model as a notebook shows it: a small table."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aevb._spec import kind_of

if TYPE_CHECKING:
    from .fitted import FittedModel

# Of an evaluation on the rows by which early stopping chose the parameters.
SELECTED = "which also chose the parameters: the best of several epochs, in expectation too high for new rows"

# Key of an evaluation -> words for it.
_LOG_P = {
    "quadrature_log_likelihood": "log p(x), quadrature",
    "importance_sampled_log_likelihood": "log p(x), importance sampling",
}


def summary_html(fitted: "FittedModel") -> str:
    """Data, model and result, a line each."""
    data, model, training, result = fitted.data, fitted.spec, fitted.config.training, fitted.result
    stopped = str(result.get("stopped", "no result")).replace("_", " ")
    lines = [("data", f"{data.name}, {data.num_rows:,} rows of shape {data.event_shape}")]
    if model is None:
        lines.append(("model", type(fitted.generative).__name__))
    else:
        seen, parts = fitted.preprocessing, f"posterior {model.posterior.kind}, prior {model.prior.kind}"
        lines.append(("seen by the model", f"binarization {seen.binarization}, scaling {seen.scaling}"))
        lines.append(("model", f"{model.sizes}, {model.likelihood.kind} likelihood, {parts}"))
    lines.append(
        (
            "training",
            f"{len(fitted.history)} epochs, {stopped}; estimator {kind_of(training.estimator)}, "
            f"{kind_of(training.optimizer)}",
        )
    )
    evaluation = result.get("evaluation")
    if evaluation is not None:
        bound = fitted.measures[0]
        where = f"{evaluation['num_rows']:,} rows of {result['held_out']}"
        if result.get("selected_on") == result["held_out"]:
            where += f", {SELECTED}"
        lines.append(("ELBO" if bound == "elbo" else bound.replace("_", " "), f"{_nats(evaluation[bound])}, {where}"))
        lines += [(words, _nats(evaluation[key])) for key, words in _LOG_P.items() if evaluation.get(key) is not None]
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in lines)
    return f'<table style="text-align:left">{rows}</table>'


def _nats(mean: Mapping[str, Any]) -> str:
    error = mean["standard_error"]
    return f"{mean['mean']:.2f}" + ("" if error is None else f" ± {error:.2f}") + " nats per example"
