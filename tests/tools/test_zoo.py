from __future__ import annotations

import pytest
import yaml

from tools.analysis import zoo

LIGHT = zoo.CONFIGS / "reproductions/torchvision-light"


@pytest.mark.slow
def test_the_page_is_up_to_date(repo):
    configs = [zoo.describe(path) for path in zoo.config_files()]
    assert (repo / "docs/zoo.md").read_text() == zoo.write(configs), (
        "write it again: python tools/analysis/zoo.py"
    )


def test_the_light_model_has_the_reports_size_but_for_the_background():
    row = zoo.describe(LIGHT / "mask-rcnn-v2_r50_fpn_50e_light.py")
    # torchvision predicts boxes and masks of the background, too: 4 x (1024 + 1) and
    # 256 + 1 weights.
    assert row["total"] + 4 * 1025 + 257 == 45_896_557
    assert "45,896,557" in (LIGHT / "README.md").read_text()


def test_every_reproduction_has_its_row_in_metafile_and_readme(repo):
    for path in (zoo.CONFIGS / "reproductions").glob("*/metafile.yml"):
        models = yaml.safe_load(path.read_text())["Models"]
        configs = {str(file.relative_to(repo)) for file in path.parent.glob("*.py")}
        assert {model["Config"] for model in models} == configs
        readme = path.with_name("README.md").read_text()
        for model in models:
            assert f"`{model['Name']}`" in readme
            for row in model["Results"]:
                for value in row["Metrics"].values():
                    assert any(f"{value:.{n}f}" in readme for n in (2, 3, 4, 6)), row
