"""Choose the post-processing of a model on validation images, without the network.

Examples::

    python tools/test.py CONFIG CHECKPOINT --raw              # once: writes raw.npz
    python tools/analysis/tune_postprocess.py work_dirs/RUN/TIME/raw.npz -o tuned.py
    python tools/analysis/tune_postprocess.py RAW -o tuned.py --holdout 50
    python tools/analysis/tune_postprocess.py work_dirs/folds/fold-*/*/raw.npz -o x.py

Tries NMS and soft-NMS, score threshold, detections per image, mask threshold, and by
class the least area and score. Prints what each value gives and writes a config that
inherits the model's and holds the best. A figure on the images that the settings were
chosen on is too good; --holdout keeps images away from the choice and gives theirs too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine.config import Config
from terminaltables import AsciiTable
from tqdm import tqdm

from custom.datasets.splits import make_split
from custom.errors import InputError
from custom.evaluation import RawPredictions, evaluate_predictions, labelled_images
from custom.evaluation.tuning import Truth, Tuner, value_of
from custom.io.whole_file import whole_file
from custom.structures.rle import as_rles


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "raw",
        type=Path,
        nargs="+",
        help="raw.npz of tools/test.py --raw; several for the folds of one config",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="config to write")
    parser.add_argument(
        "--metric",
        choices=["ap50", "f1"],
        default="ap50",
        help="segm AP50; or F1 at mask IoU 0.5, for counting cells",
    )
    parser.add_argument(
        "--holdout",
        type=int,
        default=0,
        metavar="PERCENT",
        help="share of the images that the choice does not see, whole patients where "
        "the names tell them",
    )
    parser.add_argument("--seed", type=int, default=42, help="of --holdout")
    parser.add_argument("--config", help="default: the one that wrote RAW")
    return parser.parse_args()


def read_truths(cfg: Config, raw: RawPredictions) -> dict[str, Truth]:
    """Ground truth of the images, by name."""
    dataset = labelled_images(cfg, raw)
    truths = {}
    for i in tqdm(range(len(dataset)), desc="read", unit="image", delay=1, leave=False):
        sample = dataset[i]["data_samples"]
        gt = sample.gt_instances
        ignored = sample.get("ignored_instances", {}).get("masks", ())
        truths[sample.name] = Truth(
            gt.labels.numpy(), as_rles(gt.masks), list(as_rles(ignored))
        )
    return truths


def hold_out(truths: dict[str, Truth], raw: RawPredictions, args) -> tuple[list, list]:
    """Names of the images to choose on and of those to check on."""
    if not args.holdout:
        return list(truths), []
    classes_of = {
        name: sorted({raw.classes[label] for label in truth.labels})
        for name, truth in truths.items()
    }
    shares = f"{100 - args.holdout}-{args.holdout}_seed{args.seed}"
    try:
        split = make_split(f"grouped_{shares}", classes_of, args.raw[0])
    except InputError as error:
        print(f"images are held out without regard to patients: {error}")
        split = make_split(f"stratified_{shares}", classes_of, args.raw[0])
    return list(split.train), list(split.val)


def tables(rows: list, classes: Sequence[str], settings: dict, start: dict) -> str:
    """The rows of the last round, a table for each setting.

    A star is at the best value, an o at that of the config.
    """
    found: dict[str, dict[str, dict]] = {}
    for key, label, value, score in rows:
        line = "" if label is None else classes[label]
        column = str(value)
        if isinstance(value, dict):
            line, column = value["type"], f"IoU {value['iou_threshold']}"
        mark = "*" * (value == value_of(settings, key, label))
        mark += "o" * (value == value_of(start, key, label))
        found.setdefault(key, {}).setdefault(line, {})[column] = f"{score:.4f}{mark}"
    text = []
    for key, lines in found.items():
        columns = list(dict.fromkeys(c for cells in lines.values() for c in cells))
        body = [[n, *(cells.get(c, "") for c in columns)] for n, cells in lines.items()]
        text.append(AsciiTable([[key, *columns], *body]).table)
    return "\n".join(text)


def write_config(out: Path, base: Path, settings: dict, note: str) -> None:
    """A config that inherits ``base`` and has the settings, whole or not at all."""
    nms = ", ".join(f"{k}={v!r}" for k, v in settings["nms"].items())
    lines = [f"            nms=dict(_delete_=True, {nms}),"]
    lines += [
        f"            {key}={value!r},"
        for key, value in settings.items()
        if key != "nms" and (not isinstance(value, list) or any(value))
    ]
    head = f"# Written by tools/analysis/tune_postprocess.py.\n# {note}\n"
    base = os.path.relpath(base.absolute(), out.absolute().parent)
    body = ["model = dict(", "    test_cfg=dict(", "        rcnn=dict("]
    text = "\n".join([f"_base_ = {base!r}", "", *body, *lines])
    with whole_file(out) as part:
        part.write_text(f"{head}{text.removesuffix(',')})))\n")


def main() -> None:
    """Search, check and write."""
    args = parse_args()
    if args.out.exists():
        raise InputError(args.out, "it exists already", "Choose another -o")
    if not 0 <= args.holdout < 100:
        raise InputError("--holdout", f"{args.holdout} is no share", "Give 0 to 99")
    raw = RawPredictions.join(list(map(RawPredictions.load, args.raw)), args.raw)
    base = Path(args.config or raw.info["config"])
    if not base.is_file():
        raise InputError(base, "the config is not there", "Name it by --config")
    cfg = Config.fromfile(str(base))
    full = [i.name for i in raw.images if len(i.scores) >= raw.info["max_dets"]]
    if full:
        print(
            f"warning: of {len(full)} images, such as {full[0]}, only the best "
            f"{raw.info['max_dets']} detections were kept, and the model may give more "
            "than is seen here; give tools/test.py --raw a larger number"
        )
    truths = read_truths(cfg, raw)
    if not any(len(truth.labels) for truth in truths.values()):
        raise InputError(args.raw[0], "its images have no instance", "Use other images")
    names = hold_out(truths, raw, args)
    rcnn = raw.info["rcnn"]
    start = {
        key: rcnn[key] for key in ("score_thr", "nms", "max_per_img", "mask_thr_binary")
    }
    start |= {key: rcnn[key] for key in ("min_area", "class_score_thr") if key in rcnn}
    chosen, held = (
        Tuner(raw, {name: truths[name] for name in part}, args.metric) for part in names
    )
    before = chosen.score(start)
    with tqdm(desc="search", unit="setting", delay=1) as bar:
        settings, best, rows = chosen.search(start, bar.update)
    print(tables(rows, raw.classes, settings, start))
    print(
        f"{args.metric} of {len(rows)} values, all else the best; * the best, o that of"
    )
    print(f"{base}")
    note = (
        f"{args.metric} {before:.4f} -> {best:.4f} on the {len(names[0])} images that "
        "it was chosen on"
    )
    if held.images:
        a, b = held.score(start), held.score(settings)
        note += f",\n# {a:.4f} -> {b:.4f} on {len(names[1])} that were held out"
    print(note.replace("\n# ", " "))
    if not held.images:
        print(
            "The second figure is too good; --holdout, or other images, give a fair one"
        )
    if args.metric == "ap50":
        figures = evaluate_predictions(cfg, chosen.predictions(settings))
        full = figures["coco/segm_mAP_50"]
        print(
            f"segm AP50 {full:.6f} by the full evaluation of the same detections, "
            f"difference {abs(full - best):.0e}"
        )
    write_config(args.out, base, settings, note + ".")
    print(f"{args.out}: inherits {base}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
