"""tools/predict.py in two processes: each image once, and what a death costs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest
import tifffile
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

DEMO = "configs/demo/maskrcnn_r18-slim.py"
COUNT = 8
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work(repo, tmp_path_factory):
    """Random weights, and images of which the last cannot be read."""
    folder = tmp_path_factory.mktemp("work")
    init_default_scope("mmdet")
    cfg = Config.fromfile(repo / DEMO)
    torch.manual_seed(0)
    meta = {"dataset_meta": {"classes": [f"class{i}" for i in range(1, 5)]}}
    network = MODELS.build(cfg.model)
    torch.save({"state_dict": network.state_dict(), "meta": meta}, folder / "m.pth")
    (folder / "in").mkdir()
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (320, 320, 3), np.uint8)
        tifffile.imwrite(folder / "in" / f"{i:02}.tif", pixels, photometric="rgb")
    (folder / "in" / f"{COUNT:02}.tif").write_text("these are words")
    return folder


def arguments(work, out):
    return [
        "tools/predict.py", DEMO, str(work / "m.pth"), str(work / "in"), "-o", str(out),
        "--save", "csv", "geojson", "--score-thr", "0", "--tile", "160",
        "--cfg-options", "model.test_cfg.rcnn.max_per_img=20",
        "model.test_cfg.rpn.max_per_img=50",
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(repo, command, log, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command, cwd=repo, env=environment, text=True, stdout=log, stderr=log
    )


def torchrun(repo, work, out, log):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
        f"--master_port={free_port()}", *arguments(work, out), "--launcher", "pytorch",
    ]  # fmt: skip
    return start(repo, command, log)


def finished(out: Path) -> set[str]:
    return {path.stem for path in (out / ".finished").glob("[!.]*.json")}


def wait_until(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, "it has ended"
        time.sleep(0.1)
    raise AssertionError("it did not come so far")


def check_whole(out, names):
    """All files of finished images are whole."""
    for name in names:
        record = json.loads((out / ".finished" / f"{name}.json").read_text())
        assert record["files"] == [f"{name}.csv", f"{name}.geojson"]
        features = json.loads((out / f"{name}.geojson").read_text())["features"]
        table = pandas.read_csv(out / f"{name}.csv")
        assert len(table) == len(features) == record["summary"]["cells"] > 0


def predicted(text: str) -> list[str]:
    """The images that were predicted, by what was printed."""
    return re.findall(r"(\d\d)\.tif: \d+ cells", text)


def test_torchrun_one_of_two_killed_and_then_the_rest(repo, work, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    with log.open("w") as file:
        process = torchrun(repo, work, out, file)
        # Odd images are those of the second process.
        wait_until(lambda: any(int(n) % 2 for n in finished(out)), process)
        ranks = {
            p.environ().get("RANK"): p for p in psutil.Process(process.pid).children()
        }
        ranks["1"].send_signal(signal.SIGKILL)
        assert process.wait(120) != 0
    done = finished(out)
    check_whole(out, done)
    assert 0 < len(done) < COUNT
    times = {n: (out / f"{n}.csv").stat().st_mtime_ns for n in done}
    with log.open("w") as file:
        process = torchrun(repo, work, out, file)
        assert process.wait(200) != 0  # for the image that cannot be read
    said = log.read_text()
    # Nothing twice, nothing missed, although one process has a bad image.
    everything = {f"{i:02}" for i in range(COUNT)}
    assert finished(out) == everything
    assert sorted(predicted(said)) == sorted(everything - done)
    assert times == {n: (out / f"{n}.csv").stat().st_mtime_ns for n in done}
    check_whole(out, everything)
    assert said.count("failed: ") == 1 and "not a readable TIFF" in said
    names = pandas.read_csv(out / "summary.csv", dtype=str).image
    assert sorted(names) == sorted(everything)
    assert not [p for p in out.iterdir() if "mmcell-part" in p.name]


def test_slurm_the_other_process_finishes_its_images_when_one_is_killed(
    repo, work, tmp_path
):
    out = tmp_path / "out"
    port = str(free_port())
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    command = [sys.executable, *arguments(work, out), "--launcher", "slurm"]
    processes = []
    for rank, log in enumerate(logs):
        environment = {
            "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2",
            "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }  # fmt: skip
        processes.append(start(repo, command, log.open("w"), **environment))
    wait_until(lambda: any(int(n) % 2 for n in finished(out)), processes[1])
    processes[1].kill()
    assert processes[0].wait(120) == 1
    assert "it has ended before its images were finished" in logs[0].read_text()
    even = {f"{i:02}" for i in range(0, COUNT, 2)}
    done = finished(out)
    assert even < done and len(done) < COUNT
    assert set(predicted(logs[0].read_text())) == even
    check_whole(out, done)
