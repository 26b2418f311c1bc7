"""The views of --tta and the submission follow the validated test pipeline."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from custom.engine.configs import (
    prediction_pipeline,
    set_submission,
    set_tta,
    tta_pipeline,
)
from custom.errors import InputError

PACK = {"type": "PackDetInputs", "meta_keys": ("img_id", "scale_factor")}


def test_views_are_every_scale_with_every_element_of_the_test_pipeline():
    steps = [
        {"type": "LoadCellImage"},
        {"type": "Resize", "scale": (1333, 800), "keep_ratio": True},
        {"type": "LoadLabelMasks"},
        PACK,
    ]
    load, views = tta_pipeline(steps, [1.0, 0.5], ["identity", "rot90"])
    assert load == steps[0] and views["type"] == "TestTimeAug"
    resize, turn, masks, pack = views["transforms"]
    assert [step["scale"] for step in resize] == [(1333, 800), (666, 400)]
    assert [step["elements"] for step in turn] == [["identity"], ["rot90"]]
    assert masks == [steps[2]]
    assert pack == [{**PACK, "meta_keys": ("img_id", "scale_factor", "dihedral")}]
    (*_, views) = tta_pipeline(
        [{"type": "Resize", "scale_factor": 2.0}, PACK], [1.5], ["identity"]
    )
    assert views["transforms"][0] == [{"type": "Resize", "scale_factor": 3.0}]


@pytest.mark.parametrize("tiles", [False, True])
def test_the_model_is_wrapped_and_the_data_give_eight_views(
    repo, tiny_root, monkeypatch, tiles
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    name = "maskrcnn_r18-slim_tiles.py" if tiles else "maskrcnn_r18-slim.py"
    cfg = Config.fromfile(repo / "configs/demo" / name)
    plain = cfg.model
    set_tta(cfg)
    assert cfg.model.type == "MaskTTAModel" and cfg.model.module == plain
    init_default_scope("mmdet")
    (data,) = [DATASETS.build(cfg.test_dataloader.dataset)[0]]
    names = [sample.dihedral for sample in data["data_samples"]]
    assert names == cfg.tta_views.elements and len(set(names)) == 8
    first = data["inputs"][0].numpy()
    for name, image in zip(names, data["inputs"], strict=True):
        if name == "rot90":
            np.testing.assert_array_equal(image, np.rot90(first, axes=(1, 2)))
    # Ground truth stays in the original frame.
    shapes = {s.gt_instances.masks.planes.shape for s in data["data_samples"]}
    assert len(shapes) == 1


@pytest.mark.parametrize("given", [True, False])
def test_the_submission_has_the_validated_resize(repo, given):
    cfg = Config.fromfile(repo / "configs/demo/maskrcnn_r18-slim.py")
    cfg.submission_dataloader.dataset.pop("pipeline", None)
    native = copy.deepcopy(prediction_pipeline(cfg))
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "Resize":
            step.scale_factor = 1.5
    if given:
        cfg.submission_dataloader.dataset.pipeline = native
        with pytest.raises(InputError, match=r"differs from the validated.*Resize"):
            set_submission(cfg)
        return
    steps = prediction_pipeline(cfg)
    assert [step.type for step in steps] == ["LoadCellImage", "Resize", "PackDetInputs"]
    set_submission(cfg)
    assert cfg.test_dataloader.dataset.type == "CellTestDataset"
    assert cfg.test_dataloader.dataset.pipeline[1].scale_factor == 1.5
