"""The report as one page that needs nothing else: no network, no other file."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from src.analysis.figures import Drawn
from src.analysis.page import words
from src.analysis.page.report import Report

_HERE = Path(__file__).parent


def html(report: Report) -> str:
    """Return the page. Whatever comes from a run is escaped; it runs no script but its own."""
    script = (_HERE / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((_HERE / "page.html.j2").read_text()).render(
        report=report,
        css=Markup((_HERE / "page.css").read_text()),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        svgs={drawing.figure.name: _inline(drawing) for drawing in report.figures},
        boxes={drawing.figure.name: _box(drawing) for drawing in report.figures},
        narrow=lambda drawing: float(_box(drawing).split()[2]) < 560,
        cell=_cell,
        words=words,
    )


def _box(drawing: Drawn) -> str:
    found = re.search(r'viewBox="([^"]+)"', drawing.svg)
    assert found is not None
    return found.group(1)


def _inline(drawing: Drawn) -> Markup:
    """Return a figure's SVG as an element that thumbnails can refer to, with its words."""
    _, _, inside = drawing.svg.partition(">")
    start = Markup(
        '<svg id="svg-{}" viewBox="{}" role="img" aria-label="{}" xmlns="http://www.w3.org/2000/svg"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    ).format(drawing.figure.name, _box(drawing), drawing.alt)
    return start + Markup(inside)


def _cell(value: float | None, digits: int = 0) -> Markup:
    """Return a table's cell of a number, with the value it is sorted by."""
    if value is None:
        return Markup('<td class="number" data-value="">&ndash;</td>')
    text = f"{value:.{digits}f}" if digits else f"{value:g}"
    return Markup('<td class="number" data-value="{}">{}</td>').format(value, text)
