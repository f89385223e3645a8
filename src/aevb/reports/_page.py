"""The report as files: `evaluation.json`, `rows.csv`, figures, and `index.html`, a page that shows them all."""

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aevb._container import commit
from aevb._measures import about_units
from aevb.errors import OutputError

from ._figures import save_report_figures
from ._make import Report
from ._sections import Section
from ._settings import KEYS, WORDS
from ._text import cells

LABELS = {
    "elbo": "ELBO",
    "reconstruction": "  reconstruction E_q[log p(x|z)]",
    "grey_objective": "objective (grey pixels, not a likelihood)",
    "negative_cross_entropy": "  minus cross-entropy",
    "kl": "  KL(q(z|x) || p(z))",
    "elbo_of_these_rows": "ELBO",
    **{key: f"log p(x), {WORDS[method]}" for method, key in KEYS.items()},
    "bidirectional_gap": "gap between AIS' two bounds, simulated rows",
}
CAPTIONS = {
    "log_likelihood": "Each row's log p(x) and ELBO.",
    "latent_means": "How far each dimension's posterior mean moves over the data; below the line it is not used.",
    "latent_dimensions": "Above: KL of each dimension's posterior from the prior, averaged over rows; what it tells "
    "about x is at most that. Below: how far its posterior mean moves over the data; below the dashed line it is not "
    "used.",
    "khat": "The tail of each row's importance weights: heavy right of the line, which matters where they differ.",
    "calibration": "Were q(z | x) the posterior, every curve would stay in the grey band 99 % of the time, all "
    "together.",
    "lowest_rows": "Lowest first, in reading order.",
    "nearest_rows": "Samples, and under each the training row that is nearest to it.",
}
_STYLE = """
:root { color-scheme: light }
body { font: 17px/1.55 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
body { color: #1d1f21 }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin: 0 0 .4rem }
p { margin: .4rem 0 } .dim, figcaption { color: #5c6166; font-size: .88rem }
dl.answers { background: #f3f6f9; border-radius: .6rem; padding: .8rem 1.1rem; margin: 1.2rem 0 2rem }
dl.answers dt { font-weight: 650; margin-top: .5rem } dl.answers dd { margin: 0 0 .5rem }
section { border-top: 1px solid #dde2e6; padding: 1.3rem 0; display: grid; gap: .8rem 2rem }
@media (min-width: 52rem) { section.pictured { grid-template-columns: 20rem 1fr } }
figure { margin: 0 } img { max-width: 100%; height: auto; display: block }
table { border-collapse: collapse; font-size: .92rem } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.wide { overflow-x: auto } details { margin: .5rem 0 } summary { cursor: pointer; color: #0b5c9e }
code { overflow-wrap: anywhere }
"""


