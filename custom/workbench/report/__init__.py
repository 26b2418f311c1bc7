"""Pages for the browser: one file each, without any request to a network."""

from custom.workbench.report.images import image_uri, outline
from custom.workbench.report.page import Chart, chart, guard_page, render, write_page

__all__ = [
    "Chart",
    "chart",
    "guard_page",
    "image_uri",
    "outline",
    "render",
    "write_page",
]
