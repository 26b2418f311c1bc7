"""A run of several processes is that of one, and ends when a process dies."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from custom.workbench.synthetic import write_dataset
from tests.reliability.launching import (
    REPO,
    children,
    finish,
    kill_tree,
    launch,
    ranks,
    start,
    wait_for,
)

DEMO = "configs/demo/maskrcnn_r18-slim.py"
SMALL = """
_base_ = {base!r}
custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'tests.reliability.recorder'])
custom_hooks = [*_base_.custom_hooks, dict(type='Recorder')]
train_pipeline = [
    dict(step, crop_size=(64, 64)) if step['type'] == 'RandomCrop' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=3, val_interval=3)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
model = dict(
    train_cfg=dict(rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=200)))
"""
# No random number within a step, batch norm at its running statistics, a constant rate
# and no clipping, where one norm of all gradients would count in each.
EXACT = """
model.update(backbone=dict(norm_eval=True))
model['train_cfg'] = dict(
    rpn=dict(sampler=dict(type='FirstSampler')),
    rcnn=dict(sampler=dict(type='FirstSampler', num=32)))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=1e-3, momentum=0.9), clip_grad=None)
param_scheduler = None
val_cfg = val_dataloader = val_evaluator = None
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Images of one size; those for training, validation and test are odd in number."""
    root = tmp_path_factory.mktemp("data") / "cells"
    write_dataset(root, n_train=14, n_test=3, size=96)
    return root


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("configs")
    small = SMALL.format(base=str(REPO / DEMO))
    for name, text in (("small", small), ("exact", small + EXACT)):
        (folder / f"{name}.py").write_text(text)
    return {path.stem: path for path in folder.glob("*.py")}


def train(root, config, work_dir: Path, processes: int, *options: str, **env) -> str:
    """Train with one process or several; returns what was printed."""
    log = work_dir.with_suffix(".log")
    tail = ("--work-dir", work_dir, "--cfg-options", *options)
    env = {"CELL_SPLIT": "random_80-20", **env}
    if processes == 1:
        return launch(root, log, "tools/train.py", config, *tail, **env)
    return launch(root, log, "tools/dist_train.sh", config, processes, *tail, **env)


def samples(work_dir: Path) -> list[list[str]]:
    """The samples of each iteration of all processes, in the order of the draws."""
    lines = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(work_dir.glob("rank*.jsonl"))
    ]
    return [
        [sample for draws in zip(*batches, strict=True) for sample in draws]
        for batches in zip(*lines, strict=True)
    ]


def record(work_dir: Path, rank: int = 0) -> dict:
    return torch.load(work_dir / f"rank{rank}.pth", weights_only=True)


def difference(result: dict, expected: dict, part: str = "") -> float:
    """The norm of the difference by the norm, of all tensors of a part together."""
    assert result.keys() == expected.keys()
    names = [name for name in result if name.startswith(part)]
    assert names
    one, other = (
        torch.cat([d[n].flatten() for n in names]) for d in (result, expected)
    )
    return float((one - other).norm() / other.norm())


@pytest.fixture(scope="module")
def exact_runs(root, configs, tmp_path_factory) -> dict[str, Path]:
    """Three steps of two images: by two processes, by accumulation, in one batch."""
    folder = tmp_path_factory.mktemp("exact")
    cases = {
        "two": (2, "train_dataloader.batch_size=1"),
        "accumulated": (
            1,
            "train_dataloader.batch_size=1",
            "optim_wrapper.accumulative_counts=2",
            "train_cfg.max_iters=6",
        ),
        "batch": (
            1,
            "train_dataloader.batch_size=2",
            "train_dataloader.num_workers=2",
        ),
    }
    for name, (processes, *options) in cases.items():
        train(root, configs["exact"], folder / name, processes, *options)
    return {name: folder / name for name in cases}


def test_samples_of_each_step_are_those_of_one_process(exact_runs):
    expected = samples(exact_runs["batch"])
    assert len(expected) == 3 and len({s for batch in expected for s in batch}) == 6
    assert samples(exact_runs["two"]) == expected
    single = [sample for (sample,) in samples(exact_runs["accumulated"])]
    assert [single[i : i + 2] for i in (0, 2, 4)] == expected


def test_gradients_and_weights_are_those_of_accumulation(exact_runs):
    two, one = record(exact_runs["two"]), record(exact_runs["accumulated"])
    for result, expected in zip(two["gradients"], one["gradients"], strict=True):
        assert difference(result, expected) < 1e-4
    assert difference(two["state"], one["state"]) < 1e-6


@pytest.fixture(scope="module")
def real_runs(root, configs, tmp_path_factory) -> tuple[Path, str]:
    """Two processes with everything random, batch norm trained, and validation."""
    work_dir = tmp_path_factory.mktemp("real") / "run"
    # Long enough for metrics that are not zero.
    steps = ("train_cfg.max_iters=60", "train_cfg.val_interval=60")
    options = ("train_dataloader.batch_size=1", "param_scheduler.0.end=5")
    train(root, configs["small"], work_dir, 2, *steps, *options)
    return work_dir


def test_processes_stay_equal_to_the_bit(real_runs):
    """But for batch norm's last update, which the next iteration overwrites."""
    first, second = (record(real_runs, rank)["state"] for rank in (0, 1))
    trained = [n for n in first if n.endswith(("running_mean", "running_var"))]
    assert trained
    assert all(torch.equal(first[n], second[n]) for n in first if n not in trained)
    assert all(torch.allclose(first[n], second[n], rtol=0.5, atol=0.5) for n in trained)


