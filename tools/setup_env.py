"""Make ``.venv`` with the pinned environment and this package (standard library only).

``make setup``, ``make test`` and ``make demo`` call this; by hand::

    python3.11 tools/setup_env.py --venv .venv

onedl-mmcv compiles its operators against the installed torch, once per machine: the
wheel is kept in ``${MMCELL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/mmcell}``. To skip the
compilation set ``MMCELL_MMCV`` to a wheel (path or URL) or to a package index that has
one for your Python and torch, such as https://mmwheels.onedl.ai/cu129-torch290/simple
(Python 3.12, torch 2.9.0 for CUDA 12.9; change torch in requirements.txt with it).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12")
# mmcv's setup.py imports these.
BUILD_TOOLS = ["torch", "numpy", "ninja", "packaging", "psutil", "setuptools", "wheel"]
# Their metadata asks for opencv-python beside the headless one.
NO_DEPS = ["imaug", "onedl-mmdetection", "onedl-mmcv"]


def fail(message: str) -> None:
    """Stop with one sentence."""
    sys.exit(f"setup: {message}")


def say(message: str) -> None:
    """Print one line at once."""
    print(f"setup: {message}", flush=True)


def read_requirements(name: str) -> dict[str, str]:
    """Map each package of a requirements file to its requirement."""
    lines = re.findall(r"^[^#\s]+", (ROOT / name).read_text(), re.M)
    return {re.split("[<>=]", line)[0]: line for line in lines}


def fingerprint() -> str:
    """Hash of everything that decides what the environment holds."""
    files = [ROOT / "requirements.txt", ROOT / "requirements-gpu.txt", Path(__file__)]
    parts = [sys.version, os.environ.get("MMCELL_MMCV", ""), str(ROOT)]
    text = "\n".join([*parts, *(path.read_text() for path in files)])
    return hashlib.sha256(text.encode()).hexdigest()


def run(*command: str | Path, **kwargs) -> None:
    """Run a command; stop if it fails."""
    if subprocess.run(command, **kwargs).returncode != 0:
        fail(f"this failed, see above: {' '.join(map(str, command))}")


def mmcv_wheel(python: Path, requirement: str, torch: str, cuda: bool) -> Path:
    """The mmcv wheel for this torch, from the cache or compiled now."""
    python_tag = "cp{}{}".format(*sys.version_info)
    device, machine = "cuda" if cuda else "cpu", platform.machine()
    name = requirement.replace("==", "-")
    name = f"{name}-{python_tag}-torch{torch}-{device}-{machine}"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("MMCELL_CACHE") or Path(cache, "mmcell"))
    folder = cache / "wheels" / name
    if wheels := list(folder.glob("*.whl")):
        return wheels[0]
    if not shutil.which(os.environ.get("CXX", "c++")):
        fail("no C++ compiler (Debian: apt-get install build-essential python3-dev)")
    if cuda and not (os.environ.get("CUDA_HOME") or shutil.which("nvcc")):
        fail(
            "torch sees a GPU, but nvcc is missing: install torch's CUDA toolkit and "
            "set CUDA_HOME, set MMCELL_MMCV to a prebuilt wheel, or set "
            "CUDA_VISIBLE_DEVICES= for an environment without GPU"
        )
    folder.mkdir(parents=True, exist_ok=True)
    log, start = folder / "build.log", time.monotonic()
    say(f"compiling {requirement}, 5 to 15 minutes on 2 cores; output in {log}")
    env = dict(os.environ, MMCV_WITH_OPS="1", FORCE_CUDA=str(int(cuda)))
    env["PYTHONUNBUFFERED"] = "1"
    # Without debug information the compiler takes half the time.
    env["CFLAGS"] = f"{env.get('CFLAGS', '')} -g0".strip()
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"  # for its ninja
    # A folder beside the final one, so that a killed build leaves no partial wheel.
    with tempfile.TemporaryDirectory(dir=folder) as temporary, log.open("w") as file:
        command = [python, "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir"]
        command += ["--no-build-isolation", "--no-binary", ":all:", "-w", temporary]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        build = subprocess.Popen([*command, requirement], text=True, env=env, **pipes)
        for line in build.stdout:
            file.write(line)
            if step := re.match(r"\s*\[(\d+/\d+)\]", line):
                say(f"compiling mmcv {step[1]}, {time.monotonic() - start:.0f} s")
        wheels = list(Path(temporary).glob("*.whl"))
        if build.wait() != 0 or not wheels:
            fail(f"mmcv did not compile (it needs a C++17 compiler); see {log}")
        return wheels[0].replace(folder / wheels[0].name)


def main() -> None:
    """Make the environment unless it is up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    folder, start = parser.parse_args().venv, time.monotonic()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version not in SUPPORTED:
        fail(f"Python {version} is not supported; try make PYTHON=python3.11 setup")
    stamp = folder / "mmcell.stamp"
    if stamp.exists() and stamp.read_text() == fingerprint():
        return
    venv.create(folder, with_pip=True, clear=True)
    python = folder.absolute() / "bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = read_requirements("requirements.txt")
    say(f"{folder}: torch and the build tools")
    run(*pip, *(wanted.pop(name) for name in BUILD_TOOLS))
    code = "import torch; print(torch.__version__, int(torch.cuda.is_available()))"
    torch, cuda = subprocess.check_output([python, "-c", code], text=True).split()
    no_deps = {name: wanted.pop(name) for name in NO_DEPS}
    if cuda == "1":
        wanted |= read_requirements("requirements-gpu.txt")
    say(f"{folder}: {len(wanted)} more packages")
    run(*pip, *wanted.values())
    pip += ["--no-deps", "--no-build-isolation"]
    mmcv, given = no_deps.pop("onedl-mmcv"), os.environ.get("MMCELL_MMCV")
    if given and not given.endswith(".whl"):
        run(*pip, "--only-binary", ":all:", "--index-url", given, mmcv)
    else:
        run(*pip, given or mmcv_wheel(python, mmcv, torch, cuda == "1"))
    run(*pip, *no_deps.values(), "--editable", ROOT)
    check = "import custom, mmcv.ops, mmdet.models, mmdet.datasets"
    run(python, "-c", check, cwd=tempfile.gettempdir())
    stamp.write_text(fingerprint())
    say(f"{folder} is ready, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
