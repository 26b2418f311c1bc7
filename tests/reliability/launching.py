"""Starting distributed runs as a user does, and doing harm to their processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .processes import REPO


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(root: Path, log: Path, *command: object, **env: str) -> subprocess.Popen:
    """Start a tool or launcher in the checkout, in a process group of its own.

    Args:
        root: The data set.
        log: Gets what it prints.
        command: A ``.py`` or ``.sh`` of ``tools/``, or a program, and its arguments.
        env: Variables to add.
    """
    programs = {".sh": ["bash"], ".py": [sys.executable]}
    program = programs.get(Path(str(command[0])).suffix, [])
    with log.open("w") as output:
        return subprocess.Popen(
            [*program, *map(str, command)],
            cwd=REPO,
            env={
                **os.environ,
                "CELL_DATA_ROOT": str(root),
                "PYTHON": sys.executable,
                "PORT": str(free_port()),
                "OMP_NUM_THREADS": "1",
                **env,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, log: Path, ok: bool = True) -> str:
    """Wait for the end, and for nothing to be left; returns what was printed."""
    try:
        code = process.wait(timeout=300)
    finally:
        kill_tree(process.pid)
    text = log.read_text()
    assert (code == 0) == ok, text[-5000:]
    return text


def launch(root: Path, log: Path, *command: object, **env: str) -> str:
    """Start and wait; returns what was printed."""
    return finish(start(root, log, *command, **env), log)


def wait_for(condition: Callable[[], object], process: subprocess.Popen):
    """Wait until something is true, while a process runs."""
    while not (result := condition()):
        assert process.poll() is None, "the process has ended"
        time.sleep(0.1)
    return result


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def kill_tree(pid: int) -> None:
    """Kill a process and all that it has started, if they are still there."""
    try:
        below = children(pid)
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in below:
        kill_tree(child)


def ranks(pid: int) -> list[int]:
    """The training processes of torchrun, those of its own helpers left out."""

    def variable(child: int) -> str | None:
        names = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        return next((n[5:].decode() for n in names if n.startswith(b"RANK=")), None)

    results = {child: variable(child) for child in children(pid)}
    return sorted((c for c, r in results.items() if r is not None), key=results.get)
