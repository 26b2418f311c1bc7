from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.multiprocessing import start_processes

from custom.datasets.samplers import seeded_random_numbers
from custom.engine.validation_loss import ValidationLossHook, in_network_frame

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskrcnn_r18-slim.py"
RESIZE = {"type": "Resize", "scale": (120, 90), "keep_ratio": True}


@pytest.fixture(scope="module")
def cfg(tiny_root) -> Config:
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmdet")
    cfg.model.test_cfg.rcnn.max_per_img = 20
    for name in ("train_dataloader", "val_dataloader"):
        cfg[name].dataset.update(data_root=str(tiny_root), split="all", subset="train")
    # The order of training: labels first, then the resize.
    steps = cfg.val_pipeline
    cfg.val_dataloader.dataset.pipeline = [steps[0], RESIZE, *steps[2:]]
    cfg.train_dataloader.dataset.update(
        pipeline=[steps[0], steps[2], RESIZE, steps[3]], test_mode=True
    )
    return cfg


@pytest.fixture(scope="module")
def model(cfg):
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def batches(cfg) -> dict[str, list[dict]]:
    sets = {n: DATASETS.build(cfg[f"{n}_dataloader"].dataset) for n in ("train", "val")}
    return {name: [pseudo_collate([item]) for item in d] for name, d in sets.items()}


def validate(model, batches, size: int | None = None) -> dict[str, float]:
    loader = SimpleNamespace(dataset=range(size or len(batches)))
    runner = SimpleNamespace(model=model, val_dataloader=loader)
    hook, metrics = ValidationLossHook(), {}
    model.eval()
    hook.before_val_epoch(runner)
    for i, batch in enumerate(batches):
        hook.after_val_iter(runner, i, batch)
    hook.after_val_epoch(runner, metrics)
    return metrics


def test_targets_are_those_of_the_training_pipeline(batches):
    for train, val in zip(batches["train"], batches["val"], strict=True):
        (wanted,), (given,) = train["data_samples"], val["data_samples"]
        (result,) = in_network_frame([given])
        assert result.img_shape == wanted.img_shape
        for a, b in (
            (result.gt_instances, wanted.gt_instances),
            (result.ignored_instances, wanted.ignored_instances),
        ):
            np.testing.assert_array_equal(a.masks.planes, b.masks.planes)
            np.testing.assert_array_equal(a.masks.ids, b.masks.ids)
            torch.testing.assert_close(
                torch.as_tensor(getattr(a.bboxes, "tensor", a.bboxes)), b.bboxes.tensor
            )
            assert torch.equal(a.labels, b.labels)
        # The metric still gets the original frame.
        masks = given.gt_instances.masks
        assert (masks.height, masks.width) == given.ori_shape


def test_is_the_mean_of_the_training_losses(model, batches):
    metrics = validate(model, batches["val"])
    wanted = []
    for batch in batches["train"]:
        data = model.data_preprocessor(batch, training=True)
        with torch.no_grad(), seeded_random_numbers(batch["data_samples"][0].img_id):
            wanted.append(model.parse_losses(model(**data, mode="loss"))[1])
    assert set(metrics) == {f"val/{key}" for key in wanted[0]} and len(metrics) > 4
    for key in wanted[0]:
        mean = np.mean([float(part[key]) for part in wanted])
        assert metrics[f"val/{key}"] == pytest.approx(mean, rel=1e-5)


def test_touches_neither_model_nor_random_numbers(model, batches):
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    before = {k: v.clone() for k, v in model.state_dict().items()}
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    expected = draw()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    first = validate(model, batches["val"])
    assert draw() == expected
    assert not model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert validate(model, batches["val"]) == first


def validate_share(rank: int, folder: str, model, batches) -> None:
    """What one process of two does, which take turns and fill up the last one."""
    torch.set_num_threads(1)  # a forked process does not have its parent's threads
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    share = [*batches, batches[0]][rank : len(batches) + 1 : 2]
    Path(folder, f"{rank}.json").write_text(
        json.dumps(validate(model, share, size=len(batches)))
    )
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds_to_the_bit(
    model, batches, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # MMEngine collects results in .dist_test
    samples = batches["val"][:3]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = validate(model, samples)
    torch.set_num_threads(threads)
    arguments = (str(tmp_path), model, samples)
    start_processes(validate_share, arguments, nprocs=2, start_method="fork")
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected


def test_is_logged_and_can_choose_the_best_checkpoint(cfg, tmp_path):
    cfg = cfg.copy()
    cfg.custom_hooks = [*cfg.custom_hooks, {"type": "ValidationLossHook"}]
    cfg.default_hooks.checkpoint.update(save_best="val/loss", rule="less")
    cfg.train_cfg.update(max_iters=2, val_interval=1)
    for name in ("train_dataloader", "val_dataloader"):
        cfg[name].update(num_workers=0, persistent_workers=False)
        cfg[name].dataset.indices = 2
    cfg.visualizer.vis_backends = [{"type": "LocalVisBackend"}]
    cfg.work_dir, cfg.experiment_name = str(tmp_path), "validation-loss"
    Runner.from_cfg(cfg).train()
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [row["val/loss"] for row in rows if "val/loss" in row]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
    assert "coco/segm_mAP_50" in next(row for row in rows if "val/loss" in row)
    assert len(list(tmp_path.glob("best_val_loss_iter_*.pth"))) == 1
