"""What the reproductions resolve to, against a frozen table.

After a change on purpose: ``python tests/configs/test_reproductions.py`` writes the table.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs/reproductions"
TABLE = Path(__file__).with_name("reproductions.json")
FILES = sorted(
    path.relative_to(FOLDER).with_suffix("").as_posix()
    for path in FOLDER.glob("*/*.py")
    if path.parent.name != "_base_"
)
# What a report can say of its system.
KEYS = (
    "load_from",
    "model.data_preprocessor",
    "model.backbone",
    "model.neck",
    "model.rpn_head",
    "model.roi_head",
    "model.train_cfg",
    "model.test_cfg",
    "train_dataloader.batch_size",
    "train_dataloader.dataset.split",
    "train_dataloader.dataset.pipeline",
    "val_dataloader.dataset.pipeline",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "default_hooks.checkpoint.interval",
    "default_hooks.checkpoint.save_best",
    "default_hooks.checkpoint.rule",
    "tta_views",
)
HOOKS = ("EarlyStoppingHook", "ValidationLossHook")


def frozen(name: str) -> dict[str, object]:
    """Every value below the keys by its path; lists count as values."""
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    values: dict[str, object] = {}

    def add(path: str, node: object) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                if key != "_scope_":  # where MMDetection's bases come from
                    add(f"{path}.{key}", value)
        else:
            values[path] = json.loads(json.dumps(node))

    for key in KEYS:
        node = cfg
        for part in key.split("."):
            node = node.get(part)
        add(key, node)
    add("hooks", [hook for hook in cfg.custom_hooks if hook.type in HOOKS])
    return values


def table(names: list[str]) -> dict[str, dict]:
    """All values of the first config of a folder; of the others what differs."""
    rows, first = {}, {}
    for name in names:
        values, base = frozen(name), first.setdefault(name.split("/")[0], {})
        rows[name] = {k: v for k, v in values.items() if base.get(k, "") != v}
        rows[name] |= {k: "absent" for k in base if k not in values}
        if not base:
            base.update(values)
    return rows


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("CELL_SPLIT", "NUCLEI_SPLIT", "CELL_CHANNEL_ORDER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in FILES}))
def test_reproductions_stay_what_the_reports_say(folder):
    names = [name for name in FILES if name.startswith(f"{folder}/")]
    wanted = json.loads(TABLE.read_text())
    assert table(names) == {k: v for k, v in wanted.items() if k in names}


def test_the_rates_of_the_reports():
    """Learning rates over a run, from the published formulas."""
    rates = rates_of("detectron2-dc5/mask-rcnn_r50-dc5_225e", 12)
    assert rates[0] == pytest.approx(1e-7) and rates[36] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-6, rel=0.01)
    light = rates_of("torchvision-light/mask-rcnn-v2_r50_fpn_50e", 42)
    assert light[105] == pytest.approx(5e-3) and light[-1] < 1e-8
    convnext = rates_of("torchvision-convnext/mask-rcnn_convnext-b_fpn_20e", 47)
    assert convnext[:47] == [1e-4] * 47
    assert convnext[10 * 47] == pytest.approx((1e-4 + 1e-6) / 2)


def rates_of(name: str, length: int) -> list[float]:
    """The rate of each iteration of a run with ``length`` iterations per epoch."""
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    epochs = cfg.train_cfg.max_epochs
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], cfg.optim_wrapper.optimizer.lr)
    built = []
    for settings in cfg.param_scheduler:
        settings = dict(settings)
        convert = settings.pop("convert_to_iter_based", False)
        cls = PARAM_SCHEDULERS.get(settings.pop("type"))
        by_epoch = settings.get("by_epoch", True)
        settings.setdefault("end", epochs if by_epoch else epochs * length)
        build = cls.build_iter_from_epoch if convert else cls
        if convert:
            settings["epoch_length"] = length
        built.append(build(optimizer=optimizer, **settings))
    rates = []
    for step in range(epochs * length):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or (step + 1) % length == 0:
                scheduler.step()
    return rates


if __name__ == "__main__":
    rows = [
        f'"{name}": {{\n'
        + ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in row.items())
        + "\n}"
        for name, row in table(FILES).items()
    ]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
