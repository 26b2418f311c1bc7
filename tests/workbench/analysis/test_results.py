import numpy as np
import pytest
import tifffile
from mmengine.config import Config

from custom.errors import InputError
from custom.evaluation import Predictions
from custom.evaluation.predictions import ImagePredictions
from custom.io.image import image_size, read_labels
from custom.workbench.analysis.analysis import analyse
from custom.workbench.analysis.results import evaluate_predictions, load_results
from tests.cell_scenes import to_rle

CLASSES = ("class1", "class2", "class3", "class4")


@pytest.fixture
def cfg(repo, tiny_copy, monkeypatch) -> Config:
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_copy))
    return Config.fromfile(repo / "configs" / "demo" / "maskrcnn_r18-slim.py")


def read_planes(root, name) -> list[np.ndarray]:
    """One label image for each class."""
    folder = root / "train" / name
    size = image_size(folder / "image.tif")
    paths = [folder / f"{c}.tif" for c in CLASSES]
    return [read_labels(p) if p.exists() else np.zeros(size, int) for p in paths]


def invented(planes: list[np.ndarray]) -> np.ndarray:
    """The background of the lower part of an image."""
    mask = np.all(np.equal(planes, 0), axis=0)
    mask[: len(mask) * 3 // 4] = False
    assert mask.any()
    return mask


def everything(root, names) -> Predictions:
    """All cells of some images, and in each image one more than there is."""
    images = []
    for i, name in enumerate(names, 1):
        planes = read_planes(root, name)
        found = [
            (plane == cell, label)
            for label, plane in enumerate(planes)
            for cell in np.unique(plane[plane > 0])
        ]
        found.append((invented(planes), 0))
        images.append(
            ImagePredictions(
                img_id=i,
                name=name,
                size=planes[0].shape,
                labels=np.array([label for _, label in found]),
                scores=np.array([0.9] * (len(found) - 1) + [0.95]),
                boxes=np.zeros((len(found), 4)),
                rles=[to_rle(mask) for mask, _ in found],
            )
        )
    return Predictions(CLASSES, images)


def test_predictions_meet_their_ground_truth(cfg, tiny_copy):
    """In ignored regions (ignore.tif) the invented cell is no error any more."""
    names = sorted(p.name for p in (tiny_copy / "train").iterdir())[:3]
    predictions = everything(tiny_copy, names[::-1])
    results = load_results(cfg, predictions)
    assert [r.name for r in results] == names
    assert [r.path for r in results] == [
        str(tiny_copy / "train" / name / "image.tif") for name in names
    ]
    before = analyse(results, CLASSES)
    assert before.metrics["recall"] == 1
    assert before.metrics["precision"] < 1
    for name in names:
        region = invented(read_planes(tiny_copy, name)).astype(np.uint16)
        tifffile.imwrite(tiny_copy / "train" / name / "ignore.tif", region)
    results = load_results(cfg, predictions)
    after = analyse(results, CLASSES)
    assert after.metrics["cells"] == before.metrics["cells"]
    for key in ("precision", "F1", "PQ", "AJI", "AP50"):
        assert after.metrics[key] == pytest.approx(1), key
    metrics = evaluate_predictions(cfg, predictions)
    assert metrics["coco/segm_mAP_50"] == pytest.approx(1)
    assert metrics["cell/PQ"] == pytest.approx(1)


def test_predictions_of_other_classes_are_refused(cfg, tiny_copy):
    names = sorted(p.name for p in (tiny_copy / "train").iterdir())[:1]
    predictions = everything(tiny_copy, names)
    predictions.classes = ("nucleus",)
    with pytest.raises(InputError, match="classes"):
        load_results(cfg, predictions)
