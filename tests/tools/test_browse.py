"""The plot of training samples shows what the pipeline gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

TOOL = "tools/data/browse.py"


@pytest.fixture
def config(repo, tiny_root, monkeypatch) -> str:
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    return str(repo / "configs/demo/maskrcnn_r18-slim.py")


def test_image_has_contours_in_class_colours(run_tool, config, tmp_path):
    out = tmp_path / "new" / "samples.png"
    said = run_tool(TOOL, config, "-o", out, "--count", 3, "--seed", 1)
    assert f"{out}: 3 training samples after augmentation" in said
    before = out.read_bytes()
    out.unlink()
    run_tool(TOOL, config, "-o", out, "--count", 3, "--seed", 1)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["samples.png"]
    image = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    pixels = image.reshape(-1, 3).astype(int)
    for color in ((0, 158, 115), (240, 228, 66)):  # the two common classes
        assert (np.abs(pixels - color).max(1) < 30).sum() > 50


def test_float_images_and_stock_masks_are_drawn(run_tool, config, tmp_path):
    """Colour jitter of MMDetection gives floats, from which white used to be drawn."""
    drawn = []
    for name, steps in (("plain", ""), ("stock", STOCK)):
        path, out = tmp_path / f"{name}.py", tmp_path / f"{name}.png"
        path.write_text(f"_base_ = {config!r}\n{steps}")
        run_tool(TOOL, path, "-o", out, "--count", 2)
        drawn.append(cv2.imread(str(out)).astype(int))
    assert np.abs(drawn[0] - drawn[1]).mean() < 2


STOCK = """
train_dataloader = dict(dataset=dict(pipeline=[
    *_base_.train_pipeline[:-1],
    dict(type='ToBitmapMasks'),
    dict(type='PhotoMetricDistortion', brightness_delta=0, contrast_range=(1, 1),
         saturation_range=(1, 1), hue_delta=0),
    _base_.train_pipeline[-1],
]))
"""


def test_what_is_refused(run_tool, config, tmp_path):
    mine = tmp_path / "mine.png"
    mine.write_text("mine")
    with pytest.raises(SystemExit, match="it exists already"):
        run_tool(TOOL, config, "-o", mine)
    with pytest.raises(SystemExit, match="not the name of an image"):
        run_tool(TOOL, config, "-o", tmp_path / "samples.doc")
    with pytest.raises(SystemExit):
        run_tool(TOOL, config, "-o", tmp_path / "samples.png", "--count", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
    assert mine.read_text() == "mine"
