"""The diagnostics of a fitted model, one function each: what it found, in plain words, and what is pictured."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from aevb import evaluate
from aevb.fitted import FittedModel, Key
from aevb.models import AbstractGenerativeModel, AbstractRecognitionModel

from . import _verdicts
from ._log_p import Progress

# Each is a matter of seconds to a minute for an image model.
LATENT_ROWS, GAP_ROWS, SIMULATIONS, PREDICTIVE_ROWS, GENERATED, COMPARED = 10_000, 50, 500, 1000, 1000, 500


class Subject(NamedTuple):
    """What is diagnosed."""

    fitted: FittedModel
    x: np.ndarray  # held-out rows as the models see them, (N, D)
    chosen: np.ndarray  # of those that log p(x) was estimated on, (M,)
    log_p: np.ndarray | None  # of these, (M,), nats
    train: np.ndarray | None  # training rows as the models see them

    @property
    def models(self) -> tuple[AbstractGenerativeModel, AbstractRecognitionModel]:
        """(generative, recognition)."""
        return self.fitted.generative, self.fitted.recognition


class Finding(NamedTuple):
    """One diagnostic's part of the report."""

    content: dict[str, Any]
    verdict: str
    pictured: dict[str, Any]


def diagnose(subject: Subject, on_progress: Progress) -> Iterator[tuple[str, Finding]]:
    """Each diagnostic that suits the model, by name. One that this family of models has not says why."""
    stages: dict[str, Callable[[Subject], Finding]] = {"latent": _latent}
    if not subject.fitted.preprocessing.grey:  # without a likelihood there is no model of the data to hold against them
        stages |= {
            "gaps": _gaps,
            "calibration": _calibration,
            "predictive": _predictive,
            "generation": _generation,
        }
    for done, (name, stage) in enumerate(stages.items()):
        on_progress(name, done, len(stages))
        try:
            yield name, stage(subject)
        except (TypeError, ValueError) as error:
            yield name, Finding({"left_out": str(error)}, f"No {name} check: {error}.", {})
    on_progress("diagnostics", len(stages), len(stages))


def plain(m: evaluate.Mean) -> dict[str, float]:
    """A mean for the report."""
    return {"mean": m.value, "standard_error": m.standard_error}


def _latent(subject: Subject) -> Finding:
    key = subject.fitted.evaluation_key(Key.LATENT)
    # An inverse autoregressive flow needs J passes for each of the N^2 densities.
    num_aggregate = 500 if subject.fitted.architecture.posterior == "iaf" else 2000
    d = evaluate.latent_diagnostics(*subject.models, subject.x[:LATENT_ROWS], key, num_aggregate=num_aggregate)
    return Finding(d.to_dict(), evaluate.collapse_verdict(d), {"latent": d})


def _gaps(subject: Subject) -> Finding:
    rows = subject.x[subject.chosen[:GAP_ROWS]]
    content: dict[str, Any] = {"num_rows": len(rows)}
    for family in get_args(evaluate.GaussianFamily):
        key = subject.fitted.evaluation_key(Key.GAPS)
        gaps = evaluate.inference_gaps(*subject.models, rows, key, family=family)
        if subject.log_p is not None:
            # Both are lower bounds in expectation: the larger one is nearer to log p(x), as Cremer et al. take it.
            log_p = np.maximum(subject.log_p[:GAP_ROWS], gaps.log_likelihood)
            gaps = gaps._replace(
                log_likelihood=log_p, approximation_gap=log_p - gaps.optimised_elbo, gap=log_p - gaps.elbo
            )
        content[family] = {name: plain(value) for name, value in gaps.means._asdict().items()}
    return Finding(content, _verdicts.of_gaps(content), {})


def _calibration(subject: Subject) -> Finding:
    key = subject.fitted.evaluation_key(Key.CALIBRATION)
    found = evaluate.simulation_based_calibration(*subject.models, key, num_simulations=SIMULATIONS)
    return Finding(found.to_dict(), evaluate.calibration_verdict(found), {"calibration": found})


def _predictive(subject: Subject) -> Finding:
    key = subject.fitted.evaluation_key(Key.PREDICTIVE)
    check = evaluate.posterior_predictive_check(*subject.models, subject.x[subject.chosen[:PREDICTIVE_ROWS]], key)
    return Finding(check.to_dict(), _verdicts.of_predictive(check), {})


def _generation(subject: Subject) -> Finding:
    keys = jax.random.split(subject.fitted.evaluation_key(Key.GENERATION), GENERATED)
    samples = np.asarray(_ancestral(subject.fitted.generative, keys))
    columns = evaluate.column_statistics(samples, subject.x)
    content: dict[str, Any] = {"num_samples": len(samples), "columns": columns.to_dict()}
    verdict = _verdicts.of_columns(columns, subject.fitted.columns)
    pictured = {"samples": samples}
    if subject.train is not None:
        near = evaluate.nearest_rows(samples[:COMPARED], subject.train, held_out=subject.x[:COMPARED])
        content["memorisation"] = evaluate.memorisation(near)._asdict()
        verdict += " " + evaluate.memorisation_verdict(near)
        pictured["nearest"] = subject.train[near.row_index[:, 0]]
    return Finding(content, verdict, pictured)


@eqx.filter_jit
def _ancestral(generative: AbstractGenerativeModel, keys: PRNGKeyArray) -> Array:
    return jax.vmap(lambda key: generative.sample(key)[0])(keys)
