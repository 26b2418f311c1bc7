"""RoIFCNMaskHead against the stock head: targets, losses, predictions, whole models."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner, set_random_seed
from mmengine.structures import InstanceData

from custom.models import RoIFCNMaskHead
from custom.structures import LabelMasks, RoIMasks
from custom.structures.rle import as_rles
from tests.dense_masks import random_masks, to_bitmaps

SIZE = (60, 80)
CLASSES = 4
HEAD = {
    "num_convs": 1,
    "in_channels": 8,
    "conv_out_channels": 8,
    "num_classes": CLASSES,
    "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
}


@pytest.fixture(scope="module", autouse=True)
def _registries():
    register_all_modules()


def make_heads(**options) -> tuple[RoIFCNMaskHead, FCNMaskHead]:
    """Ours and the stock one with the same weights."""
    torch.manual_seed(0)
    ours, stock = RoIFCNMaskHead(**HEAD, **options), FCNMaskHead(**HEAD, **options)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


# Targets and loss.


def random_samples(seed: int, positives: int, images: int = 2) -> tuple[list, list]:
    """Proposals that are assigned to instances, and the instances."""
    rng = np.random.default_rng(seed)
    samples, truth = [], []
    for _ in range(images):
        masks = random_masks(rng, SIZE, 9, planes=2)
        inds = torch.from_numpy(rng.integers(0, len(masks), positives))
        corners = rng.uniform(-4, 84, (positives, 2, 2)).astype(np.float32)
        samples.append(
            SimpleNamespace(
                pos_priors=torch.from_numpy(np.sort(corners, 1).reshape(-1, 4)),
                pos_assigned_gt_inds=inds,
                pos_gt_labels=torch.from_numpy(rng.integers(0, CLASSES, positives)),
            )
        )
        truth.append(InstanceData(masks=masks))
    return samples, truth


def as_stock(samples: list, truth: list) -> tuple[list, list]:
    """The same with bitmaps; a copy, for the stock head clips proposals in place."""
    samples = [
        SimpleNamespace(**{k: v.clone() for k, v in vars(s).items()}) for s in samples
    ]
    return samples, [InstanceData(masks=to_bitmaps(t.masks)) for t in truth]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("positives", [0, 1, 40])
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_targets_and_loss_equal_stock(soft, positives, class_agnostic):
    ours, stock = make_heads(class_agnostic=class_agnostic)
    config = ConfigDict(mask_size=28, soft_mask_target=soft)
    for seed in range(3):
        samples = random_samples(seed, positives)
        features = torch.rand(
            2 * positives, 8, 14, 14, generator=torch.Generator().manual_seed(seed)
        )
        losses = ours.loss_and_target(ours(features), *samples, config)
        expected = stock.loss_and_target(stock(features), *as_stock(*samples), config)
        # Soft targets have the rounding of other coordinates.
        close = partial(torch.testing.assert_close, rtol=0, atol=1e-4 * soft)
        close(losses["mask_targets"], expected["mask_targets"])
        close(losses["loss_mask"]["loss_mask"], expected["loss_mask"]["loss_mask"])


def test_one_image_without_positives_beside_one_with_some():
    ours, stock = make_heads()
    (first, second), truth = random_samples(0, 12)
    for name, value in vars(first).items():
        setattr(first, name, value[:0])
    samples = [first, second], truth
    config = ConfigDict(mask_size=28)
    assert torch.equal(
        ours.get_targets(*samples, config),
        stock.get_targets(*as_stock(*samples), config),
    )


def test_an_image_without_instances_gives_no_targets():
    ours, _ = make_heads()
    samples, truth = random_samples(0, 0)
    truth[0] = truth[0][:0]
    targets = ours.get_targets(samples, truth, ConfigDict(mask_size=(14, 28)))
    assert targets.shape == (0, 14, 28)


def test_bitmaps_go_the_stock_way():
    ours, stock = make_heads()
    samples = random_samples(3, 10)
    config = ConfigDict(mask_size=28)
    assert torch.equal(
        ours.get_targets(*as_stock(*samples), config),
        stock.get_targets(*as_stock(*samples), config),
    )


def test_proposals_are_not_changed():
    ours, _ = make_heads()
    samples, truth = random_samples(4, 10)
    before = [s.pos_priors.clone() for s in samples]
    ours.get_targets(samples, truth, ConfigDict(mask_size=28))
    assert all(map(torch.equal, before, [s.pos_priors for s in samples]))


# Predictions.


def predict(head, counts: list[int], rescale: bool, seed: int = 0) -> list:
    """Predictions of one head for a batch with these numbers of detections."""
    generator = torch.Generator().manual_seed(seed)
    results, logits, metas = [], [], []
    classes = 1 if head.class_agnostic else CLASSES
    for count, scale in zip(counts, ((1.5, 1.5), (0.7, 1.3), (1.0, 1.0)), strict=False):
        # Over the borders too, but not wholly outside: there stock fails on a CPU.
        corner = torch.rand(count, 2, generator=generator) * 40 - 10
        extent = torch.rand(count, 2, generator=generator) * 60 + 11
        results.append(
            InstanceData(
                bboxes=torch.cat([corner, corner + extent], dim=1),
                labels=torch.randint(0, CLASSES, (count,), generator=generator),
                scores=torch.rand(count, generator=generator),
            )
        )
        logits.append(3 * torch.randn(count, classes, 28, 28, generator=generator))
        metas.append({"ori_shape": (61, 83), "scale_factor": scale})
    return head.predict_by_feat(
        logits, results, metas, ConfigDict(mask_thr_binary=0.5), rescale=rescale
    )


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("counts", [[7, 30], [0, 9], [9, 0], [0, 0], [1, 1, 1]])
def test_predictions_equal_stock(rescale, class_agnostic, counts):
    ours, stock = make_heads(class_agnostic=class_agnostic)
    detections = predict(ours, counts, rescale)
    expected = predict(stock, counts, rescale)
    for count, one, other in zip(counts, detections, expected, strict=True):
        assert len(one.masks) == count
        if count:
            assert isinstance(one.masks, RoIMasks)
            assert one.masks.size == other.masks.shape[1:]
        assert as_rles(one.masks) == encode_mask_results(other.masks.numpy())
        assert torch.equal(one.bboxes, other.bboxes)


@pytest.mark.parametrize("activated", [False, True])
def test_cascade_hands_over_probabilities(activated):
    """A cascade averages the stages' probabilities before the last head's part."""
    ours, stock = make_heads()
    logits = torch.randn(5, CLASSES, 28, 28, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[3.0, 4.0, 30.0, 33.5]]).repeat(5, 1)
    args = (
        torch.arange(5) % CLASSES,
        {"ori_shape": SIZE, "scale_factor": (1.0, 1.0)},
        ConfigDict(mask_thr_binary=0.5),
        True,
        activated,
    )
    masks = logits.sigmoid() if activated else logits
    detections = ours._predict_by_feat_single(masks, boxes.clone(), *args)
    expected = stock._predict_by_feat_single(masks.clone(), boxes.clone(), *args)
    assert detections.to_rle() == encode_mask_results(expected.numpy())


# Whole models.


def cascade_config(tmp_path) -> Config:
    """MMDetection's Cascade Mask R-CNN, as slim as the demo."""
    path = tmp_path / "cascade.py"
    path.write_text("_base_ = 'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py'\n")
    model = Config.fromfile(path).model
    model.backbone.update(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None)
    model.neck.update(in_channels=[64, 128, 256, 512], out_channels=32)
    model.rpn_head.update(in_channels=32, feat_channels=32)
    model.rpn_head.anchor_generator.scales = [4]
    roi = model.roi_head
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 32
    for head in roi.bbox_head:
        head.update(in_channels=32, fc_out_channels=64, num_classes=CLASSES)
    roi.mask_head.update(in_channels=32, conv_out_channels=32, num_classes=CLASSES)
    for stage in model.train_cfg.rcnn:
        stage.sampler.num = 64
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    return model


