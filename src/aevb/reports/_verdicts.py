"""What the numbers mean, in plain words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aevb.evaluate import KHAT_LIMIT as KHAT_LIMIT
from aevb.evaluate import ColumnStatistics, PredictiveCheck, untrustworthy

from ._settings import KEYS, WORDS, ReportSettings

# A share of rows with such weights that is worth a warning, and an effective sample size that is too small for one.
_SHARE, _FEW = 0.05, 2.0
# Nats of error below which a row counts as resolved by quadrature: twice its tolerance, for rounding.
RESOLVED = 0.002


def nats(mean: Mapping[str, Any]) -> str:
    """A mean with its standard error, in as many decimals as the error allows.

    Example:
        >>> nats({"mean": -137.5234, "standard_error": 0.4812}), nats({"mean": -0.12345, "standard_error": 0.0004})
        ('-137.52 ± 0.48', '-0.1235 ± 0.0004')
    """
    value, error = cells(mean)
    return f"{value} ± {error}" if error else value


def cells(mean: Mapping[str, Any]) -> tuple[str, str]:
    """The mean and its standard error as text: two decimals, and a third or fourth where the error is that small."""
    value, error = mean["mean"], mean["standard_error"]
    if error is None or not np.isfinite(error):
        return f"{value:.2f}", ""
    decimals = 2 if error >= 0.005 else 3 if error >= 0.0005 else 4
    return f"{value:.{decimals}f}", f"{error:.{decimals}f}"


def of_log_p(
    content: Mapping[str, Any], settings: ReportSettings, elbo: np.ndarray, per_row: Mapping[str, np.ndarray]
) -> list[str]:
    """On the estimate of log p(x): its value, what the bound misses, and whether it can be trusted."""
    if "grey_objective" in content:
        return [
            "These are grey pixels under a Bernoulli decoder: the objective is a cross-entropy. There is no log p(x), "
            "and the numbers cannot be compared with those of binarised data."
        ]
    if settings.method == "elbo":
        return [f"The ELBO is {nats(content['elbo'])} nats; log p(x) is above it by an amount that was not estimated."]
    estimate = content[KEYS[settings.method]]
    slack = per_row["log_likelihood"].astype(np.float64) - elbo
    error = float(slack.std(ddof=1) / np.sqrt(len(slack))) if len(slack) > 1 else None
    # log p(x) is never below the bound, but an estimate of it can be.
    where = "lower" if slack.mean() >= 0 else "higher, which is the noise of few samples or rows"
    lines = [
        f"log p(x) is {nats(estimate)} nats by {WORDS[settings.method]} on {estimate['num_rows']:,} rows; the ELBO of "
        f"these rows is {nats({'mean': abs(slack.mean()), 'standard_error': error})} nats {where}."
    ]
    if settings.method == "quadrature":
        return [*lines, _of_quadrature(per_row["error"])]
    effective = per_row["effective_sample_size"]
    if settings.method == "is":
        khat = per_row["khat"]
        share = float(np.mean(untrustworthy_rows(per_row, settings)))
        if np.isnan(khat).all():
            lines.append("Too few samples to tell a tail of the importance weights: use --num-samples 25 or more.")
        elif share > _SHARE:
            lines.append(
                f"Do not trust it for {100 * share:.0f} % of the rows: their importance weights have so heavy a tail "
                f"(k-hat above {KHAT_LIMIT}) that neither log p(x), which is too low in expectation, nor its error bar "
                "can be believed. "
                "Use --method ais."
            )
        else:
            lines.append(
                f"Importance weights are well behaved: k-hat is above {KHAT_LIMIT}, and matters, in "
                f"{100 * share:.1f} % of the rows, "
                f"and {np.median(effective):.0f} of {settings.num_samples} samples are effective in the median row."
            )
        return lines
    few = float(np.mean(effective < _FEW))
    what = "chain" if settings.method == "ais" else "posterior sample"
    if few > _SHARE:
        lines.append(
            f"In {100 * few:.0f} % of the rows a single {what} carries the estimate, so its error bar cannot be trusted"
            + (": use more --distributions." if settings.method == "ais" else ": use --method ais.")
        )
    gap = content.get("bidirectional_gap")
    if gap is not None:
        lines.append(
            f"On {gap['num_simulated']} rows simulated from the model, AIS from both ends leaves {nats(gap)} nats "
            "between its lower and its upper bound: so much it may be wrong by, if the data are like the model's own."
        )
    if settings.method == "hmc":
        lines.append(
            "The harmonic mean is a bound on neither side: chains that missed a part of the posterior make it too low, "
            "tails that no sample met make it too high, and its error bar knows of neither."
        )
    return lines


def untrustworthy_rows(per_row: Mapping[str, np.ndarray], settings: ReportSettings) -> np.ndarray:
    """Of resolved settings with method "is"."""
    assert settings.num_samples is not None
    return untrustworthy(
        per_row["khat"], per_row["effective_sample_size"], per_row["standard_error"], settings.num_samples
    )


def _of_quadrature(error: np.ndarray) -> str:
    doubtful = ~(error <= RESOLVED)
    if not doubtful.any():
        return f"Quadrature is good to {max(error.max(), 0.001):.3f} nats in every row."
    return (
        f"In {doubtful.sum():,} of {len(error):,} rows the grid was not fine or wide enough, and log p(x) may be off "
        f"by {np.nanmax(error):.2g} nats; rows.csv has each row's error. Compare with --method ais."
    )


def of_gaps(gaps: Mapping[str, Any]) -> str:
    """Where the bound is loose, and what would tighten it."""
    one, full = gaps["diagonal"], gaps["full-covariance"]
    amortisation, approximation = one["amortisation_gap"]["mean"], one["approximation_gap"]["mean"]
    text = (
        f"Of the {nats(one['gap'])} nats between the ELBO and log p(x) ({gaps['num_rows']} rows), "
        f"{nats(one['amortisation_gap'])} are the encoder's (a Gaussian fitted to each row alone would win them back) "
        f"and {nats(one['approximation_gap'])} are the Gaussian family's; with full covariance the family would lose "
        f"{nats(full['approximation_gap'])}."
    )
    if max(amortisation, approximation) < 0.1:
        return text + " The bound is tight."
    if amortisation > approximation:
        return text + " A larger encoder (--hidden) or longer training would tighten the bound most."
    helps = full["approximation_gap"]["mean"] < 0.5 * approximation
    return (
        text
        + f" A richer --posterior ({'full-covariance' if helps else 'iaf, coupling'}) would tighten the bound most."
    )


def of_predictive(check: PredictiveCheck) -> str:
    """Which statistics of the data the model does not reproduce."""
    limit = 2.5 / (len(check.replicated) + 1)  # as extreme as so many replicates can show
    bad = [i for i, p in enumerate(check.p_values) if p <= limit]
    if not bad:
        return f"Data replicated from the posteriors reproduce the checked statistics ({', '.join(check.names)})."
    parts = [
        f"{check.names[i]} ({check.observed[i]:.4g}, replicated {check.mean[i]:.4g} ± {check.sd[i]:.2g})" for i in bad
    ]
    return f"Data replicated from the posteriors differ from the real ones in: {'; '.join(parts)}."


def of_columns(columns: ColumnStatistics, names: tuple[str, ...] | None) -> str:
    """Whether ancestral samples have the data's column means."""
    share = 100 * columns.share_far
    text = (
        f"Of {len(columns.mean)} columns, {share:.0f} % have a mean in ancestral samples further than 5 s.e. from the "
        "data's"
    )
    if columns.share_far == 0 or len(columns.worst) == 0:
        return text + "."
    j = int(columns.worst[0])
    name = names[j] if names else f"x_{j + 1}"
    return text + f"; the worst is {name}: {columns.mean[j]:.3g} against {columns.data_mean[j]:.3g}."
