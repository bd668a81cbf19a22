"""A run's report: one HTML file with its numbers, pictures and config, readable anywhere and for ever."""

import base64
import math
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template

from ebm_lab.evaluation.measurement import Measurement

MAX_DECIMALS = 6

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root {
  color-scheme: light dark;
  --ink: #1f2933; --muted: #5f6b7a; --rule: #d9dee5; --page: #ffffff; --panel: #f5f7fa; --accent: #2b6cb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9f0; --muted: #9aa7b8; --rule: #36404d; --page: #151a21; --panel: #1e252e; --accent: #7fb3ea;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 64rem; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header { border-bottom: 3px solid var(--accent); margin-bottom: 2rem; }
header p { color: var(--muted); margin: 0 0 .2rem; font-size: .85rem; letter-spacing: .04em; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--rule); }
td { vertical-align: baseline; }
th { color: var(--muted); font-weight: 600; font-size: .85rem; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.value { font-weight: 650; }
td.before, td.unit, td.note { color: var(--muted); }
td.note { font-size: .87rem; min-width: 14rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.25rem; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--rule);
  border-radius: 6px; }
figcaption { color: var(--muted); font-size: .87rem; margin-top: .35rem; }
ul.notes { background: var(--panel); border-left: 3px solid var(--accent); border-radius: 0 6px 6px 0;
  margin: 0; padding: .8rem 1.2rem .8rem 2.2rem; }
details { margin-top: 2.2rem; }
summary { cursor: pointer; font-size: 1.15rem; font-weight: 700; }
pre { background: var(--panel); border-radius: 6px; padding: 1rem; overflow-x: auto; font-size: .85rem;
  line-height: 1.45; }
</style>
</head>
<body>
<header><p>ebm_lab run</p><h1>$title</h1></header>
$sections
</body>
</html>
""")


def write_report(
    folder: str | Path,
    title: str,
    config_yaml: str,
    measurements: Iterable[Measurement],
    untrained: Iterable[Measurement],
    figures: Mapping[str, str | Path],
    notes: Iterable[str],
) -> Path:
    """Write `folder`/report.html, self-contained: it loads nothing, from the network or from beside it.

    Args:
        folder: the run's folder.
        title: the run's name.
        config_yaml: the composed config.
        measurements: the run's numbers, in the order of the table.
        untrained: the same numbers before training, matched by name and shown beside them.
        figures: caption to PNG file; the pictures are copied into the page.
        notes: what a reader must know to read the numbers, a sentence each.
    """
    sections = [
        _numbers(list(measurements), {before.name: before for before in untrained}),
        _notes(list(notes)),
        _pictures(figures),
        f"<details><summary>Config</summary><pre>{escape(config_yaml)}</pre></details>",
    ]
    path = Path(folder) / "report.html"
    page = PAGE.substitute(title=escape(title), sections="\n".join(filter(None, sections)))
    path.write_text(page, encoding="utf-8")
    return path


def format_number(value: float, error: float | None = None) -> str:
    """A number to the second digit of its error bar, or to four digits where it has none.

    Example:
        >>> format_number(1.590531, 0.0012)
        '1.5905 ± 0.0012'
        >>> format_number(3.76e-8)
        '3.76e-08'
    """
    if error is None:
        return f"{value:.4g}"
    if error == 0:
        return f"{value:.{MAX_DECIMALS}g} ± 0"
    decimals = 1 - math.floor(math.log10(error))
    if decimals > MAX_DECIMALS:
        return f"{value:.{MAX_DECIMALS + 1}g} ± {error:.0e}"
    return f"{value:.{max(decimals, 0)}f} ± {error:.{max(decimals, 0)}f}"


def _numbers(measurements: list[Measurement], untrained: Mapping[str, Measurement]) -> str:
    if not measurements:
        return ""
    rows = "\n".join(_row(measurement, untrained.get(measurement.name)) for measurement in measurements)
    return (
        '<h2>Numbers</h2>\n<div class="wide"><table>\n<thead><tr><th>Quantity</th>'
        '<th class="number">Value</th><th class="number">Untrained</th>'
        "<th>Unit</th><th>Note</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _row(measurement: Measurement, before: Measurement | None) -> str:
    untrained = format_number(before.value, before.error) if before else "–"
    cells = [
        ("name", measurement.name),
        ("number value", format_number(measurement.value, measurement.error)),
        ("number before", untrained),
        ("unit", measurement.unit),
        ("note", measurement.note),
    ]
    return "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in cells) + "</tr>"


def _notes(notes: list[str]) -> str:
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<h2>Notes</h2>\n<ul class="notes">\n{items}\n</ul>' if notes else ""


def _pictures(figures: Mapping[str, str | Path]) -> str:
    items = "\n".join(_picture(caption, Path(path)) for caption, path in figures.items())
    return f'<h2>Pictures</h2>\n<div class="pictures">\n{items}\n</div>' if figures else ""


def _picture(caption: str, path: Path) -> str:
    png = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{png}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
