"""Write docs/zoo.md: what each config is and its size.

Example::

    python tools/analysis/zoo.py

Everything is read from the configs. Models are built on PyTorch's meta device: no
weights, no computation.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from tqdm import tqdm

from custom.engine.guards import count_parameters
from custom.errors import run_tool
from custom.io.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
FOLDERS = {
    "cell": "The baselines (`configs/cell/`)",
    "cell/ablations": "Ablations of `configs/cell/maskrcnn_r50.py`",
    "cell/champion": "The champion ([champion.md](champion.md))",
    "demo": "Minutes on two CPU cores",
    "debug": "Does it run, can it learn?",
    "_template_": "Your own data ([data.md](data.md))",
}
HEAD = """# Zoo

`python tools/analysis/zoo.py` writes this page from the configs: do not edit it.
Parameters are those that are trained, in millions; the course allows fewer than 200.
The README of each reproduction describes its configs.
"""


def config_files() -> list[Path]:
    """Every config, folder by folder."""
    files = [path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts]
    return sorted(files, key=lambda path: (str(path.parent), path.name))


def about(path: Path) -> str:
    """The first sentence of a config's first comment."""
    lines = itertools.takewhile(
        lambda line: line.startswith("# "), path.read_text().splitlines()
    )
    text = " ".join(line.removeprefix("# ") for line in lines)
    return text.split(". ")[0].removesuffix(".").removeprefix("Ablation: ")


@functools.cache
def parameters(detector: str) -> tuple[int, int]:
    """(all, trainable) parameters of a model, given as JSON: many configs share one."""
    with torch.device("meta"):
        return count_parameters(MODELS.build(ConfigDict(json.loads(detector))))


def describe(path: Path) -> dict:
    """The row of one config."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    detector = cfg.model.get("detector", cfg.model)  # wrapped for tiles or TTA
    total, trainable = parameters(json.dumps(detector, sort_keys=True))
    name = path.relative_to(ROOT).as_posix()
    return {
        "folder": path.parent.relative_to(CONFIGS).as_posix(),
        "config": f"[{path.stem}](../{name})",
        "about": about(path),
        "total": total,
        "parameters": f"{trainable / 1e6:.1f}",
    }


def write(configs: list[dict]) -> str:
    """The whole page."""
    parts = [HEAD]
    by_folder: dict[str, list[dict]] = {}
    for config in configs:
        by_folder.setdefault(config["folder"], []).append(config)
    for folder in [*FOLDERS, *sorted(set(by_folder) - set(FOLDERS))]:
        name = f"[{Path(folder).name}](../configs/{folder}/README.md)"
        title = FOLDERS.get(folder, f"Reproduction: {name}")
        # The README of a reproduction says what its configs are.
        columns = ["config", *(["about"] * (folder in FOLDERS)), "parameters"]
        rows = [[row[key] for key in columns] for row in by_folder[folder]]
        parts.append(f"\n## {title}\n")
        parts += [
            f"| {' | '.join(cells)} |"
            for cells in [columns, ["---"] * len(columns), *rows]
        ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Read all configs and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "zoo.md")
    args = parser.parse_args()
    files = config_files()
    text = write([describe(path) for path in tqdm(files, unit="config")])
    with write_atomically(args.out) as part:
        part.write_text(text)
    print(f"{args.out}: {len(files)} configs")


if __name__ == "__main__":
    run_tool(main)