@pytest.fixture(scope="module")
def tests_of_run(root, configs, real_runs) -> dict[str, Path]:
    """The checkpoint tested and submitted by one process and by two."""
    folders = {}
    for processes in (1, 2):
        for mode in ("eval", "submit"):
            folder = real_runs.with_name(f"{mode}{processes}")
            tool = ["tools/test.py"] if processes == 1 else ["tools/dist_test.sh"]
            command = [*tool, configs["small"], real_runs / "iter_60.pth"]
            command += [processes] if processes > 1 else []
            command += ["--work-dir", folder]
            command += ["--format-only"] if mode == "submit" else []
            launch(root, folder.with_suffix(".log"), *command)
            (folders[folder.name],) = (p for p in folder.iterdir() if p.is_dir())
    return folders


def metrics_of(path: Path) -> dict[str, float]:
    """The metrics of an evaluation, by name."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        name: value
        for row in rows
        for name, value in row.items()
        if name.startswith(("coco/", "cell/"))
    }


def test_evaluation_equals_that_of_one_process_and_that_of_the_training(
    real_runs, tests_of_run
):
    split = json.loads((real_runs / "split.json").read_text())
    assert len(split["val"]) % 2 == 1
    alone, two = tests_of_run["eval1"], tests_of_run["eval2"]
    expected = metrics_of(alone / f"{alone.name}.json")
    assert len(expected) > 40 and expected["coco/segm_mAP_50"] > 0
    assert metrics_of(two / f"{two.name}.json") == expected
    (scalars,) = real_runs.glob("*/vis_data/scalars.json")
    assert metrics_of(scalars) == expected
    name = "predictions.json"
    assert (two / name).read_bytes() == (alone / name).read_bytes()


def test_submission_equals_that_of_one_process_to_the_byte(tests_of_run):
    alone, two = tests_of_run["submit1"], tests_of_run["submit2"]
    name = "test-results.json"
    result = (two / name).read_bytes()
    assert result == (alone / name).read_bytes()
    assert len({entry["image_id"] for entry in json.loads(result)}) == 3
    name = "submission.zip"
    assert (two / name).read_bytes() == (alone / name).read_bytes()


ENDLESS = (
    "train_cfg.max_iters=100000",
    "train_dataloader.num_workers=1",
    "train_cfg.val_interval=100000",
    "default_hooks.checkpoint.interval=100000",
    "env_cfg.dist_cfg.timeout=20",
)


@pytest.fixture
def endless(root, configs, tmp_path):
    """A run of two processes that has begun to train, and its log."""
    log = tmp_path / "log.txt"
    command = ("tools/dist_train.sh", configs["small"], 2, "--work-dir")
    options = (tmp_path / "run", "--cfg-options", *ENDLESS)
    process = start(root, log, *command, *options, CELL_SPLIT="random_80-20")
    wait_for(lambda: "Iter(train) [     2/" in log.read_text(), process)
    yield process, log
    kill_tree(process.pid)


def everything(process) -> list[int]:
    """The two training processes, then their loader workers."""
    pids = ranks(process.pid)
    assert len(pids) == 2
    return [*pids, *(child for pid in pids for child in children(pid))]


def end_of(process, log: Path, started: list[int]) -> str:
    """What a run says at its end; none of its processes may be left."""
    text = finish(process, log, ok=False)
    for _ in range(100):  # workers look for their parent every few seconds
        if not any(Path(f"/proc/{pid}").exists() for pid in started):
            return text
        time.sleep(0.2)
    pytest.fail("a process is left")


@pytest.mark.parametrize(
    ("fault_name", "how", "number", "said", "end"),
    [
        (
            "a process of a distributed run is killed",
            "SIGKILL of the second of two processes",
            signal.SIGKILL,
            ["Signal 9 (SIGKILL) received by PID"],
            "names the process",
        ),
        (
            "a loader worker of a distributed run is killed",
            "SIGKILL of the workers of one of two processes",
            signal.SIGKILL,
            # The second if it dies while it hands over a batch.
            ["DataLoader worker (pid", "ConnectionResetError"],
            "says that a worker died",
        ),
        (
            "a process or node stops answering",
            "SIGSTOP of one of two processes, timeout of 20 s",
            signal.SIGSTOP,
            ["Timed out waiting 20000ms"],
            "names the timeout",
        ),
    ],
    ids=["killed", "worker", "frozen"],
)
def test_a_lost_process_ends_the_run(
    endless, fault, fault_name, how, number, said, end
):
    process, log = endless
    pids = everything(process)
    for pid in children(pids[1]) if "worker" in fault_name else pids[1:2]:
        os.kill(pid, number)
    text = end_of(process, log, pids)
    assert any(words in text for words in said)
    fault(
        fault_name,
        how,
        1,
        f"run ends and {end}",
    )
