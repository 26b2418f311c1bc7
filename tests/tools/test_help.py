"""Every tool explains itself without doing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize(
    "tool", sorted(p.relative_to(TOOLS.parent) for p in TOOLS.rglob("*.py")), ids=str
)
def test_help(tool, run_tool, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run_tool(tool, "--help")
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")
    assert not list(tmp_path.iterdir())
