"""What calibration, predictive checks and samples say of a model, in plain words."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from ._calibration import LOG_JOINT, Calibration, Shape
from ._exchange import EXCHANGES
from ._generation import ColumnStatistics, NearestRows, memorisation
from ._predictive import PredictiveCheck
from ._words import Verdict

# False alarms of all predictive statistics together, and of all readings of `memorisation` together.
_PREDICTIVE_ALPHA, _COPIES_ALPHA = 0.05, 0.001

# --- calibration ------------------------------------------------------------------------------------------------------

# What each shape says of the draws, for a dimension of z and for log p(x, z).
_MEANING: Mapping[Shape, tuple[str, str]] = {
    "uniform": ("as it should be", "as it should be"),
    "shifted low": ("the draws are too low", "the draws have too low a p(x, z): q is too wide or in the wrong place"),
    "shifted high": ("the draws are too high", "the draws have too high a p(x, z): q is too narrow"),
    "under-dispersed": ("the draws are too narrow", "the draws differ too little in p(x, z)"),
    "over-dispersed": ("the draws are too wide", "the draws differ too much in p(x, z)"),
    "other": ("the draws have another shape than the posterior", "the draws have another shape than the posterior"),
}


def calibration_verdict(calibration: Calibration) -> Verdict:
    """Whether q(z | x) could be told from the posterior where the model's own data lie.

    Example:
        >>> from aevb.evaluate import rank_calibration
        >>> ranks = np.arange(200)[:, None] % 20
        >>> print(calibration_verdict(rank_calibration(ranks, 19, ("z_1",))).headline)
        No error of q(z | x) was found in 200 simulations (smallest of 1 p-values 1, limit 0.01).
    """
    c = calibration
    n, num_quantities = c.ranks.shape
    limit = (1 - c.level) / num_quantities
    scope = "The data are the model's own: this says nothing of its fit to real data."
    if c.calibrated:
        return Verdict(
            f"No error of q(z | x) was found in {n} simulations (smallest of {num_quantities} p-values "
            f"{c.p_values.min():.2g}, limit {limit:.2g}).",
            "That is necessary for q(z | x) to be the posterior, not sufficient: it does not prove it, and "
            f"{n} simulations cannot show small errors. {scope}",
        )
    wrong = [i for i in np.lexsort((-c.max_deviation, c.p_values)) if not c.within[i]]
    told = [
        f"{c.names[i]} {c.shapes[i]} ({_MEANING[c.shapes[i]][c.names[i] == LOG_JOINT]}; p-value {c.p_values[i]:.2g})"
        for i in wrong[:3]
    ]
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Verdict(
        f"q(z | x) differs from the model's posterior: {len(wrong)} of {num_quantities} quantities show it in {n} "
        "simulations.",
        f"{'; '.join(told)}{more} (limit {limit:.2g}). Do not take the spreads and intervals of q(z | x) at their "
        f"word. {scope}",
        "Longer training, a larger encoder (--hidden) or a richer posterior (--posterior) may bring q(z | x) nearer "
        "to the posterior.",
    )


# --- predictive checks ------------------------------------------------------------------------------------------------


def predictive_verdict(check: PredictiveCheck) -> Verdict:
    """Which statistics of the data the model does not reproduce: all tested at once, at 5 % together (Bonferroni).

    One that is the same number in the data and in all replicates tests nothing, and is not counted.

    Example:
        >>> one, made = np.ones(1), np.ones((99, 1))
        >>> check = PredictiveCheck("prior", ("sd",), 5 * one, made, one, 0 * one, made[:3].T, 0.02 * one)
        >>> print(predictive_verdict(check).headline)
        1 of 1 statistics of the data is not reproduced: sd.
    """
    tested, replicates = np.flatnonzero(check.tested), len(check.replicated)
    num = len(tested)
    same = ", ".join(check.names[i] for i in np.flatnonzero(~check.tested))
    not_tested = f"Not tested, the same number in the data and in all replicated data: {same}." if same else ""
    if num == 0:
        return Verdict("No statistic of the data could be tested.", not_tested)
    limit = _PREDICTIVE_ALPHA / num
    needed = math.ceil(2 * num / _PREDICTIVE_ALPHA - 1e-9) - 1
    if replicates < needed:
        return Verdict(
            f"{replicates} replicated data sets are too few to test {num} statistics at once.",
            f"Make {needed:,} or more, so that a p-value can be below {limit:.2g}. {not_tested}".rstrip(),
        )
    how = f"All {num} are tested at once: limit {limit:.2g} for each p-value, {100 * _PREDICTIVE_ALPHA:.0f} % together."
    how = f"{how} {not_tested}".rstrip()
    bad = [i for i in tested if check.p_values[i] <= limit * (1 + 1e-9)]
    if not bad:
        return Verdict(
            f"No misfit was found in {num} statistics of replicated data (least p-value "
            f"{check.p_values[tested].min():.2g}).",
            f"Checked: {', '.join(check.names[i] for i in tested)}. {how} Other statistics may differ.",
        )
    parts = [
        f"{check.names[i]}: {check.observed[i]:.4g} in the data, {check.mean[i]:.4g} ± {check.sd[i]:.2g} in replicated "
        f"data (p-value {check.p_values[i]:.2g})"
        for i in bad
    ]
    return Verdict(
        f"{len(bad)} of {num} statistics of the data {'is' if len(bad) == 1 else 'are'} not reproduced: "
        f"{', '.join(check.names[i] for i in bad)}.",
        f"{'; '.join(parts)}. {how}",
        "A larger network, more latent dimensions (--latent-dim) or another --likelihood may fit the data better.",
    )


# --- samples ----------------------------------------------------------------------------------------------------------


def columns_verdict(columns: ColumnStatistics, names: tuple[str, ...] | None = None) -> Verdict:
    """Whether ancestral samples have the data's column means.

    Args:
        columns: of `column_statistics`.
        names: of the columns; None: x_1, x_2, ...

    Example:
        >>> from aevb.evaluate import column_statistics
        >>> rows = np.random.default_rng(0).normal(size=(100, 2))
        >>> print(columns_verdict(column_statistics(rows + np.array([0, 9]), rows), ("age", "height")).headline)
        1 of 2 columns has a mean in samples that is more than 5 standard errors from the data's.
    """
    num = len(columns.mean)
    far = int(np.count_nonzero(np.abs(columns.z_score) > columns.limit))
    away = f"more than {columns.limit:g} standard errors from the data's"
    if far == 0:
        one = "The one column has no mean in samples" if num == 1 else f"None of {num:,} columns has a mean in samples"
        return Verdict(f"{one} that is {away}.", "")
    j = int(columns.worst[0])
    name = names[j] if names else f"x_{j + 1}"
    return Verdict(
        f"{far:,} of {num:,} column{'' if num == 1 else 's'} {'has' if far == 1 else 'have'} a mean in samples that is "
        f"{away}.",
        f"The worst is {name}: {columns.mean[j]:.3g} in samples, {columns.data_mean[j]:.3g} in the data. Chance alone "
        f"does that in one column or more with a probability of {1 / (EXCHANGES + 1):g} at most.",
    )


def memorisation_verdict(nearest: NearestRows, trained_on: Bool[np.ndarray, " H"] | None = None) -> Verdict:
    """Whether samples lie nearer to the training rows than rows that the model has never seen.

    Three readings of `memorisation` are tested at once; their p-values are Bonferroni's, at 0.1 % together.

    Args:
        nearest, trained_on: as for `memorisation`.

    Example:
        >>> from aevb.evaluate import nearest_rows
        >>> train, held_out = np.arange(0.0, 100.0)[:, None], np.arange(0.25, 100.0)[:, None]
        >>> print(memorisation_verdict(nearest_rows(train[:50], train, held_out=held_out)).headline)
        Samples are too near to training rows: the median distance of samples is 0.00 times that of held-out rows.
    """
    m = memorisation(nearest, trained_on)
    nearer, close, farther = (min(1.0, 3 * p) for p in (m.p_value_nearer, m.p_value_close, m.p_value_farther))
    distance = f"the median distance of samples is {m.median_ratio:.2f} times that of held-out rows"
    rows = f"{m.num_held_out} held-out row{'' if m.num_held_out == 1 else 's'}"
    numbers = (
        f"{100 * m.share_close:.1f} % of the samples are nearer than all but the nearest "
        f"{100 * m.expected_share_close:.1f} % of {rows}. p-values, of three tests at once: "
        f"nearer {nearer:.2g}, very near {close:.2g}, farther {farther:.2g}."
    )
    if math.isnan(m.median_ratio):
        return Verdict(
            "No check of copies.",
            "At least half of the held-out rows equal a training row: repeated rows and copies cannot be told apart.",
        )
    # The least p-value that there is: every sample nearer than every held-out row.
    if 3 / math.comb(len(nearest.distance) + m.num_held_out, m.num_held_out) >= _COPIES_ALPHA:
        are = "is" if m.num_held_out == 1 else "are"
        few = f"{rows} {are} too few to tell by {len(nearest.distance):,} samples."
        return Verdict("No check of copies.", f"{few} {numbers}")
    if min(nearer, close) < _COPIES_ALPHA:
        return Verdict(
            f"Samples are too near to training rows: {distance}.",
            f"{numbers} Either training rows are copied, or samples vary less than data do.",
            "Look at the samples beside their nearest training rows.",
        )
    if farther < _COPIES_ALPHA:
        return Verdict(
            f"No copies were found, but samples lie too far away: {distance}.",
            f"{numbers} The model makes rows that are unlike the data.",
        )
    return Verdict(
        f"No copies of training rows were found: {distance}.",
        f"{numbers} A few copies among many samples can be missed.",
    )
