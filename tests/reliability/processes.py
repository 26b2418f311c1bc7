"""Tools in processes of their own, which start fast and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
# Imports take most of the time of a short run: one server does them once and forks.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.reliability.preload"])


class ToolProcess:
    """A tool that runs as a user starts it.

    Args:
        log: What it prints is added to this file.
        command: The tool in the checkout and its arguments.
        env: Environment variables to set.
    """

    def __init__(self, log: Path, *command: object, **env: str) -> None:
        arguments = log, list(map(str, command)), env
        self.log = log
        self._process = _SERVER.Process(target=_run_tool, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def wait(self, seconds: float = 120) -> int:
        """Wait for the end; the exit code, negative after a signal."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"still running after {seconds} s, see {self.log}")
        return self._process.exitcode

    def succeed(self) -> None:
        """Wait for the end, which must be a good one."""
        code = self.wait()
        assert code == 0, f"exit code {code}\n{self.log.read_text()[-3000:]}"

    def running(self) -> bool:
        """Whether it is."""
        return self._process.exitcode is None

    def kill(self) -> None:
        """SIGKILL, at once."""
        self._process.kill()
        self._process.join()

    def is_gone(self, seconds: float = 15) -> bool:
        """Whether the processes that it has started end after it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
        return False

    def signal(self, number: int) -> None:
        """Send a signal to the process and those that it has started."""
        os.killpg(self.pid, number)

    def until(self, event: Callable[[], object], pause: float = 0.0005) -> bool:
        """Wait for something to happen, or for the end of the process.

        Args:
            event: Asked again and again.
            pause: Seconds between.

        Returns:
            Whether it happened.
        """
        while self.running():
            if event():
                return True
            time.sleep(pause)
        return False


def _run_tool(log: Path, command: list[str], env: dict[str, str]) -> None:
    os.setsid()  # its own process group
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(env)
    os.chdir(REPO)
    sys.argv = command
    runpy.run_path(str(REPO / command[0]), run_name="__main__")
