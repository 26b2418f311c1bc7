"""Run every step on synthetic data, in a few minutes on two CPU cores.

`make demo` calls this. Each step is a command that works on real data as well; it is
printed before it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from custom.evaluation import read_predictions
from custom.io.json_file import read_json

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/demo/maskrcnn_r18-slim.py"
DATA = "data/demo"
SPLIT = "stratified_80-20_seed42"


def step(title: str, *command: str) -> None:
    """Say what is done, print the command and run it."""
    print(f"\n=== {title}\n$ CELL_DATA_ROOT={DATA} python {shlex.join(command)}")
    env = {
        **os.environ,
        "CELL_DATA_ROOT": DATA,
        "CELL_SPLIT": SPLIT,
    }
    code = subprocess.run([sys.executable, *command], cwd=ROOT, env=env).returncode
    if code != 0:
        sys.exit(f"demo: this step failed with exit status {code}")


def main() -> None:
    """Make data, train, evaluate, submit, report, draw."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    start = time.monotonic()
    # A new folder each time: nothing is overwritten.
    work_dir = next(
        path
        for path in (ROOT / f"work_dirs/demo_{i}" for i in itertools.count(1))
        if not path.exists()
    ).relative_to(ROOT)
    if not (ROOT / DATA).exists():
        step("a synthetic data set", "tools/data/make_demo_data.py", "--out", DATA)
    step("train", "tools/train.py", CONFIG, "--work-dir", str(work_dir))
    checkpoint = str(next((ROOT / work_dir).glob("best_*.pth")).relative_to(ROOT))
    step("evaluate", "tools/test.py", CONFIG, checkpoint, "--show-dir", "images")
    step("submission", "tools/test.py", CONFIG, checkpoint, "--format-only")
    submission = max((ROOT / work_dir).glob("*/submission.zip"))
    images = read_json(ROOT / DATA / "test_image_name_to_ids.json")
    checked = read_predictions(submission, images)  # as the scorer reads it
    count = sum(map(len, checked.images))
    report = work_dir / "report.html"
    overlays = max((ROOT / work_dir).glob("*/images"))
    step("report", "tools/report.py", str(work_dir), "-o", str(report))
    scalars = [
        json.loads(line)
        for file in (ROOT / work_dir).glob("*/vis_data/scalars.json")
        for line in file.open()
    ]
    best = max(row.get("coco/segm_mAP_50", -1) for row in scalars)
    print(
        f"\n=== done in {time.monotonic() - start:.0f} s\n"
        f"segm AP50     {best:.3f} on the validation images, maxDets 1000\n"
        f"data          {DATA}\n"
        f"run           {work_dir}\n"
        f"checkpoint    {checkpoint}\n"
        f"submission    {submission.relative_to(ROOT)}, checked, {count} detections\n"
        f"report        {report}\n"
        f"images        {overlays.relative_to(ROOT)}"
    )


if __name__ == "__main__":
    main()
