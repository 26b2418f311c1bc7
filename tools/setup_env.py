"""Make ``.venv`` with everything that the project needs (standard library only).

``make setup``, ``make test`` and ``make demo`` call this; to call it by hand::

    python3.11 tools/setup_env.py --venv .venv

The one slow step is onedl-mmcv, which compiles its operators against the installed
torch. The wheel is built once and kept outside the checkout, in
``${MMCELL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/mmcell}``, under a name that holds the
versions of mmcv, Python and torch, the machine and whether it has CUDA operators.
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
SUPPORTED = ((3, 10), (3, 11), (3, 12))
BUILD_TOOLS = (
    "torch",
    "numpy",
    "ninja",
    "packaging",
    "psutil",
    "setuptools",
    "wheel",
)
NO_DEPS = ("imaug", "onedl-mmdetection", "onedl-mmcv")


def fail(message: str) -> None:
    """Print one sentence and stop."""
    sys.exit(f"setup: {message}")


def say(message: str) -> None:
    """Print one line at once."""
    print(f"setup: {message}", flush=True)


def read_requirements(path: Path) -> dict[str, str]:
    """Map each package of a pinned requirements file to its requirement."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {line.split("==")[0]: line for line in lines if line}


def fingerprint() -> str:
    """Hash of all that decides what ends up in the environment."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (
        ROOT / "requirements.txt",
        ROOT / "requirements-gpu.txt",
        Path(__file__),
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(command: list[str], **kwargs) -> None:
    """Run a command; on failure stop with what it was."""
    if subprocess.run(command, **kwargs).returncode != 0:
        fail(f"this failed, see above: {' '.join(map(str, command))}")


def ask(python: Path, code: str) -> str:
    """The standard output of a line of Python in the environment."""
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def find_nvcc() -> str | None:
    """The folder of the CUDA toolkit, if there is one."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and (Path(home) / "bin/nvcc").exists():
        return home
    nvcc = shutil.which("nvcc")
    return str(Path(nvcc).resolve().parent.parent) if nvcc else None


def build_wheel(python: Path, requirement: str, cuda: bool, folder: Path) -> None:
    """Compile mmcv into ``folder`` and show how far it is.

    ``-g0`` leaves out debug information, which halves the time of the compiler.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, MMCV_WITH_OPS="1", PYTHONUNBUFFERED="1")
    env["CFLAGS"] = f"{env.get('CFLAGS', '')} -g0".strip()
    env["FORCE_CUDA"] = "1" if cuda else "0"
    if cuda:
        env["CUDA_HOME"] = find_nvcc() or ""
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"  # its ninja
    start = time.monotonic()
    log = folder / "build.log"
    # A folder beside the final one, so that a killed build leaves no half wheel.
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [python, "-m", "pip", "wheel", "-v", "--no-deps", "--no-cache-dir"]
        command += ["--no-build-isolation", "--no-binary", ":all:"]
        command += ["-w", temporary, requirement]
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=env,
            )
            for line in process.stdout:
                file.write(line)
                step = re.match(r"\s*\[(\d+)/(\d+)\]", line)
                if step:
                    done, total = map(int, step.groups())
                    elapsed = int(time.monotonic() - start)
                    end = "\n" if done == total or not sys.stdout.isatty() else "\r"
                    print(
                        f"setup: compiling mmcv {done}/{total}, {elapsed} s",
                        end=end,
                        flush=True,
                    )
        wheels = list(Path(temporary).glob("*.whl"))
        if process.wait() != 0 or not wheels:
            fail(
                f"mmcv did not compile. The compiler's output is in {log}. It needs a "
                "C++17 compiler (Debian: apt-get install build-essential python3-dev)"
            )
        os.replace(wheels[0], folder / wheels[0].name)
    say(f"mmcv compiled in {time.monotonic() - start:.0f} s, kept in {folder}")


def mmcv_wheel(python: Path, requirement: str) -> Path:
    """The mmcv wheel for this torch, from the cache or compiled now."""
    cache = os.environ.get("MMCELL_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mmcell"
    )
    torch_version, cuda_version, gpu = ask(
        python,
        "import torch; print(torch.__version__, torch.version.cuda, "
        "torch.cuda.is_available())",
    ).split()
    cuda = gpu == "True"
    if cuda and not find_nvcc():
        fail(
            f"torch sees a CUDA GPU, but there is no nvcc to compile mmcv's CUDA "
            f"operators: install the CUDA toolkit {cuda_version} and set CUDA_HOME, or "
            "set CUDA_VISIBLE_DEVICES= for a set-up without GPU"
        )
    key = "-".join(
        (
            requirement.replace("==", "-"),
            f"cp{sys.version_info.major}{sys.version_info.minor}",
            f"torch{torch_version}",
            f"cuda{cuda_version}" if cuda else "cpu",
            platform.machine(),
        )
    )
    folder = Path(cache) / "wheels" / key
    if not list(folder.glob("*.whl")):
        say(
            f"compiling {requirement} for torch {torch_version}: once per machine, 5 "
            f"to 15 minutes on 2 cores; output in {folder / 'build.log'}"
        )
        build_wheel(python, requirement, cuda, folder)
    else:
        say(f"using the mmcv wheel in {folder}")
    return next(folder.glob("*.whl"))


def main() -> None:
    """Make the environment unless it is up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    args = parser.parse_args()

    if sys.version_info[:2] not in SUPPORTED:
        names = ", ".join(f"{a}.{b}" for a, b in SUPPORTED)
        fail(
            f"Python {platform.python_version()} is not supported; use one of {names}, "
            "for example: make PYTHON=python3.11 setup"
        )
    stamp = args.venv / "mmcell.stamp"
    if stamp.exists() and stamp.read_text() == fingerprint():
        return
    if not shutil.which(os.environ.get("CXX", "c++")):
        fail("no C++ compiler (Debian: apt-get install build-essential)")

    start = time.monotonic()
    venv.create(args.venv, with_pip=True, clear=True)
    python = args.venv.absolute() / "bin/python"
    wanted = read_requirements(ROOT / "requirements.txt")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say(f"{args.venv}: torch and the build tools")
    run([*pip, *(wanted.pop(name) for name in BUILD_TOOLS)])
    no_deps = {name: wanted.pop(name) for name in NO_DEPS}
    if ask(python, "import torch; print(torch.cuda.is_available())") == "True":
        gpu = read_requirements(ROOT / "requirements-gpu.txt")
        wanted.update(gpu)
    say(f"{args.venv}: {len(wanted)} more packages")
    run([*pip, *wanted.values()])
    wheel = mmcv_wheel(python, no_deps.pop("onedl-mmcv"))
    run([*pip, "--no-deps", "--no-build-isolation", *no_deps.values(), str(wheel)])
    check = "import mmcv.ops, mmdet.models, mmdet.datasets"
    run([python, "-c", check], cwd=tempfile.gettempdir())
    stamp.write_text(fingerprint())
    say(f"{args.venv} is ready, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
