import numpy as np
import pytest
import tifffile
from mmengine.config import Config

from custom.errors import InputError
from custom.io.image import read_labels
from custom.workbench.analysis.analysis import analyse
from custom.workbench.analysis.results import evaluate_predictions, load_results
from tests.cell_scenes import to_rle
from tests.tools.test_ensemble import CLASSES, oracle


@pytest.fixture
def cfg(repo, tiny_copy, monkeypatch) -> Config:
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_copy))
    return Config.fromfile(repo / "configs" / "demo" / "maskrcnn_r18-slim.py")


def test_predictions_meet_their_ground_truth(cfg, tiny_copy):
    """All cells, and one more in the background of each image: in ignored regions
    (ignore.tif) it is not an error any more."""
    names = sorted(p.name for p in (tiny_copy / "train").iterdir())[:3]
    predictions = oracle(tiny_copy, names[::-1], share=1.1)
    regions = {}
    for image in predictions.images:
        folder = tiny_copy / "train" / image.name
        cells = np.zeros(image.size, bool)
        for path in folder.glob("class*.tif"):
            cells |= read_labels(path) > 0
        cells[: len(cells) * 3 // 4] = True
        regions[folder / "ignore.tif"] = ~cells
        image.rles.append(to_rle(~cells))
        image.labels = np.append(image.labels, 0)
        image.scores = np.append(image.scores, 1.0)
        image.boxes = np.vstack([image.boxes, np.zeros(4)])
    results = load_results(cfg, predictions)
    assert [r.name for r in results] == names
    assert results[0].path == str(tiny_copy / "train" / names[0] / "image.tif")
    before = analyse(results, CLASSES)
    assert before.metrics["recall"] == 1 and before.metrics["precision"] < 1
    for path, region in regions.items():
        tifffile.imwrite(path, region.astype(np.uint16))
    after = analyse(load_results(cfg, predictions), CLASSES)
    assert after.metrics["cells"] == before.metrics["cells"]
    for key in ("precision", "F1", "PQ", "AJI", "AP50"):
        assert after.metrics[key] == pytest.approx(1), key
    metrics = evaluate_predictions(cfg, predictions)
    assert metrics["coco/segm_mAP_50"] == pytest.approx(1)
    assert metrics["cell/PQ"] == pytest.approx(1)
    predictions.classes = ("nucleus",)
    with pytest.raises(InputError, match="classes"):
        load_results(cfg, predictions)