def make_batch(stock: bool, seed: int = 0) -> dict:
    """Two images of different sizes with instances, of which one overlaps."""
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for size in ((96, 128), (100, 90)):
        plane = np.zeros((2, *size), np.int32)
        for label in range(1, 13):
            y, x = rng.integers(0, size[0] - 20), rng.integers(0, size[1] - 20)
            h, w = rng.integers(5, 20, 2)
            plane[label % 2, y : y + h, x : x + w] = label
        masks = LabelMasks(plane, np.arange(1, 13) % 2, np.arange(1, 13))
        masks = masks[masks.areas > 0]
        sample = DetDataSample(
            metainfo={
                "img_shape": size,
                "ori_shape": size,
                "scale_factor": (1.0, 1.0),
            },
            gt_instances=InstanceData(
                bboxes=masks.get_bboxes("hbox").tensor,
                labels=torch.from_numpy(rng.integers(0, CLASSES, len(masks))),
                masks=to_bitmaps(masks) if stock else masks,
            ),
        )
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, *size), np.uint8)))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def train_losses(model, stock: bool) -> dict[str, torch.Tensor]:
    model.train()
    set_random_seed(7)
    data = model.data_preprocessor(make_batch(stock), training=True)
    losses = model(**data, mode="loss")
    return {
        k: v.detach() if isinstance(v, torch.Tensor) else torch.stack(v).detach()
        for k, v in losses.items()
    }


