r"""Convert annotated images between formats, image by image.

Examples::

    python tools/data/convert.py monusac MoNuSAC_images_and_annotations data/monusac
    python tools/data/convert.py png-masks stage1_train dsb --classes nucleus=class1
    python tools/data/convert.py geojson exported data/mine --images slides
    python tools/data/convert.py layout data/hw3/train coco --to coco \
        --split stratified_80-20_seed42 --subset val

Sources, each with what IN is:

    layout         folder of <image>/image.tif with one label image per class
    monusac        folder of .svs or .tif with ImageScope .xml of the same name
    monuseg        the same; all layers are nuclei
    png-masks      folder of <image>/images and <image>/masks, one PNG per nucleus
    labels         folder of <image>_masks.tif, .png or .npy (Cellpose, StarDist)
    geojson        folder of <image>.geojson (QuPath): detections, and the nuclei of
                   cells; with --annotations what was drawn by hand as well
    coco           a JSON file, RLE or polygons
    instance-maps  folder with PanNuke's or CoNIC's .npy arrays, or CoNSeP-like .mat

OUT gets the format of --to and manifest.jsonl, which lists for each image the source
files with their checksums, the instances, and what was left out and why. The same
command resumes where it was interrupted. docs/data.md describes the formats.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from tqdm import tqdm

from custom.errors import InputError, run_tool
from custom.formats.annotated import SAFE_NAME, Source
from custom.formats.aperio_xml import MONUSAC_CLASSES, find_monusac, find_monuseg
from custom.formats.coco import CocoWriter, find_coco
from custom.formats.conversion import MANIFEST, convert
from custom.formats.folders import (
    LabelWriter,
    LayoutWriter,
    MaskFolderWriter,
    classes_by_name,
    find_labels,
    find_layout,
    find_mask_folders,
)
from custom.formats.geojson import GeoJsonWriter, find_geojson
from custom.formats.instance_maps import find_instance_maps
from custom.io.names import IGNORE

WITH_IMAGES = {
    "monusac": find_monusac,
    "monuseg": find_monuseg,
    "labels": find_labels,
    "geojson": find_geojson,
    "coco": find_coco,
    "instance-maps": find_instance_maps,
}
SOURCES = ("layout", "png-masks", *WITH_IMAGES)
WRITERS = {
    "layout": lambda classes: LayoutWriter(),
    "coco": CocoWriter,
    "coco-polygons": partial(CocoWriter, polygons=True),
    "geojson": lambda classes: GeoJsonWriter(),
    "png-masks": lambda classes: MaskFolderWriter(),
    "labels": lambda classes: LabelWriter(),
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name in SOURCES:
        one = sources.add_parser(name)
        one.add_argument("input", type=Path, metavar="IN")
        one.add_argument("out", type=Path, metavar="OUT")
        one.add_argument("--to", choices=WRITERS, default="layout")
        one.add_argument(
            "--classes",
            help="new names of all classes, such as Epithelial=class1,Debris=ignore; "
            "NAME= leaves one out; 'ignore' is for regions that are neither cell nor "
            "background",
        )
        one.add_argument("--jobs", type=int, default=min(8, os.cpu_count() or 1))
        if name in WITH_IMAGES:
            one.add_argument("--images", type=Path, help="folder of the images")
        if name == "geojson":
            one.add_argument(
                "--annotations", action="store_true", help="take annotations as cells"
            )
        if name == "layout":
            one.add_argument(
                "--split",
                default="all",
                help="a split file or name (make_split.py)",
            )
            one.add_argument("--subset", choices=["train", "val"], default="train")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    return args


def parse_classes(text: str | None) -> dict[str, str] | None:
    """The table of ``--classes``.

    Raises:
        InputError: The text is not NAME=NAME,..., or a new name is not a valid file
            name.
    """
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(",")]
    for old, sign, new in pairs:
        if not old or not sign or (new and not SAFE_NAME.fullmatch(new)):
            raise InputError(
                "--classes", f"{old + sign + new!r} is not OLD=NEW", "See --help"
            )
    return {old.strip(): new.strip() for old, _, new in pairs}


def find(args: argparse.Namespace) -> Source:
    """The images of the source."""
    if args.source == "png-masks":
        return find_mask_folders(args.input)
    if args.source == "geojson":
        return find_geojson(args.input, args.images, args.annotations)
    if args.source != "layout":
        return WITH_IMAGES[args.source](args.input, args.images)
    source = find_layout(args.input)
    if args.split == "all":
        return source
    from custom.datasets.splits import find_split  # it imports mmdet

    image_of = {item.name: item.files[0] for item in source.items}
    split = find_split(args.split, classes_by_name(source), args.input, image_of)
    return find_layout(args.input, getattr(split, args.subset))


def listed(counts: dict) -> str:
    """A table in one line."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none"


def main() -> None:
    """Convert, and say what was written and what was not."""
    args = parse_args()
    classes = parse_classes(args.classes)
    if classes is None and args.source == "monusac":
        classes = MONUSAC_CLASSES
    source = find(args)
    names = [classes.get(n, n) if classes else n for n in source.classes]
    writer = WRITERS[args.to](
        tuple(dict.fromkeys(n for n in names if n and n != IGNORE))
    )
    summary = convert(
        source,
        writer,
        args.out,
        classes,
        {
            "from": args.source,
            "to": args.to,
            # Not there before there was the choice, so that old manifests stay valid.
            **({"annotations": True} if getattr(args, "annotations", False) else {}),
        },
        args.jobs,
        partial(tqdm, total=len(source.items), desc="convert", unit="image", delay=1),
    )
    done = len(summary.written) + len(summary.skipped)
    print(f"{args.out}: {done} images, {listed(summary.total('written'))}")
    if summary.skipped:
        print(f"  {len(summary.skipped)} of them were there already")
    if dropped := summary.total("dropped"):
        print(f"  left out: {listed(dropped)}")
    hidden = sum(r.get("hidden", 0) for r in [*summary.written, *summary.skipped])
    if hidden:
        print(f"  {hidden} lie completely under others")
    print(f"  {args.out / MANIFEST} lists everything")
    if summary.failed:
        errors = "\n".join(f"  {record['error']}" for record in summary.failed)
        raise InputError(
            args.input,
            f"{len(summary.failed)} of {len(source.items)} images cannot be used\n"
            f"{errors}\n",
            "Repair them and repeat the command",
        )


if __name__ == "__main__":
    run_tool(main)