def numbers(content: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The lines of the table: what, mean, standard error. What is of some of the rows alone says so."""
    lines = []
    for key, label in LABELS.items():
        if content.get(key) is not None:
            sampled = key == "kl" and not content.get("kl_is_exact", True)
            k = content.get("settings", {}).get("num_samples", content.get("num_samples"))
            extra = f", K={k}" if key in KEYS.values() and k else ", sampled" if sampled else ""
            some = content[key].get("num_rows", content["num_rows"])
            extra += f", of {some:,} of the rows" if some != content["num_rows"] else ""
            lines.append((label + extra, *cells(content[key])))
            layers = content.get("kl_per_layer") or {} if key == "kl" else {}
            lines += [(f"    of which layer {name}, sampled", *cells(layer)) for name, layer in layers.items()]
    return lines


def save_report(
    report: Report, directory: str | Path, title: str, on_failure: Callable[[str], object] | None = None
) -> list[Path]:
    """Write the report into a directory that exists; returns the paths, the page first.

    The numbers are written before the figures. A figure that fails is told to `on_failure` in one line, and the page
    has the others; without it, an OutputError is raised when everything else is written.

    Raises:
        OutputError: a file cannot be written.
    """
    directory = Path(directory)
    page, content, rows = directory / "index.html", directory / "evaluation.json", directory / "rows.csv"
    commit(content, lambda file: file.write((json.dumps(report.content, indent=2) + "\n").encode()))
    commit(rows, lambda file: file.write(_table_of_rows(report)))
    failures: list[str] = []
    figures = save_report_figures(report, directory, on_failure or failures.append)
    commit(page, lambda file: file.write(page_of(report, figures, title).encode("utf-8", "replace")))
    report.unfinished.discard()
    if failures:
        raise OutputError("; ".join(failures))
    return [page, content, rows, *figures]


def page_of(report: Report, figures: Sequence[Path], title: str) -> str:
    """The page as HTML, its pictures within it, so that it can be sent as one file."""
    content = report.content
    head = f"Evaluation of {html.escape(title)}"
    pictures = {path.stem: path for path in figures}
    answers = "".join(f"<dt>{html.escape(a.question)}</dt><dd>{html.escape(a.text)}</dd>" for a in report.answers)
    sections = "".join(_section(section, report, pictures) for section in report.sections)
    return f"""<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">
<title>{head}</title><style>{_STYLE}</style>
<h1>{head}</h1>
<p class=dim>{html.escape(_about(content))}</p>
<dl class=answers>{answers}</dl>
{sections}
<section><div><h2>What exactly was computed?</h2>{_facts(report)}</div></section>
</html>
"""


def _about(content: Mapping[str, Any]) -> str:
    one = content["num_rows"] == 1
    rows = f"{content['num_rows']:,} row{'' if one else 's'}"
    text = (
        f"{rows} of {content['part']}, {content['data_kind']}. Numbers are nats per row, higher is better (but for KL "
        f"and gaps){'' if one else '; ± is the standard error over rows'}."
        f"{'' if one else ' What is less than 3 of them from zero (more, of few rows) cannot be told from it.'}"
    )
    return f"{text} {about_units(content['log_jacobian'])}".strip()


def _section(section: Section, report: Report, pictures: Mapping[str, Path]) -> str:
    shown = [name for name in section.figures if name in pictures]
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode(pictures[name].read_bytes()).decode()}"><figcaption>{html.escape(caption)}</figcaption>'
        "</figure>"
        for name, caption in ((name, _caption(name, report)) for name in shown)
    )
    tables: dict[str, Callable[[Report], str]] = {"numbers": _numbers_table, "lowest rows": _lowest_table}
    table = tables[section.table](report) if section.table else ""
    details = "".join(f"<p>{html.escape(text)}</p>" for text in section.details)
    details = f"<details><summary>More on this</summary>{details}</details>" if details else ""
    text = f"<div><h2>{html.escape(section.question)}</h2><p>{html.escape(section.headline)}</p>{details}</div>"
    beside = f"<div>{table}{figures}</div>" if table or figures else ""
    return f"<section{' class=pictured' if beside else ''}>{text}{beside}</section>\n"


def _caption(name: str, report: Report) -> str:
    """A KL of single dimensions is not drawn where it has no closed form."""
    latent = report.latent
    return CAPTIONS[
        "latent_means" if name == "latent_dimensions" and latent and latent.kl_per_dimension is None else name
    ]


def _numbers_table(report: Report) -> str:
    lines = "".join(
        f"<tr><td>{html.escape(what)}</td><td class=n>{mean}</td><td class=n>{error}</td></tr>"
        for what, mean, error in numbers(report.content)
    )
    return f"<div class=wide><table><tr><th></th><th class=n>mean</th><th class=n>± s.e.</th></tr>{lines}</table></div>"


def _lowest_table(report: Report, count: int = 5, columns: int = 6) -> str:
    """The rows that fit worst: number, score, and for a table the first of their values."""
    names: list[str] = []
    if len(report.event_shape) == 1:
        names = [str(name) for name in report.columns or [f"x_{d + 1}" for d in range(report.event_shape[0])]][:columns]
    head = "".join(f"<th class=n>{html.escape(name)}</th>" for name in ("row", "nats", *names))
    lines = ""
    for item, values in zip(report.content["lowest_rows"][:count], report.lowest_rows, strict=False):
        texts = [str(item["row"]), f"{item['nats']:.1f}", *(f"{value:.4g}" for value in values[: len(names)])]
        lines += "<tr>" + "".join(f"<td class=n>{text}</td>" for text in texts) + "</tr>"
    return f"<div class=wide><table><tr>{head}</tr>{lines}</table></div>"


def _facts(report: Report) -> str:
    content = report.content
    data, settings = content["data"], content["settings"]
    facts = {
        "data": data["name"],
        "fingerprint": data["fingerprint"],
        "settings": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
        "all numbers": "evaluation.json",
        "the rows' own numbers": f"rows.csv ({len(report.index):,} rows)",
    }
    lines = "".join(f"<p>{name}: <code>{html.escape(str(value))}</code></p>" for name, value in facts.items())
    return f"<details><summary>Data, settings, versions</summary>{lines}</details>"


def _table_of_rows(report: Report) -> bytes:
    """One line per row that was scored: its number in the data, ELBO, and all that the method tells."""
    import pyarrow as pa
    import pyarrow.csv

    columns = {"row": report.row_numbers[report.index], "elbo": report.elbo[report.index]}
    columns |= {("log_p" if name == "log_likelihood" else name): value for name, value in report.per_row.items()}
    buffer = io.BytesIO()
    pa.csv.write_csv(pa.table({name: np.asarray(value) for name, value in columns.items()}), buffer)
    return buffer.getvalue()
