"""tools/serve.py as a user starts it; tests/workbench/serve has the page."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from custom.io.image import read_image
from tests.small_run import write_run
from tests.workbench.serve.rectangles import as_png

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


@pytest.mark.slow
def test_a_run_is_served_on_the_loopback_until_it_is_stopped(repo, tiny_root, tmp_path):
    run = write_run(tmp_path / "small_run", repo)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, TOOL, run, "--port", "0", "--max-mib", "0.5"],
        cwd=repo,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "warning" not in said
        url = address[0]
        with urllib.request.urlopen(url) as response:
            assert b"MMCell" in response.read()
        with urllib.request.urlopen(url + "model") as response:
            model = json.load(response)
        assert model["title"] == "small_run" and len(model["classes"]) == 4
        image = sorted((tiny_root / "test_release").glob("*.tif"))[0]
        png = as_png(read_image(image))
        headers = {"X-File-Name": "cells.png"}
        request = urllib.request.Request(url + "results", png, headers)
        with urllib.request.urlopen(request) as response:
            found = json.load(response)
        assert 0 < len(found["cells"]) <= 10
        large = urllib.request.Request(url + "results", bytes(600_000), headers)
        with pytest.raises(urllib.error.URLError, match=r"413|[Bb]roken|reset"):
            urllib.request.urlopen(large)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    # Others on the machine that make temporary folders use names of their own.
    assert not list(temporary.glob("mmcell-*"))
