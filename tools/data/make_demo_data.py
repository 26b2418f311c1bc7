"""Draw a small synthetic data set in the released layout.

It stands in for the real images, to try everything without a download::

    python tools/data/make_demo_data.py --out data/demo --train 48 --test 6

The same arguments give the same files. A folder that is not empty is left alone.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from custom.errors import run_tool
from custom.workbench.synthetic import write_dataset


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/demo"), help="folder")
    parser.add_argument("--train", type=int, default=48, help="training images")
    parser.add_argument("--test", type=int, default=6, help="test images")
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the data set and say what was written."""
    args = parse_args(argv)
    progress = partial(tqdm, desc="drawing", unit="image")
    counts = write_dataset(
        args.out, args.train, args.test, args.size, args.seed, progress
    )
    cells = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(
        f"{args.out}: {args.train} training images ({cells}), {args.test} test images"
    )


if __name__ == "__main__":
    run_tool(main)
