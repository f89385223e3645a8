"""What the gaps between the ELBO and log p(x) mean, in plain words."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from ._gaps import GaussianFamily, InferenceGaps
from ._summary import mean
from ._words import Verdict, above, below, minus, nats, sigmas

# A gap that is tight, and a share of rows without a trustworthy log p(x) that is worth a warning.
_TIGHT, _SHARE = 0.1, 0.05


def gaps_verdict(
    gaps: Mapping[GaussianFamily, InferenceGaps],
    own: GaussianFamily | None,
    *,
    has_flow: bool = False,
    in_doubt: Bool[np.ndarray, " N"] | None = None,
    lower_bound: bool = True,
) -> Verdict:
    """Where the bound is loose, and what may tighten it.

    Args:
        gaps: of both families, with one and the same log p(x); see `gaps_by_family`.
        own: which of the families the model's posterior is; None: neither. The advice depends on it.
        has_flow: whether the posterior is made by a flow, and so holds more than Gaussians.
        in_doubt: the rows whose log p(x) cannot be trusted. None: there is none.
        lower_bound: whether log p(x) is too low in expectation, so that the gap is larger than it looks; True for
            importance sampling, which `gaps_by_family` takes where no log p(x) is given.

    Example:
        >>> from aevb.evaluate import GapErrors
        >>> n = np.zeros(4)
        >>> g = InferenceGaps(n - 3, n - 2, n - 1, n + 1, n + 1, n + 2, n + 9, n, GapErrors(n, n, n, n, n, n))
        >>> print(gaps_verdict({"diagonal": g, "full-covariance": g}, "diagonal").headline)
        The ELBO is at least 2.00 ± 0.00 nats below log p(x) (4 rows).
    """
    gap = mean(gaps["diagonal"].gap)
    least = "at least " if lower_bound else ""
    rows = f"({gap.num_rows} row{'' if gap.num_rows == 1 else 's'})"
    share = 0.0 if in_doubt is None else float(np.mean(in_doubt))
    trusted = share <= _SHARE
    if above(gap):
        # One that is too low in expectation is at least that, trusted or not.
        doubt = "" if trusted or lower_bound else ", if log p(x) can be believed"
        headline = f"The ELBO is {least}{nats(gap)} nats below log p(x) {rows}{doubt}."
    elif below(gap):
        headline = f"The estimate of log p(x) is too low: it is {nats(minus(gap))} nats below the ELBO {rows}."
    else:
        headline = f"The ELBO cannot be told from log p(x): the difference is {nats(gap)} nats {rows}."
    if own is not None:
        details, advice = _parts(gaps, own, trusted, least)
    else:
        details, advice = _against_gaussians(gaps["full-covariance"], has_flow)
    if not trusted:
        details.append(f"In {100 * share:.0f} % of the rows log p(x) cannot be trusted, and neither can the gap.")
    return Verdict(headline, " ".join(details), advice)


def _parts(
    gaps: Mapping[GaussianFamily, InferenceGaps], own: GaussianFamily, trusted: bool, least: str
) -> tuple[list[str], str]:
    """The encoder's part and the family's, where the posterior is one of the two families; and advice."""
    g, full = gaps[own], gaps["full-covariance"]
    gap, encoder, family = mean(g.gap), mean(g.amortisation_gap), mean(g.approximation_gap)
    name = "diagonal Gaussian" if own == "diagonal" else "Gaussian of full covariance"
    told = []
    if below(encoder):
        told.append(
            f"A {name} fitted to each row alone is {nats(minus(encoder))} nats below the encoder's: the fit fell "
            "short, and the parts of the gap are not known."
        )
    elif above(encoder):
        told.append(f"A {name} fitted to each row alone would win {nats(encoder)} nats: the price of one encoder.")
    else:
        told.append(
            f"What a {name} fitted to each row alone would win cannot be told from zero ({nats(encoder)} nats)."
        )
    if below(family):
        told.append(
            f"The estimate of log p(x) is {nats(minus(family))} nats below a bound on it: it is too low by that much "
            "or more."
        )
    elif above(family):
        told.append(f"The {name} itself loses {least}{nats(family)} nats: the price of the family.")
    else:
        told.append(f"What the {name} itself loses cannot be told from zero ({nats(family)} nats).")
    if below(encoder) or below(family):
        return told, ""
    won = mean(full.optimised_elbo - g.optimised_elbo)
    if own == "diagonal" and above(family):
        told.append(
            f"A full covariance would win {nats(won)} nats of that."
            if above(won)
            else f"What a full covariance would win of that cannot be told from zero ({nats(won)} nats)."
        )
    if trusted and gap.value + sigmas(gap.num_rows) * gap.standard_error < _TIGHT:
        return [*told, "The bound is tight."], ""
    difference = mean(g.amortisation_gap - g.approximation_gap)
    if above(difference) and above(encoder):
        return told, "A larger encoder (--hidden) or longer training may tighten the bound most."
    if below(difference) and above(family):
        helps = own == "diagonal" and above(won) and won.value > 0.5 * family.value
        richer = "--posterior full-covariance" if helps else "--posterior iaf or coupling"
        return told, f"A richer posterior ({richer}) may tighten the bound most."
    if above(encoder) or above(family):
        told.append("Which of the two parts is larger cannot be told from these rows.")
    return told, ""


def _against_gaussians(full: InferenceGaps, has_flow: bool) -> tuple[list[str], str]:
    """Where the posterior is neither family, its gap does not fall into the two parts; and advice."""
    won = mean(full.amortisation_gap)
    best = "the best Gaussian of full covariance for each row"
    if above(won):
        advice = (
            "Longer training or a larger encoder (--hidden) may tighten the bound."
            if has_flow
            else "A richer posterior (--posterior full-covariance, iaf or coupling) or longer training may tighten "
            "the bound."
        )
        return [f"The encoder is {nats(won)} nats below {best}."], advice
    if below(won):
        return [
            f"The encoder is {nats(minus(won))} nats above {best} that was found: its family holds more than "
            "Gaussians, or the fit fell short."
        ], ""
    return [f"The encoder cannot be told from {best} (the difference is {nats(won)} nats)."], ""
