"""Long tests of faults, and a table of their results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .runs import train

_HEADER = ("fault", "how tried", "times", "result")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items) -> None:
    """Everything in this folder is left to ``make test-reliability``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.reliability)
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def fault(record_property) -> Callable[..., None]:
    """Add a row to the table that ends the test run.

    Call it where the numbers are known; a test that fails later shows in its row.
    """

    def row(fault: str, how: str, times: int | str, result: str) -> None:
        record_property("fault", [fault, how, str(times), result])

    return row


@pytest.fixture(scope="session")
def references(tiny_root, tmp_path_factory) -> Callable[[str], Path]:
    """Runs that nobody kills, by config."""
    done = {}

    def reference(config: str) -> Path:
        if config not in done:
            folder = tmp_path_factory.mktemp("reference") / "run"
            train(tiny_root, config, folder).succeed()
            done[config] = folder
        return done[config]

    return reference


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table."""
    rows = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, row in report.user_properties:
                if name == "fault" and report.when == "call":
                    rows.append(row if outcome == "passed" else [*row[:3], "FAILED"])
    if not rows:
        return
    terminalreporter.section("faults")
    for row in (_HEADER, ["---"] * 4, *rows):
        terminalreporter.line("| " + " | ".join(row) + " |")
