"""Runs that are told to stop, disks that are full, and weights that come out twice."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from custom.io.checkpoint import is_whole, read_checkpoint

from .launching import finish, launch, ranks, start, wait_for
from .runs import CONFIGS, WORKERS, Moments, check_folder, last_of, scalars, train
from .states import differences


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("config", "options"),
    [("tiny_iters.py", WORKERS), ("tiny_epochs.py", [])],
    ids=["steps", "epochs"],
)
def test_a_run_that_is_told_to_stop_loses_no_iteration(
    config,
    options,
    tiny_root,
    references,
    tmp_path,
    fault,
):
    """SIGTERM goes to all processes of a job, to the workers of the loaders too."""
    reference, chance = references(config), random.Random(config)
    work_dir, stops, resume, done = tmp_path / "run", 0, False, -1
    while True:
        moments = Moments(work_dir, work_dir.with_suffix(".log"), chance)
        process = train(tiny_root, config, work_dir, options, resume)
        resume, moments.pid = True, process.pid
        phase = chance.choice(["training", "training", "validation"])
        if process.until(getattr(moments, phase)()):
            time.sleep(chance.uniform(0, 0.1))
            process.signal(signal.SIGTERM)
        if process.wait() == 0:
            break
        assert process.wait() == 85
        stops += 1
        check_folder(work_dir)
        assert is_whole(last_of(work_dir))
        iters = read_checkpoint(last_of(work_dir))["meta"]["iter"]
        printed = moments._printed().count("(train) [")
        assert iters == max(done, 0) + printed
        done = iters
    last = last_of(reference).name
    assert differences(reference / last, work_dir / last) == []
    assert scalars(work_dir) == scalars(reference)
    assert stops >= 3
    fault(
        f"SIGTERM, loop of {config[5:-3].replace('iters', 'steps')}",
        "SIGTERM to the process and its workers; exit code 85, --resume",
        stops,
        "no iteration repeats, final state bit-identical",
    )


@pytest.mark.timeout(600)
def test_two_processes_stop_together_and_resume(tiny_root, tmp_path, fault):
    """One of them is told; torchrun ends with its own code, and the state is saved."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    log = tmp_path / "log.txt"
    command = ("tools/dist_train.sh", CONFIGS / "tiny_iters.py", 2, "--work-dir")
    launch(tiny_root, log, *command, whole)
    process = start(tiny_root, log, *command, stopped)
    wait_for(lambda: log.read_text().count("(train)") >= 5, process)
    os.kill(ranks(process.pid)[1], signal.SIGTERM)
    finish(process, log, ok=False)
    iters = read_checkpoint(last_of(stopped))["meta"]["iter"]
    assert 5 <= iters < 24
    launch(tiny_root, log, *command, stopped, "--resume")
    last = last_of(whole).name
    assert differences(whole / last, stopped / last) == []
    fault(
        "SIGTERM, 2 processes",
        "SIGTERM to one of them; both save and exit, --resume",
        1,
        "final state bit-identical, the random states of both included",
    )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 130 MB, enough for a run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=130M", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def lock():
    """Forbids new files in a folder; permissions would not bind root."""
    folders = []

    def forbid(folder: Path) -> None:
        command = ["chattr", "+i", str(folder)]
        if shutil.which("chattr") is None or subprocess.run(command).returncode:
            pytest.skip("this file system or user cannot forbid new files")
        folders.append(folder)

    yield forbid
    for folder in folders:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk, tiny_root, references, fault):
    work_dir, filler = small_disk / "run", small_disk / "filler"

    def fill() -> None:
        """All but 2 MB, for the log, while the run writes as well."""
        with filler.open("wb", buffering=0) as file:
            while (free := shutil.disk_usage(small_disk).free) > 3 << 20:
                file.write(bytes(min(free - (2 << 20), 4 << 20)))

    _stop_by_the_disk(work_dir, tiny_root, fill, "No space left on device")
    filler.unlink()
    _resume(work_dir, tiny_root, references("tiny_iters.py"))
    fault(
        "disk full",
        "a file system of 130 MB, filled while a run writes to it",
        1,
        "saved files intact; repeated iterations bit-identical",
    )


def test_a_forbidden_folder_is_left_as_it_was(
    lock, tmp_path, tiny_root, references, fault
):
    work_dir = tmp_path / "run"
    _stop_by_the_disk(
        work_dir, tiny_root, lambda: lock(work_dir), "Operation not permitted"
    )
    subprocess.run(["chattr", "-i", str(work_dir)], check=True)
    _resume(work_dir, tiny_root, references("tiny_iters.py"))
    fault(
        "folder read-only",
        "chattr +i while a run writes to it",
        1,
        "saved files intact; repeated iterations bit-identical",
    )


def _stop_by_the_disk(work_dir: Path, root: Path, act, reason: str) -> None:
    """A run that finds the disk changed after its first checkpoint."""
    process = train(root, "tiny_iters.py", work_dir, log=root.parent / "disk.log")
    assert process.until((work_dir / "last_checkpoint").exists)
    act()
    assert process.wait() == 1
    log = process.log.read_text()
    assert f"error: {work_dir}" in log
    assert f"cannot be written ({reason})" in log and "untouched" in log
    check_folder(work_dir)


def _resume(work_dir: Path, root: Path, reference: Path) -> None:
    assert is_whole(last_of(work_dir))
    train(root, "tiny_iters.py", work_dir, resume=True).succeed()
    last = last_of(reference).name
    assert differences(reference / last, work_dir / last) == []


def test_deterministic_gives_the_same_weights_twice(tiny_root, tmp_path, fault):
    """With two threads, which add in any order without the flag."""
    command = ("tools/train.py", CONFIGS / "tiny_iters.py", "--deterministic")
    for name in "ab":
        log, tail = tmp_path / f"{name}.log", ("--work-dir", tmp_path / name)
        launch(tiny_root, log, *command, *tail, OMP_NUM_THREADS="2")
    last = last_of(tmp_path / "a").name
    assert differences(tmp_path / "a" / last, tmp_path / "b" / last) == []
    fault(
        "repeatable weights",
        "--deterministic twice, two threads, CPU",
        2,
        "bit-identical",
    )
