"""Every file under configs/ resolves, repeats no other, trains a step and predicts."""

from __future__ import annotations

import io
import json
import os
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from custom.structures import LabelMasks
from custom.structures.rle import as_rles
from tests.nuclei_data import write_nuclei

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(
    p.relative_to(CONFIGS)
    for p in CONFIGS.rglob("*.py")
    if "_base_" not in p.relative_to(CONFIGS).parts
)
# Backbones of more than about 40 million parameters.
HEAVY = ("r101", "r152", "x50", "x101", "convnext", "effnet", "dc5", "c4")
# This many lines in a row that stand in two files are a copy.
COPIED_LINES = 6
# What decides how a config trains and predicts, beside its training data; configs equal
# in it are run once, and of the others only a training sample is made.
USED = (
    "model",
    "val_dataloader",
    "submission_dataloader",
    "optim_wrapper",
    "param_scheduler",
    "train_cfg",
    "custom_hooks",
)


@pytest.fixture(scope="module")
def environment(tiny_root, tmp_path_factory) -> dict[str, Path]:
    """Tiny data sets, named as the environment variables that configs read."""
    return {
        "CELL_DATA_ROOT": tiny_root,
        "NUCLEI_DATA_ROOT": write_nuclei(tmp_path_factory.mktemp("nuclei")),
        "CELL_LABEL_CACHE": tmp_path_factory.mktemp("cache"),
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Path:
    """Marks of what has been run, for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    (folder / "seen").mkdir(exist_ok=True)
    return folder / "seen"


def shrink(cfg: Config) -> None:
    """Replace sizes and numbers, and nothing else, so that a CPU is fast enough."""
    for node in _dicts(cfg._cfg_dict):
        if "init_cfg" in node:
            node["init_cfg"] = None
        kind = node.get("type")
        if kind == "Resize":
            node.pop("scale_factor", None)
            node["scale"] = (128, 96)
        elif kind == "RandomCrop" and node.get("crop_type", "absolute") == "absolute":
            node["crop_size"] = (96, 96)
        elif kind == "RandomScale":
            node["factor_range"] = (0.9, 1.1)
        elif kind == "RandomSampler":
            node["num"] = min(node["num"], 16)
        elif kind == "AnchorGenerator":
            node["scales"] = [4 + i for i in range(len(node["scales"]))]
        elif kind in ("ResNet", "ResNeXt"):
            node["depth"] = min(node["depth"], 50)
        elif kind == "ConvNeXt":
            node["depths"] = (1, 1, 1, 1)
        elif kind == "TiledDetector":
            node.update(tile_size=64, overlap=16)
        for key in ("nms_pre", "max_per_img"):
            if key in node:
                node[key] = 20
        if "fc_out_channels" in node:
            node["fc_out_channels"] = 64
        if "score_thr" in node:
            node["score_thr"] = 0.0
        if "num_workers" in node:
            node.update(num_workers=0, persistent_workers=False, batch_size=1)
    # Schedules of the reproductions keep the length of the real run.
    cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type != "ScheduleCheckHook"]
    if "max_epochs" in cfg.train_cfg:
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    else:
        cfg.train_cfg.update(max_iters=1, val_interval=1)
    dataset = cfg.train_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    dataset.indices = 1
    if cfg.val_dataloader is not None:
        cfg.val_dataloader.dataset.indices = 1
    cfg.load_from = None
    cfg.visualizer.vis_backends = []
    cfg.default_hooks.checkpoint = None


def _dicts(node):
    """Every dict of a config, the outermost first."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    if not isinstance(node, str) and hasattr(node, "__iter__"):
        for value in list(node):
            if isinstance(value, (dict, list, tuple)):
                yield from _dicts(value)


def _name(path: Path) -> str:
    return str(path.with_suffix(""))


def _marked(path: Path):
    words = path.stem.replace("-", "_").split("_")
    heavy = any(word.startswith(HEAVY) for word in words)
    return pytest.param(path, id=_name(path), marks=[pytest.mark.slow] if heavy else [])


def test_names_are_unique():
    # A run goes to work_dirs/<name of the config>.
    stems = [path.stem for path in FILES]
    assert len(stems) == len(set(stems))


def _lines(path: Path) -> list[str]:
    """The lines that say something: no comments, and not brackets alone."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if not re.fullmatch(r"(\w+ ?= ?)?(dict)?\W*", line)]


def test_no_copied_block():
    blocks: dict[tuple, Path] = {}
    for path in sorted(CONFIGS.rglob("*.py")):
        lines = _lines(path)
        own = {
            tuple(lines[i : i + COPIED_LINES])
            for i in range(len(lines) - COPIED_LINES + 1)
        }
        for block in own:
            assert block not in blocks, (
                f"{path} repeats {blocks[block]}:\n" + "\n".join(block)
            )
            blocks[block] = path


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_says_what_it_is(path):
    assert (CONFIGS / path).read_text().startswith("# ")


@pytest.mark.parametrize("path", map(_marked, FILES))
def test_trains_predicts_and_round_trips(
    path, environment, seen, tmp_path, monkeypatch
):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))
    cfg = Config.fromfile(CONFIGS / path)
    shrink(cfg)
    # Configs that differ in sizes only are one and the same now.
    network = _content([cfg[key] for key in USED], environment)
    data = _content(cfg.train_dataloader, environment)
    if _is_new(seen, network):
        _is_new(seen, network + data)
        _run(cfg, path, tmp_path, monkeypatch)
    elif _is_new(seen, network + data):
        init_default_scope(cfg.default_scope)
        _check_sample(DATASETS.build(cfg.train_dataloader.dataset)[0], cfg.model)


def _content(part, environment: dict[str, Path]) -> str:
    """A part of a config as text, without the folders of this process."""
    text = json.dumps(part, sort_keys=True, default=str)
    for variable, value in environment.items():
        text = text.replace(str(value), variable)
    return text


def _is_new(seen: Path, content: str) -> bool:
    """Whether no test has had this content before; from now on one has."""
    try:
        (seen / sha256(content.encode()).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _check_sample(sample: dict, model: dict) -> None:
    """A training sample is what the network takes."""
    image, gt = sample["inputs"], sample["data_samples"].gt_instances
    assert image.dtype == torch.uint8
    assert len(image) == model.backbone.get("in_channels", 3)
    assert isinstance(gt.masks, LabelMasks)
    assert (gt.masks.height, gt.masks.width) == tuple(image.shape[1:])
    boxes = get_box_tensor(gt.bboxes).numpy()
    np.testing.assert_allclose(boxes, gt.masks.boxes(), atol=2)
    assert len(gt.labels) == len(boxes)


def _run(cfg: Config, path: Path, tmp_path: Path, monkeypatch) -> None:
    """Train, save, load, predict."""
    # Formatting the config for the log takes longer than a training step.
    monkeypatch.setattr(Config, "pretty_text", "")
    cfg.work_dir, cfg.experiment_name = str(tmp_path), _name(path).replace("/", "-")
    runner = Runner.from_cfg(cfg)
    model = runner.model
    model.init_weights()
    frozen = {k: v.clone() for k, v in model.named_parameters() if not v.requires_grad}
    trained = {k: v.sum() for k, v in model.named_parameters() if v.requires_grad}
    runner.train()

    after = dict(model.named_parameters())
    assert all(torch.equal(after[k], v) for k, v in frozen.items())
    assert any(after[k].sum() != v for k, v in trained.items())
    assert all(after[k].isfinite().all() for k in trained)

    checkpoint = io.BytesIO()
    torch.save(model.state_dict(), checkpoint)
    checkpoint.seek(0)
    again = MODELS.build(cfg.model)
    again.load_state_dict(torch.load(checkpoint, weights_only=True))
    first, second = (_predict(m, cfg.submission_dataloader) for m in (model, again))
    assert torch.equal(first.bboxes, second.bboxes)
    assert torch.equal(first.scores, second.scores)
    assert as_rles(first.masks) == as_rles(second.masks)


def _predict(model, loader):
    """The predictions for the first image that a submission needs."""
    batch = pseudo_collate([DATASETS.build(loader.dataset)[0]])
    with torch.no_grad():
        return model.eval().test_step(batch)[0].pred_instances
