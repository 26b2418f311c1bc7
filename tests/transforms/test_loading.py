"""LoadCellImage: true colours from either order of the channels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from custom.engine import CellVisualizationHook, CellVisualizer
from custom.errors import InputError
from custom.io.colours import channel_order_of
from custom.transforms import LoadCellImage
from custom.transforms.loading import image_loader
from custom.workbench.synthetic import draw_tile


@pytest.fixture
def stored(tmp_path):
    """Paths of one tile in either order."""
    image, _ = draw_tile(np.random.default_rng(0), (64, 80))
    paths = {"rgb": tmp_path / "rgb.tif", "bgr": tmp_path / "bgr.tif"}
    tifffile.imwrite(paths["rgb"], image, photometric="rgb")
    tifffile.imwrite(paths["bgr"], image[..., ::-1], photometric="rgb")
    return image, paths


def test_true_colours_from_either_order_as_bgr(stored):
    image, paths = stored
    for order, path in paths.items():
        load = LoadCellImage(channel_order=order)
        results = load.transform({"img_path": str(path)})
        np.testing.assert_array_equal(results["img"], image[..., ::-1])
        assert results["img_shape"] == results["ori_shape"] == (64, 80)
        np.testing.assert_array_equal(
            LoadCellImage(channel_order=order).read(path), image
        )
    # Without the option, as in configs of old runs, the order of the file.
    old = LoadCellImage().transform({"img_path": str(paths["bgr"])})
    np.testing.assert_array_equal(old["img"], image)
    with pytest.raises(InputError, match="Use 'rgb' or 'bgr'"):
        LoadCellImage(channel_order="BGR")


def test_overlays_show_true_colours(stored):
    _, paths = stored
    dataset = SimpleNamespace(pipeline=[LoadCellImage(channel_order="bgr")])
    wrapper = SimpleNamespace(pipeline=[], dataset=dataset)
    assert image_loader(wrapper).channel_order == "bgr"
    assert image_loader(SimpleNamespace(pipeline=[])) is None
    CellVisualizer.get_instance("overlays")
    hook, drawn = CellVisualizationHook(draw=True), []
    hook._visualizer = SimpleNamespace(
        add_datasample=lambda name, image, **kwargs: drawn.append(image)
    )
    sample = SimpleNamespace(img_path=str(paths["bgr"]), gt_instances={})
    runner = SimpleNamespace(val_dataloader=SimpleNamespace(dataset=wrapper), iter=0)
    hook.after_val_iter(runner, 0, None, [sample])
    assert channel_order_of(drawn[0]).order == "rgb"
