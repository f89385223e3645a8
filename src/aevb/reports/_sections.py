"""What a report is made of: three answers for a newcomer, then a short section for each question."""

from collections.abc import Mapping, Sequence
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


# The diagnostics in the order of the page: name, question, figures.
_QUESTIONS = (
    ("latent", "What do the latent dimensions carry?", ("latent_dimensions",)),
    ("gaps", "Where is the bound loose?", ()),
    ("calibration", "Is q(z | x) the model's own posterior?", ("calibration",)),
    ("predictive", "Are data replicated from the posteriors like the real ones?", ()),
    ("generation", "Are samples from the prior like the data?", ("nearest_rows",)),
)


def sections_of(findings: Mapping[str, Finding], also: Mapping[str, str]) -> list[Section]:
    """A section for each diagnostic; `also` has what the rest of the report adds to the headline of one, or nothing."""
    sections = []
    for name, question, figures in _QUESTIONS:
        if name in findings:
            finding = findings[name]
            details = tuple(text for text in (finding.verdict, finding.advice) if text)
            headline = f"{finding.headline} {also.get(name, '')}".rstrip()
            sections.append(Section(question, headline, details, figures))
    return sections


def what_next(advice: Sequence[str]) -> str:
    """The first two of what is advised, the most pressing first; the rest stands in its own section.

    Example:
        >>> what_next(["", "Use --method ais."])
        'Use --method ais.'
    """
    asked = [text for text in dict.fromkeys(advice) if text]
    return " ".join(asked[:2]) or "No check asks for a change. Hold this run against others with: aevb compare RUN RUN."