def test_cascade_trains_and_predicts_as_with_stock_heads(tmp_path):
    config = cascade_config(tmp_path)
    stock = MODELS.build(config)
    config.roi_head.mask_head.type = "RoIFCNMaskHead"
    ours = MODELS.build(config)
    ours.load_state_dict(stock.state_dict())
    assert len(ours.roi_head.mask_head) == 3

    losses, expected = train_losses(ours, False), train_losses(stock, True)
    assert {f"s{i}.loss_mask" for i in range(3)} <= set(losses)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert value.isfinite().all()
        assert torch.equal(losses[name], value), name

    ours.load_state_dict(stock.state_dict())
    ours.eval()
    stock.eval()
    with torch.no_grad():
        predicted = ours.test_step(make_batch(False))
        reference = stock.test_step(make_batch(True))
    for one, other in zip(predicted, reference, strict=True):
        one, other = one.pred_instances, other.pred_instances
        assert len(one) == 20
        assert torch.equal(one.bboxes, other.bboxes)
        assert one.masks.to_rle() == encode_mask_results(other.masks.numpy())


@pytest.fixture
def demo(repo, tiny_root, tmp_path, monkeypatch) -> Config:
    """The demo config on a tiny data set, in one process."""
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    config = Config.fromfile(repo / "configs" / "demo" / "maskrcnn_r18-slim.py")
    config.work_dir = str(tmp_path / "run")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[name].update(num_workers=0, persistent_workers=False)
    config.train_cfg.update(max_iters=1, val_interval=1)
    # A model that has learnt nothing scores little.
    config.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=50)
    config.val_evaluator = config.test_evaluator = [
        *config.val_evaluator,
        {"type": "Submission", "out_dir": str(tmp_path / "submission")},
    ]
    config.default_hooks.visualization.update(draw=True, score_thr=0.0)
    config.default_hooks.visualization.test_out_dir = "overlays"
    config.log_level = "WARNING"
    return config


def test_nothing_on_the_way_makes_full_frames(demo, tmp_path, monkeypatch):
    """Training, validation with overlays, test, metric and submission."""

    def refuse(*args, **kwargs):
        raise AssertionError("a full frame per instance")

    for owner, name in (
        (LabelMasks, "to_ndarray"),
        (LabelMasks, "to_tensor"),
        (RoIMasks, "to_ndarray"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    val_evaluator, demo.val_evaluator = demo.val_evaluator, demo.val_evaluator[:-1]
    runner = Runner.from_cfg(demo)
    runner.train()
    assert runner.iter == 1
    demo.val_evaluator = val_evaluator
    metrics = runner.test()
    assert 0 <= metrics["coco/segm_mAP_50"] <= 1
    entries = json.loads((tmp_path / "submission" / "test-results.json").read_text())
    assert entries
    assert metrics["submission/detections"] == len(entries)
    assert list((tmp_path / "run").glob("**/overlays/*.png"))


# GPU.


@pytest.mark.gpu
def test_cascade_on_a_gpu_stays_close_to_stock_heads(tmp_path):
    """Targets are sampled on the GPU: a boundary may round the other way."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    config = cascade_config(tmp_path)
    stock = MODELS.build(config).cuda()
    config.roi_head.mask_head.type = "RoIFCNMaskHead"
    ours = MODELS.build(config).cuda()
    ours.load_state_dict(stock.state_dict())
    expected = train_losses(stock, True)
    losses = train_losses(ours, False)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-3, atol=1e-4)

    ours.eval()
    with torch.no_grad():
        predicted = ours.test_step(make_batch(False))
    for sample in predicted:
        masks = sample.pred_instances.masks
        assert masks.probs.is_cuda
        assert masks.to_rle() == masks.to("cpu").to_rle()
