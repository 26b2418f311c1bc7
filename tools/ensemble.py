"""Fuse the predictions of several models.

Examples::

    python tools/ensemble.py OUT work_dirs/a work_dirs/b --eval
    python tools/ensemble.py OUT work_dirs/folds --format-only    # fold-0, fold-1, ...
    python tools/ensemble.py OUT CONFIG CHECKPOINT CONFIG CHECKPOINT --eval
    python tools/ensemble.py OUT a/predictions.json b/submission.zip --format-only

A member is a prediction file or submission (or the folder that holds one), a run folder
(its best checkpoint, or else its last), a folder of such runs named fold-0, fold-1 and
so on, or a config followed by a checkpoint. Models whose predictions are missing are
predicted into OUT/members/ and reused from there. The result goes to a new folder,
OUT/<time>/: predictions.json, and metrics.json or the submission.

docs/ensembles.md says what the methods do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

import numpy as np
from mmengine.config import Config
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
from custom.evaluation import (
    ImagePredictions,
    Predictions,
    read_predictions,
)
from custom.evaluation.submission import write_submission
from custom.inference.fusion import METHODS, fuse, vote_masks
from custom.io.json_file import read_json, write_json
from custom.workbench.analysis.results import evaluate_predictions


@dataclass(frozen=True)
class Model:
    """A member that has to be predicted; without a config its run folder has it."""

    checkpoint: Path
    config: Path | None = None

    @property
    def name(self) -> str:
        """For the folder of its predictions."""
        return f"{self.checkpoint.absolute().parent.name}_{self.checkpoint.stem}"


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
        "--split",
        help="predict and evaluate the validation images of this split (a file or a "
        "name); default: each run's own",
    )
    parser.add_argument(
        "--config",
        help="for members without one, and whose data set and evaluators --eval uses; "
        "default: that of the run",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="for members that are submissions: the released list of test images",
    )
    parser.add_argument("--tta", action="store_true", help="for tools/test.py")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], help="for tools/test.py: key=value"
    )
    return parser.parse_args()


def find_members(items: Sequence[Path]) -> list[Model | Path]:
    """Models and prediction files, in the order of the command line.

    Raises:
        InputError: A config lacks a checkpoint, a folder is empty, or a member that is
            given twice.
    """
    members: list[Model | Path] = []
    items = list(items)
    while items:
        item = items.pop(0)
        if item.suffix == ".py":
            if not items or items[0].suffix != ".pth":
                raise InputError(
                    item,
                    "no checkpoint follows this config",
                    "Give both, in this order",
                )
            members.append(Model(items.pop(0), item))
        elif item.suffix == ".pth":
            members.append(Model(item))
        elif folds := folds_of(item):
            members += [Model(checkpoint_of_run(fold)) for fold in folds]
        elif any(item.glob("*.pth")):
            members.append(Model(checkpoint_of_run(item)))
        else:
            members.append(item)
    for item, count in Counter(members).items():
        if count > 1:
            source = item.checkpoint if isinstance(item, Model) else item
            raise InputError(source, "it is a member twice", "Give each member once")
    return members


def predict(model: Model, args: argparse.Namespace) -> Path:
    """The prediction file of a model, which is made if need be."""
    if not model.checkpoint.is_file():
        raise InputError(model.checkpoint, "it does not exist", "Check the name")
    folder = args.out / "members" / ("test" if args.format_only else "val") / model.name
    options = list(args.cfg_options)
    given = model.config or (args.config and Path(args.config))
    split = args.split or split_of_run(model.checkpoint.parent)
    if not args.format_only and args.split:
        options.append(f"test_dataloader.dataset.split={args.split}")
    asked = {
        "checkpoint": str(model.checkpoint.absolute()),
        "changed": model.checkpoint.stat().st_mtime,
        "split": None if args.format_only else split,
        "config": given and str(given.absolute()),
        "tta": args.tta,
        "options": options,
    }
    record = folder / "asked.json"
    finished = sorted(folder.glob("*/predictions.json"))
    if finished:
        if record.is_file() and read_json(record) == asked:
            print(f"{finished[-1]}: predicted before")
            return finished[-1]
        raise InputError(
            folder,
            "it holds predictions of another checkpoint, split or other options",
            "Choose another OUT, or remove the folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(asked, record, indent=1)
    # Not the one inside the checkpoint: that is data, and a config is code.
    config = given or config_of_run(model.checkpoint.parent)
    command = ["tools/test.py", config.absolute(), model.checkpoint.absolute()]
    command += ["--work-dir", folder.absolute()]
    command += ["--format-only"] if args.format_only else []
    command += ["--tta"] if args.tta else []
    command += ["--cfg-options", *options] if options else []
    print(f"\n=== {model.name}", flush=True)
    code = subprocess.run([sys.executable, ROOT / command[0], *map(str, command[1:])])
    if code.returncode != 0:
        raise InputError(
            model.checkpoint, "predicting it failed", "See the lines above"
        )
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
                "Evaluate on images that no member has seen, see --split",
            )


def fuse_members(
    members: Sequence[Predictions], args: argparse.Namespace
) -> list[ImagePredictions]:
    """Fuse image by image."""
    by_id = [{image.img_id: image for image in m.images} for m in members]
    # Of members with and without names of the images take one with.
    named = max(members, key=lambda m: len(m.classes)).images
    return [
        fuse_image([images[image.img_id] for images in by_id], image.name, args)
        for image in tqdm(named, desc="fuse", unit="image", delay=1)
    ]


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
    items = find_members(args.members)
    images = read_json(args.images) if args.images else None
    sources = [
        predict(item, args) if isinstance(item, Model) else item for item in items
    ]
    members = [read_predictions(source, images) for source in sources]
    sources = [str(source) for source in sources]
    check(members, sources)
    first = max(members, key=lambda m: len(m.classes))
    cfg = _config(args.config or first.info.get("config"), needed=args.eval)
    if args.eval:
        check_unseen(members, sources)
    elif first.info.get("subset", "test") != "test":
        raise InputError(
            sources[0], "these are validation images", "Use --eval instead"
        )
    settings = ("method", "iou_thr", "mask_iou", "score_thr", "max_dets")
    info = {
        "config": first.info.get("config"),
        "checkpoint": None,
        "split": first.info.get("split"),
        "subset": "test" if args.format_only else "val",
        "members": sources,
        **{key: getattr(args, key) for key in settings},
    }
    fused = Predictions(first.classes, fuse_members(members, args), info)
    out = args.out / datetime.now().strftime("%Y%m%d_%H%M%S")
    fused.save(out / "predictions.json")
    print(f"{out}/predictions.json: {len(members)} members fused by {args.method}")
    if args.eval:
        metrics = evaluate_predictions(cfg, fused)
        write_json(metrics, out / "metrics.json", indent=1)
        for key in ("mAP_50", "mAP", "mAP_75"):
            print(f"segm {key}: {metrics.get(f'coco/segm_{key}', -1):.4f}")
        print(f"{out}/metrics.json: all metrics")
    else:
        # Each task has its own name for the file.
        name = {"file_name": cfg.submission_evaluator.file_name} if cfg else {}
        path = write_submission(fused.entries(), out, **name)
        print(f"{path}: {sum(map(len, fused.images))} detections")


def _config(path: str | None, needed: bool) -> Config | None:
    """The config whose data set, evaluators and file name are used."""
    if path is not None and Path(path).is_file():
        return read_config(path)
    if needed or path is not None:
        raise InputError(
            path or "the members", "their config is not there", "Give --config"
        )
    return None


if __name__ == "__main__":
    run_tool(main)
