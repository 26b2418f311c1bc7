"""What the pages name exists: linked files and headings, paths, tools, options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPO

PAGES = [
    *(REPO / "docs").glob("*.md"),
    *(REPO / "configs").rglob("README.md"),
    *REPO.glob("*.md"),
]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_paths_and_options_exist(page):
    text = page.read_text().replace("\\\n", " ")
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    folders = "configs|custom|tools|tests|docs|studies|benchmarks"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)[ `]", text):
        assert (REPO / path).exists() or path.startswith("configs/mine"), path
    calls = re.findall(r"python ((?:tools|benchmarks)/[\w/]+\.py)([^\n#`]*)", text)
    for tool, arguments in calls:
        code = (REPO / tool).read_text()
        for option in re.findall(r"(?<!\S)--?[a-z][\w-]*", arguments):
            known = {option, option.replace("--no-", "--")}
            assert any(f'"{name}"' in code for name in known), f"{tool} {option}"
