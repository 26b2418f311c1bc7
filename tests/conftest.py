"""Fixtures: the checkout, real samples, small synthetic data."""

from __future__ import annotations

import functools
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from custom.workbench.synthetic import write_dataset

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared_data(repo) -> Path:
    """Real samples, which the repository does not hold."""
    path = repo.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real samples (../shared/data) are not on this machine")
    return path


@pytest.fixture(scope="session")
def hw3(shared_data) -> Path:
    """Real regions in the released layout."""
    return shared_data / "hw3"


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory) -> Path:
    """A synthetic data set of small images in the released layout."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    write_dataset(root, n_train=6, n_test=2, size=96)
    return root


@pytest.fixture
def tiny_copy(tiny_root, tmp_path) -> Path:
    """A copy of ``tiny_root`` that a test may damage."""
    return Path(shutil.copytree(tiny_root, tmp_path / "tiny"))


@pytest.fixture
def run_tool(repo, monkeypatch, capsys) -> Callable[..., str]:
    """Run a tool as a user types it and return what it prints.

    In this process, because importing MMDetection takes seconds; a tool that fails
    raises SystemExit with its message.
    """

    def run(tool: str, *args: object) -> str:
        monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        capsys.readouterr()
        runpy.run_path(str(repo / tool), run_name="__main__")
        return capsys.readouterr().out

    return run


def forget_visualizers() -> None:
    """MMEngine keeps the first run's visualiser, folder included, by name."""
    from mmengine.visualization import Visualizer

    Visualizer._instance_dict.clear()
    module = sys.modules.get("custom.engine.visualizer")
    if module is not None:
        module.CellVisualizer._instance_dict.clear()


@pytest.fixture(scope="session", autouse=True)
def _index_of_mmdet_is_read_once():
    """MMEngine parses a hundred YAML files for every base that begins with mmdet::."""
    from mmengine.config import utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", functools.cache(utils.load))
        yield


@pytest.fixture(autouse=True)
def _fresh_visualizer():
    """Each test begins without the visualisers of others."""
    yield
    forget_visualizers()
