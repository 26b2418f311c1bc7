"""Fuse the predictions of several models.

Examples::

    python tools/ensemble.py OUT work_dirs/a work_dirs/b --eval
    python tools/ensemble.py OUT work_dirs/folds --format-only    # fold-0, fold-1, ...
    python tools/ensemble.py OUT a/predictions.json b/submission.zip --format-only

A member is a prediction file or submission (or the folder that holds one), a run folder
(its best checkpoint, or else its last), or a folder of runs named fold-0, fold-1 and so
on. Runs are predicted by tools/test.py into OUT/members/ and reused from there. The
result goes to a new folder, OUT/<time>/: predictions.json, and metrics.json or the
submission.

docs/ensembles.md says what the methods do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from tqdm import tqdm

from custom.datasets.splits import Split
from custom.engine.runs import (
    checkpoint_of_run,
    config_of_run,
    folds_of,
    read_config,
    split_of_run,
)
from custom.errors import InputError, run_tool
from custom.evaluation import ImagePredictions, Predictions, read_predictions
from custom.evaluation.submission import write_submission
from custom.inference.fusion import METHODS, fuse, vote_masks
from custom.io.checksums import file_checksum
from custom.io.json_file import read_json, write_json
from custom.workbench.analysis.results import evaluate_predictions

ROOT = Path(__file__).resolve().parent.parent


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("members", nargs="+", type=Path, metavar="MEMBER")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--eval", action="store_true", help="evaluate on labelled images")
    what.add_argument("--format-only", action="store_true", help="write the submission")
    parser.add_argument("--method", choices=METHODS, default="wbf")
    parser.add_argument("--iou-thr", type=float, default=0.55)
    parser.add_argument(
        "--mask-iou", action="store_true", help="overlap of masks, not of boxes"
    )
    parser.add_argument(
        "--score-thr", type=float, default=0.0, help="of the members' detections"
    )
    parser.add_argument("--max-dets", type=int, default=1000, help="per image")
    parser.add_argument(
        "--config",
        help="whose data set and evaluators --eval uses; default: the first member's",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="for members that are submissions: the released list of test images",
    )
    parser.add_argument("--tta", action="store_true", help="for tools/test.py")
    args = parser.parse_args()
    if not 0 <= args.iou_thr <= 1:
        parser.error("--iou-thr must be in 0..1")
    return args


def find_members(paths: Sequence[Path], args: argparse.Namespace) -> list[Path]:
    """The prediction file of each member; runs are predicted.

    Raises:
        InputError: A member is given twice, a run lacks a checkpoint, or predicting it
            fails.
    """
    items = [item for path in paths for item in folds_of(path) or [path]]
    for item, count in Counter(items).items():
        if count > 1:
            raise InputError(item, "it is a member twice", "Give each member once")
    # All before the first is predicted.
    checkpoints = [
        checkpoint_of_run(item)
        if any(item.glob("*.pth")) or item not in paths
        else None
        for item in items
    ]
    return [
        item if checkpoint is None else predict(checkpoint, args)
        for item, checkpoint in zip(items, checkpoints, strict=True)
    ]


def predict(checkpoint: Path, args: argparse.Namespace) -> Path:
    """The prediction file of a run's checkpoint, made now or by an earlier call."""
    run = checkpoint.absolute().parent
    kind = ("test" if args.format_only else "val") + "-tta" * args.tta
    folder = args.out / "members" / kind / f"{run.parent.name}_{run.name}"
    if finished := sorted(folder.glob("*/predictions.json")):
        info = read_predictions(finished[-1]).info
        if info.get("checkpoint_sha256") == file_checksum(checkpoint):
            print(f"{finished[-1]}: predicted before")
            return finished[-1]
        raise InputError(
            folder,
            "it holds predictions of another checkpoint",
            "Choose another OUT, or remove the folder",
        )
    print(f"\n=== {run}", flush=True)
    # Not the config inside the checkpoint: that is data, and a config is code.
    command = [ROOT / "tools/test.py", config_of_run(run), checkpoint.absolute()]
    command += ["--work-dir", folder.absolute(), *["--tta"] * args.tta]
    command += ["--format-only"] * args.format_only
    if subprocess.run([sys.executable, *map(str, command)]).returncode:
        raise InputError(checkpoint, "predicting it failed", "See the lines above")
    (path,) = folder.glob("*/predictions.json")
    return path


