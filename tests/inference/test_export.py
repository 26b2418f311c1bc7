"""The file of an exported model, and what it may name."""

from __future__ import annotations

import copy
import os
import sys
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config, ConfigDict

from custom.engine.configs import prediction_pipeline
from custom.errors import InputError
from custom.inference.export import (
    FORBIDDEN_KEYS,
    ExportedModel,
    check_types,
    load_export,
    save_export,
)

MODEL = ExportedModel(
    config={
        "model": {"type": "MaskRCNN", "out": (0, 1), "in": [2, 3], "eps": 1e-5},
        "pipeline": [{"type": "LoadCellImage"}, {"type": "Resize", "scale": (9, 8)}],
    },
    state_dict={"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)},
    classes=("one", "zwei"),
    palette=((0, 158, 115), (255, 0, 0)),
    info={"run": "x", "iterations": 3},
)


def test_what_is_saved_is_loaded_with_its_types(tmp_path):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    assert list(tmp_path.iterdir()) == [path]
    loaded = load_export(path)
    assert loaded.config == MODEL.config
    assert isinstance(loaded.config["model"]["out"], tuple)
    assert isinstance(loaded.config["model"]["in"], list)
    assert (loaded.classes, loaded.palette) == (MODEL.classes, MODEL.palette)
    assert loaded.info == MODEL.info
    assert loaded.state_dict.keys() == MODEL.state_dict.keys()
    for key, value in loaded.state_dict.items():
        assert torch.equal(value, MODEL.state_dict[key])
    assert torch.load(path, weights_only=True)["format"] == "mmcell-model"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_file_that_would_run_code_does_not(tmp_path):
    trace = tmp_path / "trace"
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    data = torch.load(path, weights_only=True)
    data["info"] = Payload(f"touch {trace}")
    torch.save(data, path)
    with pytest.raises(InputError, match="run any code"):
        load_export(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, r"not an exported model.*tools/export.py"),
        ({"version": 2}, "version 2 of the format"),
        ({"config": {"model": {}}}, "lacks a model or a pipeline"),
        ({"config": "model = dict()"}, "lacks a model or a pipeline"),
        ({"classes": ("one",)}, "lack names or colours"),
    ],
)
def test_other_contents_are_refused(tmp_path, change, words):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(InputError, match=words):
        load_export(path)


def test_a_missing_part_and_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    data = torch.load(path, weights_only=True)
    del data["palette"]
    torch.save(data, path)
    with pytest.raises(InputError, match="lacks palette"):
        load_export(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not an exported model"):
        load_export(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        load_export(path)


def test_nothing_is_written_that_would_not_load(tmp_path):
    path = tmp_path / "model.pt"
    config = {**MODEL.config, "tta_views": {"scales": {1.0, 2.0}}}
    with pytest.raises(InputError, match="scales is of type set"):
        save_export(path, replace(MODEL, config=config))
    assert not path.exists()


CONFIGS = (
    "configs/demo/maskrcnn_r18-slim_tiles.py",
    "configs/cell/champion/cascade-mask-rcnn_convnextv2-b_fpn_36e.py",
    "configs/reproductions/torchvision-convnext/mask-rcnn_efficientnetv2-m_fpn_20e.py",
    "configs/reproductions/torchvision-light/mask-rcnn-v2_r50_fpn_50e_gray.py",
    "configs/reproductions/detectron2-dc5/mask-rcnn_r50-dc5_225e.py",
    "configs/cell/maskrcnn_r50_nuclei2021.py",
)


def without(node, keys):
    if isinstance(node, dict):
        return {k: without(v, keys) for k, v in node.items() if k not in keys}
    if isinstance(node, list | tuple):
        return type(node)(without(item, keys) for item in node)
    return node


def exported(path) -> dict:
    cfg = Config.fromfile(path)
    steps = ConfigDict(steps=prediction_pipeline(cfg)).to_dict()["steps"]
    cfg = cfg.to_dict()
    config = {
        "model": cfg["model"],
        "pipeline": steps,
        "tta_model": cfg["tta_model"],
        "tta_views": cfg["tta_views"],
    }
    return without(config, FORBIDDEN_KEYS)


@pytest.fixture(scope="module")
def config(repo) -> dict:
    return exported(repo / CONFIGS[0])


@pytest.mark.parametrize("name", CONFIGS)
def test_models_of_this_repository_pass(repo, name):
    check_types(name, exported(repo / name))


def bad(config: dict, path: str, value) -> dict:
    """A copy in which one setting is another one."""
    config = copy.deepcopy(config)
    node = config
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key) if key.isdigit() else key]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        # dotted names are imported by MMEngine's registries
        ("model.type", "os.system"),
        ("model.backbone", {"type": "subprocess.Popen", "args": "true"}),
        ("model.neck.type", "mmdet.models.FPN"),
        # and so are names that no registry knows
        ("model.backbone.type", "this"),
        # mmcv.ops.batched_nms evaluates this one
        ("model.test_cfg.rcnn.nms.type", "__import__('os').system"),
        ("model.test_cfg.rpn.nms.type", "print"),
        # registered, but they read files, load from the network, or run a config
        ("model.backbone", {"type": "BertModel", "name": "someone/model"}),
        (
            "model",
            {
                "type": "KnowledgeDistillationSingleStageDetector",
                "teacher_config": "evil.py",
            },
        ),
        ("model.backbone.init_cfg", {"checkpoint": "http://example.org/x.pth"}),
        ("model.neck.init_cfg", None),
        ("model.backbone.pretrained", "http://example.org/x.pth"),
        ("model._scope_", "mmpretrain"),
        ("custom_imports", {"custom_imports": {"imports": ["evil"]}}),
        # no steps of a pipeline
        ("pipeline.1.type", "Albu"),
        ("pipeline.0.type", "LoadAnnotations"),
        ("pipeline.0.type", "MaskRCNN"),
        ("tta_model.type", "DetTTAModel"),
        # no names at all
        ("model.type", ["MaskRCNN"]),
        ("model.type", None),
        ("pipeline.1.type", {"type": "Resize"}),
        ("model.backbone.type", "ResNet "),
        ("model.backbone.type", "ResNet.__init__"),
    ],
)
def test_other_types_and_settings_are_refused(config, path, value):
    check_types("x.pt", config)
    with pytest.raises(InputError, match=r"x\.pt"):
        check_types("x.pt", bad(config, path, value))


def test_looking_imports_nothing(config):
    sys.modules.pop("this", None)
    for name in ("this", "antigravity", "this.s"):
        with pytest.raises(InputError, match="may not use"):
            check_types("x.pt", bad(config, "model.backbone.type", name))
    assert not {"this", "antigravity"} & sys.modules.keys()
