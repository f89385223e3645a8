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
from aevb.errors import OutputError

from ._figures import save_report_figures
from ._make import Report
from ._settings import KEYS, WORDS
from ._units import about_units, in_data_units
from ._verdicts import cells

LABELS = {
    "elbo": "ELBO",
    "reconstruction": "  reconstruction E_q[log p(x|z)]",
    "grey_objective": "objective (grey pixels, not a likelihood)",
    "negative_cross_entropy": "  minus cross-entropy",
    "kl": "  KL(q(z|x) || p(z))",
    **{key: f"log p(x), {WORDS[method]}" for method, key in KEYS.items()},
    "bidirectional_gap": "gap between AIS' two bounds, simulated rows",
}
CAPTIONS = {
    "log_likelihood": "Each row's log p(x) and ELBO. The distance between the two is what the bound misses.",
    "latent_dimensions": "What each latent dimension tells about x (KL), and how far its posterior mean moves over the "
    "data. Dimensions below the dashed line are not used.",
    "khat": "The tail of each row's importance weights. Right of the dashed line their mean cannot be trusted.",
    "calibration": "Simulation-based calibration: were q(z | x) the posterior, every curve would stay in the grey band "
    "(99 % of the time, all curves together).",
    "lowest_rows": "The rows that the model finds least likely: outliers, or what it has not learnt.",
    "nearest_rows": "Ancestral samples, and under each the training row that is nearest to it. A model that memorises "
    "would repeat the rows.",
}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .15rem .9rem .15rem 0; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
img { max-width: 100% } figure { margin: 1.5rem 0 } figcaption, .dim { color: #666; font-size: .9rem }
li { margin: .4rem 0 } code { overflow-wrap: anywhere }
"""


def numbers(content: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The lines of the table: what, mean, standard error. Densities are in the data's own units."""
    content = {**content, **in_data_units(content)}
    lines = []
    for key, label in LABELS.items():
        if key in content and content[key] is not None:
            sampled = key == "kl" and not content.get("kl_is_exact", True)
            k = content.get("settings", {}).get("num_samples", content.get("num_samples"))
            extra = f", K={k}" if key in KEYS.values() and key != KEYS["quadrature"] else ", sampled" if sampled else ""
            some = content[key].get("num_rows", content["num_rows"])
            extra += f", {some:,} of the rows" if some != content["num_rows"] else ""
            lines.append((label + extra, *cells(content[key])))
    return lines


def save_report(
    report: Report,
    directory: Path,
    event_shape: tuple[int, ...],
    title: str,
    on_failure: Callable[[str], object] | None = None,
) -> list[Path]:
    """Write the report into a directory that exists; returns the paths, the page first.

    The numbers are written before the figures. A figure that fails is told to `on_failure` in one line, and the page
    has the others; without it, an OutputError is raised when everything else is written.

    Raises:
        OutputError: a file cannot be written.
    """
    page, content, rows = directory / "index.html", directory / "evaluation.json", directory / "rows.csv"
    commit(content, lambda file: file.write((json.dumps(report.content, indent=2) + "\n").encode()))
    commit(rows, lambda file: file.write(_table_of_rows(report)))
    failures: list[str] = []
    figures = save_report_figures(report, directory, event_shape, on_failure or failures.append)
    commit(page, lambda file: file.write(page_of(report, figures, title).encode("utf-8", "replace")))
    if failures:
        raise OutputError("; ".join(failures))
    return [page, content, rows, *figures]


def page_of(report: Report, figures: Sequence[Path], title: str) -> str:
    """The page as HTML, its pictures within it, so that it can be sent as one file."""
    content = report.content
    head = f"Evaluation of {html.escape(title)}"
    data, settings = content["data"], content["settings"]
    about = (
        f"{content['num_rows']:,} rows of {html.escape(content['part'])}, {html.escape(content['data_kind'])}. "
        "Nats per example, higher is better (but KL and gaps), ± standard error over rows."
    )
    about += f" {html.escape(about_units(content['log_jacobian']))}"
    lines = "".join(
        f"<tr><td>{html.escape(what)}</td><td class=n>{mean}</td><td class=n>{error}</td></tr>"
        for what, mean, error in numbers(content)
    )
    verdicts = "".join(f"<li>{html.escape(verdict)}</li>" for verdict in report.verdicts)
    pictures = "".join(
        f'<figure><img alt="{html.escape(path.stem)}" src="data:image/png;base64,'
        f'{base64.b64encode(path.read_bytes()).decode()}">'
        f"<figcaption>{html.escape(CAPTIONS.get(path.stem, ''))}</figcaption></figure>"
        for path in figures
    )
    lowest = ", ".join(f"{item['row']} ({item['nats']:.1f})" for item in content["lowest_rows"])
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    return f"""<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{head}</title><style>{_STYLE}</style>
<h1>{head}</h1>
<p>{about}</p>
<table><tr><th></th><th class=n>mean</th><th class=n>± s.e.</th></tr>{lines}</table>
<h2>In words</h2><ul>{verdicts}</ul>
<h2>Pictures</h2>{pictures}
<h2>Rows with the lowest score</h2><p>Row number, from 0, and nats: {lowest}. All rows are in <code>rows.csv</code>.</p>
<p class=dim>Data {html.escape(str(data["name"]))}, fingerprint <code>{html.escape(str(data["fingerprint"]))}</code>.
Settings {html.escape(json.dumps(settings))}. {html.escape(versions)}. All numbers: <code>evaluation.json</code>.</p>
</html>
"""


def _table_of_rows(report: Report) -> bytes:
    """One line per row that log p(x) was estimated on: its number, ELBO, and all that the method tells."""
    import pyarrow as pa
    import pyarrow.csv

    columns = {"row": report.index, "elbo": report.elbo[report.index]}
    columns |= {("log_p" if name == "log_likelihood" else name): value for name, value in report.per_row.items()}
    buffer = io.BytesIO()
    pa.csv.write_csv(pa.table({name: np.asarray(value) for name, value in columns.items()}), buffer)
    return buffer.getvalue()
