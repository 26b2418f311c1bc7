"""Colours of the pages: of the classes, of outcomes, and Plotly's light and dark."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.io

Color = tuple[int, ...]

# Outcomes of cells and predictions, see custom.workbench.analysis.outcomes. The palette
# is that of the classes (Wong, Nature Methods 8, 441 (2011)) and white; an overlay
# shows either classes or outcomes.
OUTCOMES: dict[str, Color] = {
    "true": (255, 255, 255),
    "missed": (86, 180, 233),
    "false": (213, 94, 0),
    "wrong class": (240, 228, 66),
    "bad mask": (204, 121, 167),
    "split": (0, 158, 115),
    "merged": (0, 114, 178),
    "duplicate": (230, 159, 0),
    "ignored": (0, 0, 0),
    "low score": (96, 96, 96),
}
# Neither white nor black is seen on pages of both kinds.
OUTCOMES_IN_CHARTS = {
    **OUTCOMES,
    "true": (158, 165, 176),
    "ignored": (96, 102, 112),
}
# Runs side by side; the same on light and dark.
RUNS: tuple[Color, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def css(color: Color) -> str:
    """A colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _luminance(color: Color) -> float:
    """Relative luminance, WCAG 2.2."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def on_white(color: Color, contrast: float = 3.0) -> Color:
    """The colour, darkened until it has a contrast to white (WCAG 2.2: 3 to 1)."""
    while 1.05 / (_luminance(color) + 0.05) < contrast:
        color = tuple(int(c * 0.97) for c in color)
    return color


def class_colorways(palette: Sequence[Color]) -> dict[str, list[str]]:
    """The classes' colours for lines on a light and on a dark page."""
    return {
        "light": [css(on_white(tuple(color))) for color in palette],
        "dark": [css(tuple(color)) for color in palette],
    }


def _template(name: str) -> dict:
    """One of Plotly's templates, on the page's own background."""
    layout = plotly.io.templates[name].layout.to_plotly_json()
    transparent = "rgba(0,0,0,0)"
    return {
        "layout": {
            **layout,
            "font": {**layout["font"], "family": "system-ui, sans-serif", "size": 12},
            "paper_bgcolor": transparent,
            "plot_bgcolor": transparent,
            "modebar": {"bgcolor": transparent},
            "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            "hovermode": "x unified",
            "bargap": 0.25,
        }
    }


PLOTLY_TEMPLATES = {
    "light": _template("plotly_white"),
    "dark": _template("plotly_dark"),
}
