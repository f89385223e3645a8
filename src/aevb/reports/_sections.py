"""What a report is made of: three answers for a newcomer, then a short section for each question."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ._diagnose import Finding


class Answer(NamedTuple):
    """One of the three lines that a report opens with."""

    question: str
    text: str


class Section(NamedTuple):
    """One question about the model: its answer in a line, what is shown beside it, and what is folded away."""

    question: str
    headline: str
    details: tuple[str, ...] = ()  # paragraphs
    figures: tuple[str, ...] = ()  # names of the files without their suffix; what was not drawn is left out
    table: Literal["", "numbers", "lowest rows"] = ""


# The diagnostics in the order of the page.
QUESTIONS = {
    "latent": "What do the latent dimensions carry?",
    "gaps": "Where is the bound loose?",
    "calibration": "Is q(z | x) the model's own posterior?",
    "predictive": "Are data replicated from the posteriors like the real ones?",
    "generation": "Are samples from the prior like the data?",
}
# The same, the gravest first: copies, misfit, then what may be done better. "columns": against independent columns.
_GRAVEST_FIRST = ("generation", "predictive", "columns", "latent", "gaps", "calibration")
_FIGURES = {"latent": ("latent_dimensions",), "calibration": ("calibration",), "generation": ("nearest_rows",)}


def sections_of(findings: Mapping[str, Finding], also: Mapping[str, str]) -> list[Section]:
    """A section for each diagnostic; `also` has what the rest of the report adds to the headline of one, or nothing."""
    sections = []
    for name, question in QUESTIONS.items():
        if name in findings:
            finding = findings[name]
            details = tuple(text for text in (finding.verdict, finding.advice) if text)
            headline = f"{finding.headline} {also.get(name, '')}".rstrip()
            sections.append(Section(question, headline, details, _FIGURES.get(name, ())))
    return sections


def what_next(on_numbers: str, findings: Mapping[str, Finding], on_columns: str = "") -> str:
    """What is advised on the numbers, and on the gravest of what was found; the rest stands in its section.

    Args:
        on_numbers: advice that goes before all other; may be empty.
        findings: the diagnostics, by name.
        on_columns: advice where the model is no better than one of independent columns; else empty.

    Example:
        >>> what_next("Use --method ais.", {})
        'Use --method ais. The checks were left out: leave out --quick to have them.'
    """
    if not findings:
        on_model = "The checks were left out: leave out --quick to have them."
    else:
        nothing = "No check asks for a change. Hold this run against others with: aevb compare RUN RUN."
        advice = {name: finding.advice for name, finding in findings.items()} | {"columns": on_columns}
        given = (advice[name] for name in _GRAVEST_FIRST if advice.get(name))
        on_model = next(given, "" if on_numbers else nothing)
    return f"{on_numbers} {on_model}".strip()
