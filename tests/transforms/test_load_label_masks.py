import pytest
from mmengine.config import Config

from custom.transforms import LoadLabelMasks


@pytest.mark.parametrize(
    ("value", "wanted"), [("none", None), ("/some/folder", "/some/folder")]
)
def test_the_environment_chooses_the_label_cache(monkeypatch, repo, value, wanted):
    monkeypatch.setenv("CELL_LABEL_CACHE", value)
    cfg = Config.fromfile(repo / "configs/_base_/datasets/cell.py")
    settings = {k: v for k, v in cfg.load_masks.items() if k != "type"}
    assert LoadLabelMasks(**settings).cache_dir == wanted
