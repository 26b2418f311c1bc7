"""The examples in the docstrings of the public classes run on the sample tile."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from tests.small_run import write_run


@pytest.mark.parametrize(
    "module",
    [
        "custom.sample",
        "custom.structures.label_masks",
        "custom.structures.roi_masks",
        "custom.inference.segmenter",
    ],
)
def test_examples_give_what_they_say(module, repo, tmp_path):
    names = {}
    if module.endswith("segmenter"):
        names["run"] = write_run(tmp_path / "run", repo)
    result = doctest.testmod(import_module(module), extraglobs=names)
    assert result.attempted > 1 and not result.failed
