import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from custom.errors import InputError
from custom.evaluation import (
    CellCocoMetric,
    CellPanopticMetric,
    PredictionDump,
    Submission,
)
from custom.structures import LabelMasks, RoIMasks
from custom.workbench.analysis.analysis import analyse
from tests.cell_scenes import CLASSES, make_result, random_result


def to_sample(result, img_id: int) -> dict:
    """The image as the evaluator gives it to a metric."""
    sample = DetDataSample(
        metainfo={"img_id": img_id, "name": result.name, "ori_shape": result.size}
    )
    sample.gt_instances = InstanceData(
        masks=result.gt, labels=torch.from_numpy(result.gt_labels)
    )
    sample.ignored_instances = InstanceData(
        masks=result.gt[:0] if result.ignored is None else result.ignored
    )
    sample.pred_instances = InstanceData(
        masks=LabelMasks.from_rles(result.rles, result.size),
        labels=torch.from_numpy(result.labels),
        scores=torch.from_numpy(result.scores),
        bboxes=torch.from_numpy(result.boxes),
    )
    return sample.to("cpu").to_dict()


def evaluate(metric, results) -> dict:
    metric.dataset_meta = {"classes": CLASSES}
    for i, result in enumerate(results, 1):
        metric.process({}, [to_sample(result, i)])
    return metric.evaluate(len(results))


def scenes(seed: int) -> list:
    rng = np.random.default_rng(seed)
    return [random_result(rng, i % 2 == 0, f"image{i}") for i in range(5)]


def test_metrics_are_those_of_the_analysis():
    results = scenes(0)
    metrics = evaluate(CellPanopticMetric(score_thr=0.3), results)
    expected = analyse(results, CLASSES, score_thr=0.3)
    for key in (
        "PQ",
        "DQ",
        "SQ",
        "AJI",
        "AJI_plus",
        "Dice",
        "precision",
        "recall",
        "F1",
    ):
        assert metrics[f"cell/{key}"] == pytest.approx(expected.metrics[key])
    for name in CLASSES:
        for key in ("PQ", "F1"):
            assert metrics[f"cell/{key}_{name}"] == pytest.approx(
                expected.per_class[name][key]
            )


def test_what_is_not_defined_is_minus_one():
    metrics = evaluate(CellPanopticMetric(), [make_result(np.zeros((5, 5)), [], [])])
    assert set(metrics.values()) == {-1.0}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_ignored_predictions_change_no_average_precision(iou_type):
    """They would be false: in ignored regions they are as good as not there."""
    gt, extra = np.zeros((40, 40), int), np.zeros((40, 40), bool)
    gt[2:10, 2:10], gt[2:10, 20:28] = 1, 2
    extra[25:33, 5:20] = True
    cells = [(gt == 1, 0, 0.5), (gt == 2, 1, 0.6)]
    # The mask lies in two regions, in neither by half.
    regions = np.zeros((40, 40), int)
    regions[24:34, 4:12], regions[24:34, 13:20] = 1, 2

    def ap50(predictions, ignored):
        metric = CellCocoMetric(iou_types=(iou_type,))
        result = make_result(gt, [0, 1], predictions, ignored)
        return evaluate(metric, [result])[f"coco/{iou_type}_mAP_50"]

    with_extra = [(extra, 0, 0.9), *cells]
    assert ap50(cells, None) == pytest.approx(1)
    assert ap50(with_extra, None) < 0.9
    if iou_type == "segm":
        assert ap50(with_extra, regions) == pytest.approx(1)
    # A box in one region; boxes know no pixels.
    assert ap50(with_extra, (regions > 0) * 1) == pytest.approx(1)


def one_mask() -> RoIMasks:
    """A square in the corner."""
    box = torch.tensor([[0, 0, 5.0, 5]])
    return RoIMasks(torch.ones(1, 28, 28), box, (9, 9), 0.5)


def test_stock_coco_metric_is_refused_with_the_remedy():
    """It reads masks as RLE; 1951804 ended in a ValueError of int('counts')."""
    metric = CocoMetric(metric="segm")
    metric.dataset_meta = {"classes": CLASSES}
    sample = to_sample(make_result(np.eye(9, dtype=int), [0], []), 1)
    sample["instances"] = []
    sample["pred_instances"] = InstanceData(
        masks=RoIMasks(
            torch.ones(1, 28, 28), torch.tensor([[0, 0, 5.0, 5]]), (9, 9), 0.5
        ),
        labels=torch.zeros(1, dtype=torch.int64),
        scores=torch.ones(1),
        bboxes=torch.tensor([[0, 0, 5.0, 5]]),
    ).to_dict()
    metric.process({}, [sample])
    with pytest.raises(InputError, match="Use CellCocoMetric"):
        metric.evaluate(1)


def test_a_mask_is_encoded_once_for_all_metrics(monkeypatch, tmp_path):
    calls = []
    paste = RoIMasks.stacks
    monkeypatch.setattr(RoIMasks, "stacks", lambda m: calls.append(m) or paste(m))
    sample = to_sample(make_result(np.eye(9, dtype=int), [0], []), 1)
    sample["pred_instances"]["masks"] = one_mask()
    for key, value in (("labels", [0]), ("scores", [0.9]), ("bboxes", [[0, 0, 5, 5]])):
        sample["pred_instances"][key] = torch.tensor(value)
    for metric in (
        CellCocoMetric(),
        CellPanopticMetric(),
        PredictionDump(str(tmp_path)),
        Submission(str(tmp_path)),
    ):
        metric.dataset_meta = {"classes": CLASSES}
        metric.process({}, [sample])
    assert len(calls) == 1