def check(members: Sequence[Predictions], sources: Sequence[str]) -> None:
    """Refuse members that cannot be fused.

    Raises:
        InputError: A member is empty, or covers other images, classes or another split
            than the first.
    """
    first = members[0]
    for member, source in zip(members, sources, strict=True):
        if not any(len(image) for image in member.images):
            raise InputError(source, "it lacks detections", "Leave it out")
        for what, value, wanted in (
            ("classes", member.classes, first.classes),
            ("split", _split_name(member), _split_name(first)),
            ("subset", member.info.get("subset"), first.info.get("subset")),
        ):
            if value and wanted and value != wanted:
                raise InputError(
                    source,
                    f"its {what} is {value}, that of {sources[0]} {wanted}",
                    "Fuse predictions of the same images and classes",
                )
        sizes = [{i.img_id: i.size for i in m.images} for m in (first, member)]
        if sizes[0] != sizes[1]:
            mismatched = sorted(dict(sizes[0].items() ^ sizes[1].items()))
            raise InputError(
                source,
                f"it covers other images than {sources[0]}: {len(mismatched)} "
                f"differ, the first is that of id {mismatched[0]}",
                "Fuse predictions of the same images; for submissions give --images",
            )


def _split_name(member: Predictions) -> str | None:
    return (member.info.get("split") or {}).get("name")


def check_unseen(members: Sequence[Predictions], sources: Sequence[str]) -> None:
    """Refuse to evaluate on images that a member was trained on.

    Raises:
        InputError: See above; the split file beside the member's checkpoint says so.
    """
    for member, source in zip(members, sources, strict=True):
        run = Path(member.info.get("checkpoint") or "none").parent
        if (split := split_of_run(run)) is None:
            continue
        seen = {image.name for image in member.images} & set(Split.load(split).train)
        if seen:
            raise InputError(
                source,
                f"{len(seen)} of its images, such as {min(seen)}, were in the "
                "training part of its model",
                "Evaluate on images that no member has seen",
            )


def fuse_image(
    predictions: Sequence[ImagePredictions], name: str, args: argparse.Namespace
) -> ImagePredictions:
    """Fuse the detections of all members in one image."""
    scores = np.concatenate([image.scores for image in predictions])
    keep = np.flatnonzero(scores >= args.score_thr)
    rles = [rle for image in predictions for rle in image.rles]
    rles = [rles[i] for i in keep]
    scores = scores[keep]
    fused = fuse(
        np.concatenate([image.boxes for image in predictions])[keep],
        scores,
        np.concatenate([image.labels for image in predictions])[keep],
        method=args.method,
        iou_thr=args.iou_thr,
        num_members=len(predictions),
        rles=rles if args.mask_iou else None,
    )
    groups = fused.groups[: args.max_dets]
    # Averaged boxes go with averaged masks, chosen ones with chosen masks.
    if args.method == "wbf":
        masks = vote_masks(rles, scores, groups)
    else:
        masks = [rles[group[0]] for group in groups]
    best = slice(args.max_dets)
    return ImagePredictions(
        predictions[0].img_id,
        name,
        predictions[0].size,
        fused.labels[best],
        fused.scores[best],
        fused.boxes[best],
        masks,
    )


def main() -> None:
    """Predict what is missing, fuse, write, evaluate."""
    args = parse_args()
    images = read_json(args.images) if args.images else None
    sources = [str(path) for path in find_members(args.members, args)]
    members = [read_predictions(source, images) for source in sources]
    check(members, sources)
    # Submissions name neither classes nor images: take them from a member that does.
    first = max(members, key=lambda m: len(m.classes))
    config = args.config or first.info.get("config")
    cfg = read_config(config) if config and Path(config).is_file() else None
    if cfg is None and (args.eval or config):
        source = config or "the members"
        raise InputError(source, "their config is not there", "Give --config")
    if args.eval:
        check_unseen(members, sources)
    elif first.info.get("subset", "test") != "test":
        raise InputError(sources[0], "these are validation images", "Use --eval")
    by_id = [{image.img_id: image for image in m.images} for m in members]
    fused = [
        fuse_image([images[image.img_id] for images in by_id], image.name, args)
        for image in tqdm(first.images, desc="fuse", unit="image", delay=1)
    ]
    settings = ("method", "iou_thr", "mask_iou", "score_thr", "max_dets")
    info = {
        "config": first.info.get("config"),
        "checkpoint": None,
        "split": first.info.get("split"),
        "subset": "test" if args.format_only else "val",
        "members": sources,
        **{key: getattr(args, key) for key in settings},
    }
    result = Predictions(first.classes, fused, info)
    # A folder of its own, also for two calls within one second.
    while (out := args.out / datetime.now().strftime("%Y%m%d_%H%M%S")).exists():
        time.sleep(0.1)
    result.save(out / "predictions.json")
    print(f"{out}/predictions.json: {len(members)} members fused by {args.method}")
    if args.eval:
        metrics = evaluate_predictions(cfg, result)
        write_json(metrics, out / "metrics.json", indent=1)
        for key in ("mAP_50", "mAP", "mAP_75"):
            print(f"segm {key}: {metrics.get(f'coco/segm_{key}', -1):.4f}")
        print(f"{out}/metrics.json: all metrics")
    else:
        # Each task has its own name for the file.
        name = {"file_name": cfg.submission_evaluator.file_name} if cfg else {}
        path = write_submission(result.entries(), out, **name)
        print(f"{path}: {sum(map(len, result.images))} detections")


if __name__ == "__main__":
    run_tool(main)
