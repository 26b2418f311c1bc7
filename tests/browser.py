"""Debian's Chromium without a window, for tests of pages that the tools write."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def browser(
    profile: Path, size: tuple[int, int] = (1280, 900)
) -> Iterator[webdriver.Chrome]:
    """A browser that knows nothing but files.

    Args:
        profile: A new empty folder for its user data.
        size: Of the window, in pixels.
    """
    binary = shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium (apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    chrome = webdriver.Chrome(options, Service(driver))
    try:
        chrome.get("about:blank")
        requests(chrome)  # those of the browser's own first page
        yield chrome
    finally:
        chrome.quit()


def wait(condition: Callable, seconds: float = 30):
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


def complaints(chrome: webdriver.Chrome) -> list[str]:
    """What the console holds since the last call: errors and warnings."""
    return [
        entry["message"]
        for entry in chrome.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]


def requests(chrome: webdriver.Chrome) -> list[str]:
    """Addresses that the page asked for since the last call, without ``data:``."""
    messages = (
        json.loads(entry["message"])["message"]
        for entry in chrome.get_log("performance")
    )
    addresses = (
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    )
    return [address for address in addresses if not address.startswith("data:")]


def prefer(chrome: webdriver.Chrome, scheme: str) -> None:
    """Let the system prefer ``'light'`` or ``'dark'``."""
    chrome.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
