"""tools/serve.py as a user starts it; tests/workbench/serve has the page."""

from __future__ import annotations

import socket

import pytest

TOOL = "tools/serve.py"


def test_what_cannot_be_served_ends_in_one_sentence(run_tool, tmp_path):
    missing = tmp_path / "no"
    with pytest.raises(SystemExit, match="every network of the machine"):
        run_tool(TOOL, missing, "--host", "0.0.0.0", "--port", 0)
    with pytest.raises(SystemExit, match=r"--host no\.such\.name\.invalid"):
        run_tool(TOOL, missing, "--host", "no.such.name.invalid", "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"--port {port}.*in use"):
            run_tool(TOOL, missing, "--port", port)
    for url in ("cells.example.org", "ftp://x", "https://", "http://a:b", "http://a?b"):
        with pytest.raises(SystemExit, match="not the address of a page"):
            run_tool(TOOL, missing, "--public-url", url)
    with pytest.raises(SystemExit, match="does not exist"):  # the address is all right
        url = "https://cells.example.org:443/"
        run_tool(TOOL, missing, "--host", "0.0.0.0", "--port", 0, "--public-url", url)
    with pytest.raises(SystemExit, match="does not exist"):
        run_tool(TOOL, missing, "--port", 0)
