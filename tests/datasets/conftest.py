"""What the tests of the data sets share."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

# Both register their parts.
import custom.datasets
import custom.transforms  # noqa: F401


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.fixture
def log(caplog):
    """What is written to MMEngine's logger, which the root logger does not see."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


@pytest.fixture
def folders(tiny_copy) -> list[Path]:
    """The image folders of a data set that a test may damage."""
    return sorted((tiny_copy / "train").iterdir())
