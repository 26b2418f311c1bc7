"""The local web page: drop an image, see its cells."""

from custom.workbench.serve.app import Limits, make_app

__all__ = ["Limits", "make_app"]
