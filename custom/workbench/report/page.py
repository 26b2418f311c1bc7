"""One self-contained HTML page from a template.

``base.html.j2`` brings the style, the change between light and dark, and Plotly once;
``components.html.j2`` has the macros for tables, figures and charts. A page extends
the first and imports the second::

    {% extends "base.html.j2" %}
    {% import "components.html.j2" as ui %}
    {% block content %}{{ ui.chart(figures.sizes) }}{% endblock %}
"""

from __future__ import annotations

import json
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from custom.errors import InputError
from custom.io.atomic import write_atomically
from custom.workbench.report.theme import PLOTLY_TEMPLATES

TEMPLATES = Path(__file__).with_name("templates")
# Marks the pages of this module; only these are overwritten.
MARKER = '<meta name="generator" content="MMCell">'


def chart(figure: go.Figure, label: str, caption: str = "", height: int = 320) -> dict:
    """A figure as the templates take it; its colours follow the page's theme.

    Args:
        figure: Data and layout.
        label: What a screen reader says.
        caption: Text below the figure.
        height: In CSS pixels.
    """
    text = _json_text(plotly.io.to_json(figure))
    return {"figure": text, "label": label, "caption": caption, "height": height}


def _json_text(text: str) -> Markup:
    """JSON that may stand inside a script element, whatever the strings hold."""
    return Markup(
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    )


def render(template: str, **context) -> str:
    """Fill a file of ``templates/`` with what it takes; a page needs a ``title``."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = lambda data: _json_text(
        json.dumps(data, separators=(",", ":"), allow_nan=False)
    )
    # CSS and JavaScript of the project itself, and Plotly's.
    environment.globals.update(
        marker=Markup(MARKER),
        plotly=lambda: Markup(get_plotlyjs()),
        plotly_templates=PLOTLY_TEMPLATES,
    )
    return environment.get_template(template).render(**context)


def guard_page(path: str | Path) -> None:
    """Refuse to replace a file that this module did not write.

    Raises:
        InputError: The file exists and was not written by :func:`write_page`.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(path, "it is a folder", "Name a file")
    if path.exists() and MARKER.encode() not in path.open("rb").read(1000):
        raise InputError(
            path, "it exists and is not a page of this tool", "Choose another name"
        )


def write_page(html: str, path: str | Path) -> None:
    """Write a page atomically.

    Raises:
        InputError: See :func:`guard_page`.
    """
    path = Path(path)
    guard_page(path)
    with write_atomically(path) as part:
        part.write_text(html, encoding="utf-8")
