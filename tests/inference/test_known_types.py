"""What a model in a file may name."""

from __future__ import annotations

import copy
import sys

import pytest
from mmengine.config import Config, ConfigDict

from custom.engine.configs import prediction_pipeline
from custom.errors import InputError
from custom.inference.known_types import FORBIDDEN_KEYS, check_types

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
