"""Files from strangers: weights, zips and names that would do more than be read.

XML entities and bombs, and images that claim to be huge, are in ``io/test_fuzz.py``.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import checkpoint as stock
from mmengine.runner import load_checkpoint

from custom.errors import InputError
from custom.evaluation import predictions, read_predictions
from custom.models.weights import prepare_weights
from tests.conftest import forget_visualizers
from tests.tools.test_train_and_test import DEMO, QUICK

# --- weights that are a program ---


class Payload:
    """Its pickle runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def marker(tmp_path) -> Path:
    """What exists once the payload has run."""
    return tmp_path / "pwned"


@pytest.fixture
def evil(tmp_path, marker) -> Path:
    """A checkpoint with everything in its place, and one thing more."""
    path = tmp_path / "evil-0123abcd.pth"
    meta = {"epoch": 1, "iter": 2, "payload": Payload(marker)}
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "meta": meta}, path)
    return path


@pytest.fixture(autouse=True)
def _scope(monkeypatch, tmp_path):
    init_default_scope("mmdet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("CELL_WEIGHTS_DIR", raising=False)


def refuse(marker: Path, call, *args) -> InputError:
    """Call what must refuse the file, say why and what to do, and not run it."""
    with pytest.raises(InputError, match="run any code") as error:
        call(*args)
    assert "posix.system" in error.value.reason
    assert "weights alone" in error.value.remedy
    assert not marker.exists()
    return error.value


def test_the_danger_is_real(evil, marker):
    """The loader of OneDL's MMEngine runs the payload: it falls back to pickles."""
    if not hasattr(stock, "_safe_torch_load"):
        pytest.skip("upstream MMEngine lacks that loader")
    stock._safe_torch_load(str(evil))
    assert marker.exists()


def test_load_from(evil, marker, repo):
    cfg = Config.fromfile(repo / DEMO)
    cfg.load_from = str(evil)
    refuse(marker, prepare_weights, cfg)


def backbone(checkpoint: object) -> dict:
    init = {"type": "Pretrained", "checkpoint": str(checkpoint)}
    return {"type": "ResNet", "depth": 18, "init_cfg": init}


def test_init_cfg(evil, marker):
    module = MODELS.build(backbone(evil))
    refuse(marker, module.init_weights)
    refuse(marker, prepare_weights, Config({"model": {"backbone": backbone(evil)}}))


@pytest.mark.parametrize("legacy", [False, True])
def test_loaders_of_mmengine(tmp_path, marker, legacy):
    path = tmp_path / "x.pth"
    torch.save(Payload(marker), path, _use_new_zipfile_serialization=not legacy)
    refuse(marker, load_checkpoint, MODELS.build(backbone("")), str(path))


def test_download(evil, marker):
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    evil = evil.rename(evil.with_name("evil.pth"))  # without the hash of another file
    handler = functools.partial(Handler, directory=str(evil.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{evil.name}"
        refuse(marker, MODELS.build(backbone(url)).init_weights)
        server.shutdown()


@pytest.mark.parametrize(
    "command",
    [
        "tools/train.py {config} --resume {evil} --work-dir {out}",
        "tools/train.py {config} --work-dir {out} --cfg-options load_from={evil}",
        "tools/test.py {config} {evil} --work-dir {out} --cfg-options {quick}",
        "tools/predict.py {config} {evil} {image} -o {out}",
    ],
    ids=lambda command: " ".join(command.split()[:3:2]),
)
def test_tools(command, evil, marker, repo, run_tool, tiny_root, tmp_path, monkeypatch):
    monkeypatch.setenv("CELL_DATA_ROOT", str(tiny_root))
    monkeypatch.chdir(repo)
    image = next((tiny_root / "test_release").iterdir())
    words = {"config": DEMO, "evil": evil, "out": tmp_path / "out", "image": image}
    filled = command.format(quick=" ".join(QUICK), **words).split()
    with pytest.raises(SystemExit) as error:
        run_tool(*filled)
    message = str(error.value.code)
    assert message.startswith("error: ")
    assert "run any code" in message
    assert not marker.exists()


def test_environment_variables_are_not_code(marker, repo, run_tool, monkeypatch):
    code = f"x' + str(__import__('os').system('touch {marker}')) + '"
    monkeypatch.setenv("CELL_DATA_ROOT", code)
    with pytest.raises(SystemExit, match="quote"):
        run_tool("tools/train.py", repo / DEMO)
    assert not marker.exists()


# --- arrays and archives that are a program, a bomb or a way out ---


def archive(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def test_submission_zips_are_read_where_they_are(tmp_path, monkeypatch):
    """A name with a path is never one on the disk."""
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "a.zip", {"../../outside/test-results.json": b"[]"})
    before = sorted(tmp_path.parent.iterdir())
    assert read_predictions(path).images == []
    assert sorted(tmp_path.parent.iterdir()) == before
    assert [p.name for p in tmp_path.rglob("*")] == ["a.zip"]


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "bomb.zip", {"test-results.json": b" " * (2 << 20)})
    assert path.stat().st_size < 1 << 12
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(InputError, match="unpacked it is larger"):
        read_predictions(path)


# --- names ---

NAMES = (
    "$(touch pwned)",
    "; touch pwned;",
    "`touch pwned` & | > <b>&amp;",
    "-rf",
    "a 'b' \"c\"",
    "zwei\nZeilen",
    "Zellen-Ä-细胞-\U0001f9eb",
    "%s {0} ${HOME} {{x}} *?[!a]~",
    "é",  # an accent of its own
    "back\\slash",
)


@pytest.fixture
def odd_names(tiny_root, tmp_path) -> Path:
    """A data set whose folders have names that no one should choose."""
    root = tmp_path / "; touch pwned; $(touch pwned) ä -x"
    sources = sorted((tiny_root / "train").iterdir())
    for number, name in enumerate(NAMES):
        shutil.copytree(sources[number % len(sources)], root / "train" / name)
    listed = []
    (root / "test_release").mkdir()
    source = next((tiny_root / "test_release").iterdir())
    for number, name in enumerate(NAMES, 1):
        shutil.copy2(source, root / "test_release" / f"{name}.tif")
        size = {"height": 96, "width": 96}
        listed.append({"file_name": f"{name}.tif", "id": number, **size})
    (root / "test_image_name_to_ids.json").write_text(json.dumps(listed))
    return root


@pytest.mark.slow
def test_names_are_names_in_every_tool(
    odd_names, repo, run_tool, tmp_path, monkeypatch
):
    monkeypatch.setenv("CELL_DATA_ROOT", str(odd_names))
    # Where a payload would leave its file.
    monkeypatch.chdir(tmp_path)
    config = repo / DEMO

    def call(*command: object) -> None:
        forget_visualizers()  # each of them is a new program
        run_tool(*command)

    work_dir = tmp_path / "run; touch pwned `touch pwned` ü"
    options = ["--cfg-options", *QUICK, "model.test_cfg.rcnn.score_thr=0.0"]
    call("tools/train.py", config, "--work-dir", work_dir, *options)
    split = json.loads((work_dir / "split.json").read_text())
    assert sorted(split["train"] + split["val"]) == sorted(NAMES)
    checkpoint = work_dir / "iter_2.pth"
    call("tools/test.py", config, checkpoint, "--show-dir", "overlays", *options)
    (drawn,) = work_dir.glob("*/overlays")
    assert {path.stem for path in drawn.iterdir()} == set(split["val"])
    call("tools/test.py", config, checkpoint, "--format-only", *options)
    (submission,) = work_dir.glob("*/test-results.json")
    ids = {entry["image_id"] for entry in json.loads(submission.read_text())}
    assert ids == set(range(1, len(NAMES) + 1))
    call("tools/analysis/verify_run.py", work_dir, "--quick")
    call("tools/report.py", work_dir)
    call("tools/data/audit.py", config, "-o", tmp_path / "audit.html")
    for page in (work_dir / "report.html", tmp_path / "audit.html"):
        text = page.read_text()
        assert "<b>&amp;" not in text
    images = sorted((odd_names / "test_release").iterdir())
    call("tools/predict.py", config, checkpoint, *images, "-o", tmp_path / "found")
    assert not list(tmp_path.rglob("pwned"))
