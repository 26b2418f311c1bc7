from __future__ import annotations

import pytest

from tools.analysis import zoo


@pytest.fixture(scope="module")
def configs():
    return [zoo.describe(path) for path in zoo.config_files()]


def test_the_file_is_up_to_date(configs, repo):
    assert (repo / "docs/zoo.md").read_text() == zoo.write(configs), (
        "write it again: python tools/analysis/zoo.py"
    )


def test_the_light_model_has_the_reports_size_but_for_the_background(configs):
    (light,) = (c for c in configs if "_light]" in c["config"])
    total = int(light["parameters"].split(", ")[0].replace(",", ""))
    # torchvision predicts boxes and masks of the background, too: 4 x (1024 + 1) and
    # 256 + 1 weights.
    assert total + 4 * 1025 + 257 == 45_896_557
    assert "[45,896,557]" in light["parameters"]


def test_a_row_without_a_config_or_without_a_report_is_an_error(configs):
    without = [c for c in configs if "dc5" not in c["config"]]
    with pytest.raises(ValueError, match=r"without a config.*mask_rcnn_R_50_DC5_3x"):
        zoo.rows_of("003", without)
    extra = {"number": "003", "table": "the system", "row": "R_101"}
    with pytest.raises(ValueError, match=r"not in the report.*R_101"):
        zoo.rows_of("003", [*configs, {"config": "x", "rows": [extra]}])


def test_flops_grow_with_depth_and_size(configs):
    flops = {
        c["config"].split("]")[0][1:]: float(c["GFLOPs"].split()[0].replace(",", ""))
        for c in configs
    }
    r50, r101 = flops["maskrcnn_r50_adamw-30e"], flops["maskrcnn_r101_adamw-30e"]
    # ResNet-101 has 17 blocks more at stride 16 of 800 x 1344: 1x1 from 1024 to 256,
    # 3x3, 1x1 back to 1024.
    block = 2 * (2 * 1024 * 256 + 9 * 256 * 256) * 50 * 84 / 1e9
    assert r101 - r50 == pytest.approx(17 * block, abs=1)
    small = flops["maskrcnn_convnext-b_400-1000"]
    assert small < flops["maskrcnn_convnext-b_cosine-20e"]
