"""A web page for one trained model: drop an image, see and download its cells."""

from custom.workbench.serve.app import Limits, make_app

__all__ = ["Limits", "make_app"]
