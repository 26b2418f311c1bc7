"""Inspect a data set before training and write a page about it.

Examples::

    python tools/data/audit.py configs/cell/maskrcnn_r50.py -o audit.html
    python tools/data/audit.py data/hw3/train --split grouped_80-20 --json audit.json

The page is self-contained: image and cell sizes, classes, and suspected problems:
near-duplicates, patients in both halves of the split, stain outliers, red and blue
exchanged, cells in pieces, and more.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config, ConfigDict

from custom.datasets.splits import NAMES, patients_from_csv, patients_from_names
from custom.datasets.stain import cluster_names
from custom.errors import InputError, run_tool
from custom.formats.coco import write_json
from custom.workbench.audit.checks import KINDS, Finding, findings, inspect
from custom.workbench.audit.page import Source, audit_page, thumbnail
from custom.workbench.labelled import LabelledSet, innermost
from custom.workbench.report.page import guard_page, write_page

STOCK_MAX_DETS = 100


def open_source(path: Path, split: str | None) -> Source:
    """Open a config or a folder.

    Raises:
        InputError: The path is neither, or the data set refuses it.
    """
    if path.is_dir():
        common = {
            "type": "CellDataset",
            "data_prefix": {"img": str(path)},
            "split": "all",
            "pipeline": [],
        }
        cfgs = {name: ConfigDict(common, subset=name) for name in ("train", "val")}
        max_dets = STOCK_MAX_DETS
    elif path.suffix == ".py" and path.exists():
        cfg = Config.fromfile(path)
        cfgs = {
            name: loader.dataset
            for name in ("train", "val")
            if (loader := cfg.get(f"{name}_dataloader"))
        }
        model = cfg.model.get("detector", cfg.model)
        max_dets = model.test_cfg.rcnn.max_per_img
    else:
        raise InputError(
            path, "neither a config nor a folder", "Name a .py file or a folder"
        )
    sets = {}
    for name, dataset in cfgs.items():
        dataset = innermost(dataset)
        dataset.bad_files = "skip"  # they are a finding
        if split:
            dataset.split = split
        if name == "train" or dataset.get("split") != "all":
            sets[name] = LabelledSet.from_config(dataset)
    return Source(str(path), sets, max_dets)


def patients(names: Sequence[str], table: Path | None) -> Mapping[str, str] | None:
    """Patient of each image by a table or a TCGA name; None if they are unknown."""
    if table:
        return patients_from_csv(table, names)
    try:
        return patients_from_names(names, "")
    except InputError:
        return None


def main() -> None:
    """Audit and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a config, or the folder train/")
    parser.add_argument("-o", "--out", type=Path, default=Path("audit.html"))
    parser.add_argument("--json", type=Path, help="write all suspicions to this file")
    parser.add_argument("--split", help=f"a split file, or one of {NAMES}")
    parser.add_argument(
        "--patients", type=Path, help="CSV with the columns name,patient"
    )
    args = parser.parse_args()
    guard_page(args.out)
    if args.json and args.json.exists():
        raise InputError(args.json, "it exists already", "Choose another --json")

    source = open_source(args.source, args.split)
    facts, small = [], {}
    for subset, sample in source.samples():
        name, image = sample.name, sample.image()
        facts.append(inspect(name, subset, image, sample.masks, sample.labels))
        small[name] = thumbnail(image, name, 180)
    names = [image.name for image in facts]
    patient_of = patients(names, args.patients)
    clusters = cluster_names([image.features for image in facts])
    cluster_of = dict(zip(names, clusters, strict=True))
    left_out = [
        Finding("unreadable", (), str(error))
        for labelled in source.sets.values()
        for error in labelled.dataset.left_out
    ]
    results = left_out + findings(
        facts, source.classes, source.max_dets, patient_of, cluster_of
    )
    html = audit_page(source, facts, results, small, patient_of, cluster_of)
    write_page(html, args.out)
    for kind, count in Counter(finding.kind for finding in results).items():
        print(f"{count:6} {KINDS[kind][0]}")
    print(f"{args.out}: {len(facts)} images, {len(html) / 1e6:.1f} MB")
    if args.json:
        listed = [asdict(finding) for finding in results]
        write_json({"source": source.name, "findings": listed}, args.json)
        print(f"{args.json}: all findings")


if __name__ == "__main__":
    run_tool(main)
