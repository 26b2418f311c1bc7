"""Every file under configs/ resolves, repeats no other, and builds; kinds of them run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import RUNNERS, init_default_scope

from custom.engine.configs import drop_validation, set_submission
from custom.structures import LabelMasks
from custom.structures.rle import as_rles
from tests.nuclei_data import write_nuclei

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(
    p.relative_to(CONFIGS)
    for p in CONFIGS.rglob("*.py")
    if "_base_" not in p.relative_to(CONFIGS).parts
)
# This many lines in a row that stand in two files are a copy.
COPIED_LINES = 6
REPRODUCTIONS = "reproductions/"
# One config of each kind of network is trained; those beyond the first are slow.
RUN = (
    "debug/maskrcnn_r18-slim_2i",
    "cell/ablations/htc_r50",
    "cell/ablations/maskrcnn_r50_seesaw",
    "cell/champion/cascade-mask-rcnn_convnextv2-b_fpn_36e_tiles",
    f"{REPRODUCTIONS}torchvision-convnext/mask-rcnn_convnext-b_fpn_20e",
    f"{REPRODUCTIONS}torchvision-convnext/mask-rcnn_efficientnetv2-m_fpn_20e",
    f"{REPRODUCTIONS}torchvision-backbones/mask-rcnn_x50-32x4d_fpn_30e",
    f"{REPRODUCTIONS}torchvision-light/mask-rcnn-v2_r50_fpn_50e_gray",
    f"{REPRODUCTIONS}detectron2-dc5/mask-rcnn_r50-dc5_225e",
    f"{REPRODUCTIONS}detectron2-nuclei/mask-rcnn_r50-c4_2400i",
    f"{REPRODUCTIONS}detectron2-nuclei/mask-rcnn_r50_fpn_2400i",
)


@pytest.fixture(scope="module")
def environment(tiny_root, tmp_path_factory) -> dict[str, Path]:
    """Tiny data sets, named as the environment variables that configs read."""
    return {
        "CELL_DATA_ROOT": tiny_root,
        "NUCLEI_DATA_ROOT": write_nuclei(tmp_path_factory.mktemp("nuclei")),
        "CELL_LABEL_CACHE": tmp_path_factory.mktemp("cache"),
    }


@pytest.fixture
def load(environment, monkeypatch):
    """Loads a config with the tiny data sets."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, str(value))

    def load(path: Path | str) -> Config:
        cfg = Config.fromfile(CONFIGS / Path(path).with_suffix(".py"))
        if str(path).startswith("_template_"):
            names = {f"class{i}": "nucleus" for i in range(1, 5)}
            for name in ("train", "val", "test"):
                data = cfg[f"{name}_dataloader"].dataset
                data.update(type="CellDataset", class_of=names)
                data.data_root = environment["CELL_DATA_ROOT"]
                data.pipeline[0].channel_order = "bgr"
            cfg.train_pipeline[0].channel_order = "bgr"
            cfg.val_pipeline[0].channel_order = "bgr"
        init_default_scope(cfg.default_scope)
        return cfg

    return load


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
    if "max_epochs" in cfg.train_cfg:
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    else:
        cfg.train_cfg.update(max_iters=1, val_interval=1)
    _layers(cfg.train_dataloader)[-1].indices = 1
    if cfg.val_dataloader is not None:
        cfg.val_dataloader.dataset.indices = 1
    # One step is shorter than any warm-up; test_reproductions.py has the rates.
    cfg.param_scheduler = None
    cfg.load_from = None


def _dicts(node):
    """Every dict of a config, the outermost first."""
    if isinstance(node, dict):
        yield node
        node = node.values()
    if not isinstance(node, str) and hasattr(node, "__iter__"):
        for value in list(node):
            if isinstance(value, (dict, list, tuple)):
                yield from _dicts(value)


