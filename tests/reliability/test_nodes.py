"""Runs of two nodes, as far as one machine shows them: torchrun and Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from custom.workbench.synthetic import write_dataset
from tests.reliability.launching import (
    finish,
    free_port,
    kill_tree,
    start,
    wait_for,
)

DEMO = "configs/demo/maskrcnn_r18-slim.py"
SHORT = (
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=1",
    "model.test_cfg.rcnn.max_per_img=20",
    "default_hooks.logger.interval=1",
    "env_cfg.dist_cfg.timeout=60",
)
# Tasks as Slurm's srun starts them, of the options that tools/slurm_*.sh give.
SRUN = """#!/usr/bin/env python3
import os, subprocess, sys

words = sys.argv[1:]
options = {}
while words and words[0].startswith("-"):
    name, _, value = words.pop(0).partition("=")
    options[name] = value or (words.pop(0) if name == "-p" else "")
tasks, on_node = int(options["--ntasks"]), int(options["--ntasks-per-node"])
nodes = tasks // on_node
print("srun", options, flush=True)
processes = [
    subprocess.Popen(words, env={
        **os.environ, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i % on_node),
        "SLURM_NTASKS": str(tasks), "SLURM_NODEID": str(i // on_node),
        "SLURM_NODELIST": f"node[0-{nodes - 1}]"})
    for i in range(tasks)
]
codes = [process.wait() for process in processes]
sys.exit(max(map(abs, codes)))
"""
SCONTROL = """#!/bin/sh
# scontrol show hostnames LIST; both "nodes" are this machine.
[ "$1 $2" = "show hostnames" ] && printf '%s\\n' "$3" >> "$SCONTROL_LOG"
printf '127.0.0.1\\n127.0.0.1\\n'
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "cells"
    write_dataset(root, n_train=6, n_test=3, size=96)
    return root


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """Two network name spaces that reach each other by a cable and nothing else."""
    names = [f"mmcell{os.getpid()}-{i}" for i in range(2)]
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "name",
           "cable1", "netns", names[1])  # fmt: skip
        for i, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.99.0.{i + 1}/24", "dev", f"cable{i}")
            ip("-n", name, "link", "set", f"cable{i}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network name spaces here: {error.stderr.decode().strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def start_node(root, log, rank: int, node: str, work_dir, *options: str):
    """One process on one of the two nodes, by tools/dist_train.sh."""
    enter = ("ip", "netns", "exec", node, "bash")
    command = ("tools/dist_train.sh", DEMO, 1, "--work-dir", work_dir)
    env = {
        "NNODES": "2",
        "NODE_RANK": str(rank),
        "MASTER_ADDR": "10.99.0.1",
        "PORT": "29500",
        "GLOO_SOCKET_IFNAME": f"cable{rank}",
    }
    return start(root, log, *enter, *command, "--cfg-options", *SHORT, *options, **env)


def test_two_nodes_train_together(root, tmp_path, nodes):
    work_dir = tmp_path / "run"
    logs = [tmp_path / f"node{i}.log" for i in range(2)]
    started = [
        start_node(root, log, i, node, work_dir)
        for i, (log, node) in enumerate(zip(logs, nodes, strict=True))
    ]
    texts = [finish(p, log) for p, log in zip(started, logs, strict=True)]
    assert "Iter(train) [2/2]" in texts[0] and "segm AP in %" in texts[0]
    assert (work_dir / "iter_2.pth").exists()
    assert '"world_size": 2' in (work_dir / "run.json").read_text()


def test_lost_node_ends_the_other(root, tmp_path, nodes, fault):
    logs = [tmp_path / f"node{i}.log" for i in range(2)]
    endless = [
        "train_cfg.max_iters=100000",
        "train_cfg.val_interval=100000",
        "env_cfg.dist_cfg.timeout=20",
    ]
    started = [
        start_node(root, log, i, node, tmp_path / "run", *endless)
        for i, (log, node) in enumerate(zip(logs, nodes, strict=True))
    ]
    try:
        wait_for(lambda: "Iter(train) [     2/" in logs[0].read_text(), started[0])
        # The power goes: no process there says goodbye, and the cable is dead.
        ip("-n", nodes[1], "link", "set", "cable1", "down")
        text = finish(started[0], logs[0], ok=False)
        assert "Timed out waiting 20000ms" in text
    finally:
        kill_tree(started[1].pid)
    fault(
        "a node is lost",
        "network of one of two nodes (name spaces) cut, timeout of 20 s",
        1,
        "the other node ends after the timeout",
    )


@pytest.fixture
def slurm(tmp_path) -> dict[str, str]:
    """The environment of a machine whose srun and scontrol are imitated."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SCONTROL_LOG": str(tmp_path / "scontrol.log"),
        "MASTER_PORT": str(free_port()),
        "GPUS": "2",
        "GPUS_PER_NODE": "1",
        "SRUN_ARGS": "--nodes=2 --time=10",
    }


def test_slurm_scripts_train_and_test(root, tmp_path, slurm):
    work_dir, log = tmp_path / "run", tmp_path / "log.txt"
    train = ("tools/slurm_train.sh", "gpu", "cells", DEMO, work_dir, "--cfg-options")
    text = finish(start(root, log, *train, *SHORT, **slurm), log)
    for word in ("'-p': 'gpu'", "'--job-name': 'cells'", "'--nodes': '2'"):
        assert word in text
    assert "'--kill-on-bad-exit': '1'" in text and "Iter(train) [2/2]" in text
    assert Path(slurm["SCONTROL_LOG"]).read_text() == "node[0-1]\n" * 2
    assert '"world_size": 2' in (work_dir / "run.json").read_text()
    test = ("tools/slurm_test.sh", "gpu", "cells", DEMO, work_dir / "iter_2.pth")
    text = finish(start(root, log, *test, "--format-only", **slurm), log)
    assert len(list(work_dir.glob("*/submission.zip"))) == 1
    assert text.count("Submission of 3 images written") == 1
