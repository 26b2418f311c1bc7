"""SIGKILL at every moment of a run: the resumed run ends as an undisturbed one."""

from __future__ import annotations

import json
import random
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from .processes import ToolProcess
from .runs import CONFIGS, WORKERS, Moments, check_folder, last_of, scalars, train
from .states import differences

# Name, config, more options, how many kills at least.
RUNS = [
    ("steps", "tiny_iters.py", [], 24),
    ("steps, 2 workers", "tiny_iters.py", WORKERS, 16),
    ("epochs", "tiny_epochs.py", [], 16),
]
PHASES = ["training", "checkpoint", "best", "pointer", "validation"]


def killed_run(root, config, options, work_dir: Path, chance) -> Counter:
    """A run that is killed and resumed until it is finished; kills by phase."""
    kills, killed, resume = Counter(), [], False
    while True:
        moments = Moments(work_dir, work_dir.with_suffix(".log"), chance)
        phase = chance.choice(PHASES)
        process = train(root, config, work_dir, options, resume)
        moments.pid, resume = process.pid, True
        if process.until(getattr(moments, phase)()):
            time.sleep(moments.delay(phase))
        if process.running():
            process.kill()
            kills[phase] += 1
            check_folder(work_dir)
            killed.append(process)
        else:
            process.succeed()
            assert all(process.is_gone() for process in killed)
            return kills


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "config", "options", "least"), RUNS)
def test_a_killed_run_ends_as_an_undisturbed_one(
    name, config, options, least, tiny_root, references, tmp_path, fault
):
    reference = references(config)
    last = last_of(reference).name
    chance, kills, runs = random.Random(name), Counter(), 0
    while kills.total() < least:
        work_dir = tmp_path / str(runs) / "run"
        work_dir.parent.mkdir()
        kills += killed_run(tiny_root, config, options, work_dir, chance)
        runs += 1
        assert differences(reference / last, work_dir / last) == []
        names = [{p.name for p in run.glob("*.pth")} for run in (reference, work_dir)]
        assert names[0] == names[1]
        for path in reference.glob("best_*.pth"):
            assert differences(path, work_dir / path.name) == []
        assert scalars(work_dir) == scalars(reference)
        assert not list(work_dir.glob(".*"))
    phases = ", ".join(f"{phase} {kills[phase]}" for phase in PHASES)
    fault(
        f"process killed, loop of {name}",
        f"SIGKILL in {phases}; {runs} runs",
        kills.total(),
        "final state bit-identical (weights, optimiser, scheduler, average, random "
        "states, scalars, best checkpoint)",
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "arguments", "files", "least"),
    [
        (
            "submission",
            ["--format-only"],
            ["test-results.json", "submission.zip", "predictions.json"],
            8,
        ),
        ("evaluation", [], ["predictions.json"], 6),
    ],
)
def test_a_killed_test_leaves_complete_files_or_none(
    name, arguments, files, least, tiny_root, references, tmp_path, fault
):
    checkpoint = next(references("tiny_iters.py").glob("best_*.pth"))
    many = [f"model.test_cfg.{stage}.max_per_img=300" for stage in ("rpn", "rcnn")]
    command = [
        "tools/test.py",
        CONFIGS / "tiny_iters.py",
        checkpoint,
        *arguments,
        "--cfg-options",
        "model.test_cfg.rpn.nms_pre=300",
        *many,
        "--work-dir",
    ]

    def start(work_dir: Path) -> ToolProcess:
        log = tmp_path / f"{work_dir.name}.log"
        return ToolProcess(log, *command, work_dir, CELL_DATA_ROOT=str(tiny_root))

    def results(work_dir: Path) -> dict[str, bytes]:
        """The result files, read, and told from others by their names."""
        collected = {}
        for path in work_dir.glob("*/[!.]*"):
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    collected[path.name] = archive.read("test-results.json")
            elif path.name in files:
                json.loads(path.read_text())
                collected[path.name] = path.read_bytes()
        return collected

    def writing(work_dir: Path) -> bool:
        return any(
            file in path.name for path in work_dir.glob("*/.*") for file in files
        )

    begun = time.monotonic()
    start(tmp_path / "whole").succeed()
    seconds = time.monotonic() - begun
    expected = results(tmp_path / "whole")
    assert set(expected) == set(files)
    chance, kills, outcomes = random.Random(name), 0, Counter()
    for attempt in range(100):
        work_dir = tmp_path / str(attempt)
        process = start(work_dir)
        if attempt % 2:
            # Around the end, where the files are written.
            end = time.monotonic() + seconds * chance.uniform(0.6, 1)
            process.until(lambda end=end: time.monotonic() > end)
        elif process.until(lambda folder=work_dir: writing(folder), pause=0):
            time.sleep(chance.uniform(0, 0.005))
        if process.running():
            process.kill()
            kills += 1
            collected = results(work_dir)
            assert all(expected[key] == content for key, content in collected.items())
            outcomes[len(collected)] += 1
        if kills >= least:
            break
    else:
        raise AssertionError(f"only {kills} kills in 100 tests")
    start(tmp_path / "again").succeed()
    assert results(tmp_path / "again") == expected
    fault(
        f"process killed, {name}",
        f"SIGKILL while files are written and around it; {outcomes[0]} left no file, "
        f"{kills - outcomes[0]} some, all complete",
        kills,
        "no file or complete ones; the same command gives the same files",
    )