def _layers(loader: dict) -> list[dict]:
    """The data set of a loader and those that it wraps, the outermost first."""
    layers = [loader.dataset]
    while "dataset" in layers[-1]:
        layers.append(layers[-1].dataset)
    return layers


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
    # MMEngine cannot merge two bases that share keys: the two demos repeat each other.
    paths = set(CONFIGS.rglob("*.py")) - {CONFIGS / "demo/maskrcnn_r18-slim_nuclei.py"}
    for path in sorted(paths):
        lines = _lines(path)
        starts = range(len(lines) - COPIED_LINES + 1)
        for block in {tuple(lines[i : i + COPIED_LINES]) for i in starts}:
            assert block not in blocks, (
                f"{path} repeats {blocks[block]}:\n" + "\n".join(block)
            )
            blocks[block] = path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_config_says_what_it_is_and_gives_a_sample(path, load, models_built):
    assert (CONFIGS / path).read_text().startswith("# ")
    cfg = load(path)
    # What the report of a reproduction says stands in its metafile.yml.
    assert "report" not in cfg
    dataset = _layers(cfg.train_dataloader)[-1]
    # The pipeline by its name is the one that trains, whatever data sets wrap it.
    layers = _layers(cfg.train_dataloader)
    pipelines = [layer.pipeline for layer in layers if "pipeline" in layer]
    assert pipelines[0] == cfg.train_pipeline
    assert pipelines[-1] == cfg.get("load_pipeline", cfg.train_pipeline)
    assert cfg.val_dataloader.dataset.pipeline == cfg.val_pipeline

    models_built(cfg.model, len(dataset.metainfo.classes))
    shrink(cfg)
    sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
    image, gt = sample["inputs"], sample["data_samples"].gt_instances
    assert image.dtype == torch.uint8 and len(image) == 3
    assert isinstance(gt.masks, LabelMasks)
    assert (gt.masks.height, gt.masks.width) == tuple(image.shape[1:])
    boxes = get_box_tensor(gt.bboxes).numpy()
    np.testing.assert_allclose(boxes, gt.masks.boxes(), atol=2)
    assert len(gt.labels) == len(boxes)


@pytest.fixture(scope="module")
def models_built():
    """Builds a model without memory, once; its heads know the classes of the data."""
    built = set()

    def build(model: dict, classes: int) -> None:
        text = json.dumps(model, sort_keys=True)
        if text in built:
            return
        built.add(text)
        for node in _dicts(model["roi_head"] if "roi_head" in model else model):
            assert node.get("num_classes", classes) == classes
        with torch.device("meta"):
            MODELS.build(model)

    return build


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if number else [], id=path)
        for number, path in enumerate(RUN)
    ],
)
def test_trains_predicts_and_round_trips(path, load, tmp_path, monkeypatch):
    cfg = load(path)
    shrink(cfg)
    cfg.param_scheduler = None  # a warm-up may be longer than this run
    # Formatting the config for the log takes longer than a training step.
    monkeypatch.setattr(Config, "pretty_text", "")
    cfg.work_dir, cfg.experiment_name = str(tmp_path), path.replace("/", "-")
    runner = RUNNERS.build(cfg)
    model = runner.model
    model.init_weights()
    frozen = {k: v.clone() for k, v in model.named_parameters() if not v.requires_grad}
    trained = {k: v.sum() for k, v in model.named_parameters() if v.requires_grad}
    runner.train()

    after = dict(model.named_parameters())
    assert all(torch.equal(after[k], v) for k, v in frozen.items())
    assert any(after[k].sum() != v for k, v in trained.items())
    assert all(after[k].isfinite().all() for k in trained)

    again = MODELS.build(cfg.model)
    again.load_state_dict(model.state_dict())
    set_submission(cfg)
    first, second = (_predict(m, cfg.test_dataloader) for m in (model, again))
    assert torch.equal(first.bboxes, second.bboxes)
    assert torch.equal(first.scores, second.scores)
    assert as_rles(first.masks) == as_rles(second.masks)


def _predict(model, loader):
    """The predictions for the first image that a submission needs."""
    batch = pseudo_collate([DATASETS.build(loader.dataset)[0]])
    with torch.no_grad():
        return model.eval().test_step(batch)[0].pred_instances


@pytest.mark.parametrize(
    "path",
    ["debug/maskrcnn_r18-slim_2i", f"{REPRODUCTIONS}torchvision-light/mask-rcnn-v2_r50_fpn_50e"],
)
def test_all_images_train_without_validation_if_the_split_says_so(
    path, load, tmp_path, monkeypatch
):
    assert not drop_validation(cfg := load(path)) and cfg.val_dataloader is not None
    monkeypatch.setenv("CELL_SPLIT", "all")
    assert drop_validation(cfg := load(path))
    assert (cfg.val_dataloader, cfg.val_evaluator, cfg.val_cfg) == (None, None, None)
    # Nothing is left that waits for a validation.
    assert "EarlyStoppingHook" not in {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.save_best is None
    if path.startswith("debug"):
        cfg.work_dir, cfg.experiment_name = str(tmp_path), "all"
        shrink(cfg)
        RUNNERS.build(cfg).train()
        assert (tmp_path / "iter_1.pth").exists()
        # A resumed run takes the split from its folder.
        monkeypatch.setenv("CELL_SPLIT", str(tmp_path / "split.json"))
        assert drop_validation(load(path))
