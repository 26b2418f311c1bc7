"""Write a trained model as one file.

Example::

    python tools/export.py work_dirs/maskrcnn_r50 -o model.pt
    python tools/predict.py model.pt image.tif -o OUT

The file holds the weights (EMA weights where the run has them), the classes with their
colours, the network's settings with its thresholds, and the test pipeline. It takes the
run's best checkpoint, or else its last. Unlike a run folder, whose config is Python
code, the file cannot run code (docs/predict.md).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from custom.errors import InputError, run_tool
from custom.inference.export import load_export, save_export
from custom.inference.trained_model import build_network, read_model


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="run folder, or config file")
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="checkpoint, with a config"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    return parser.parse_args()


def main() -> None:
    """Check what can be checked, write, read back."""
    args = parse_args()
    if args.out.exists():
        raise InputError(args.out, "it exists already", "Choose another name")
    model = read_model(args.model, args.checkpoint)
    build_network(model)  # its weights fit
    # Paths of this machine stay out of the file.
    checkpoint = Path(model.info["checkpoint"])
    run = model.info.get("run", checkpoint.resolve().parent.name)
    info = {"run": run, "checkpoint": checkpoint.name}
    shown = ("data", "split", "score", "score_thr")
    info |= {k: model.info[k] for k in shown if k in model.info}
    model = replace(model, info=info)
    save_export(args.out, model)
    load_export(args.out)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.1f} MB, {', '.join(model.classes)}, of {checkpoint}")
    mpp = model.config.get("mpp")
    order = model.config["pipeline"][0].get("channel_order")
    print(f"  pixels of {mpp or 'unknown'} µm, training files stored {order or 'any'}")
    for key in shown:
        print(f"  {key}: {info.get(key, 'not known')}")


if __name__ == "__main__":
    run_tool(main)
