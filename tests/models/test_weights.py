"""Pretrained weights: where they are looked for, and what is refused."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader
from torch.hub import download_url_to_file

from custom.errors import InputError
from custom.models import weights
from custom.models.weights import find_weights, prepare_weights

NAME = "resnet18-f37072fd.pth"  # what torchvision://resnet18 means
URL = f"https://download.pytorch.org/models/{NAME}"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path) -> list[str]:
    """An empty cache of torch and no internet; the URLs that were asked for."""
    init_default_scope("mmdet")
    asked = []

    def download(url: str, target: str, hash_prefix: str | None) -> None:
        asked.append(url)
        raise URLError("Name or service not known")

    monkeypatch.setattr(weights, "download_url_to_file", download)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("CELL_WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return asked


def backbone(depth: int = 18, channels: int = 8, **init) -> dict:
    """A thin ResNet with pretrained weights."""
    return {
        "type": "ResNet",
        "depth": depth,
        "base_channels": channels,
        "stem_channels": channels,
        "init_cfg": {"type": "Pretrained", **init} if init else None,
    }


def state_of(module: dict) -> dict[str, torch.Tensor]:
    """Random weights of a module, other ones at each call."""
    return {
        key: torch.rand(value.shape) if value.is_floating_point() else value
        for key, value in MODELS.build(module).state_dict().items()
    }


def config(checkpoint: object, **kwargs) -> Config:
    init = {"checkpoint": str(checkpoint), **kwargs}
    return Config({"model": {"type": "MaskRCNN", "backbone": backbone(**init)}})


def checkpoint_of(cfg: Config) -> str:
    return cfg.model.backbone.init_cfg.checkpoint


@pytest.fixture
def file(tmp_path) -> Path:
    """Weights as torchvision saves them: more than the backbone has."""
    path = tmp_path / "weights" / NAME
    path.parent.mkdir()
    torch.save({**state_of(backbone()), "fc.weight": torch.zeros(9, 64)}, path)
    return path


def refuse(cfg: Config) -> InputError:
    with pytest.raises(InputError) as error:
        prepare_weights(cfg)
    assert error.value.reason and error.value.remedy
    return error.value


# --- where a file is looked for ---


def test_local_file_is_taken_and_loaded(file, offline):
    cfg = config(file)
    prepare_weights(cfg)
    assert checkpoint_of(cfg) == str(file) and not offline
    module = MODELS.build(cfg.model.backbone)
    module.init_weights()
    loaded, saved = module.state_dict(), torch.load(file)
    assert all(torch.equal(loaded[key], saved[key]) for key in loaded)


@pytest.mark.parametrize("source", [URL, "torchvision://resnet18", f"{URL}?raw=1"])
def test_file_in_cell_weights_dir_is_taken(file, offline, monkeypatch, source):
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(file.parent))
    cfg = config(source)
    prepare_weights(cfg)
    assert checkpoint_of(cfg) == str(file) and not offline


@pytest.mark.parametrize("source", [URL, "torchvision://resnet18"])
def test_file_in_the_cache_of_torch_is_not_downloaded_again(
    file, tmp_path, offline, source
):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    cached.parent.mkdir(parents=True)
    file.rename(cached)
    cfg = config(source)
    prepare_weights(cfg)
    assert checkpoint_of(cfg) == URL and not offline


def test_download_goes_to_the_cache_of_torch_once(file, tmp_path, monkeypatch):
    asked = []

    def download(url: str, target: str, hash_prefix: str | None) -> None:
        asked.append(url)
        file.rename(target)

    monkeypatch.setattr(weights, "download_url_to_file", download)
    for _ in range(2):
        cfg = config("torchvision://resnet18")
        prepare_weights(cfg)
        assert checkpoint_of(cfg) == URL
    assert asked == [URL]
    assert (tmp_path / "torch" / "hub" / "checkpoints" / NAME).is_file()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of a folder; torch's own download function again."""
    monkeypatch.setattr(weights, "download_url_to_file", download_url_to_file)
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.mark.parametrize("separator", ["-", "_"])
def test_download_that_is_not_what_its_name_says_is_refused(file, server, separator):
    folder, address = server
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    good, bad = (f"r18{separator}{d}.pth" for d in (digest[:8], digest[8:16]))
    for name in (good, bad, "r18_20220124.pth", "r18.pth"):
        (folder / name).write_bytes(data)
    with pytest.raises(InputError, match="not match the hash in its name"):
        find_weights(f"{address}/{bad}")
    cache = Path(torch.hub.get_dir(), "checkpoints")
    assert not list(cache.iterdir())  # nothing of it is left
    # A date is no hash, and a name without one promises nothing.
    for name in (good, "r18_20220124.pth", "r18.pth"):
        assert find_weights(f"{address}/{name}") == f"{address}/{name}"
        assert (cache / name).read_bytes() == data


def test_all_pretrained_files_of_the_configs_are_checked_by_their_hash(repo):
    configs = (repo / "configs").rglob("*.py")
    text = "".join(path.read_text() for path in configs)
    names = re.findall(r"[\w.-]+\.pth(?=')", text)
    names += weights.TORCHVISION_FILES.values()
    assert len(names) > 10
    assert [name for name in names if weights._HASH.search(name) is None] == []


@pytest.mark.parametrize(
    "scheme", ["http://a/", "s3://a/", "x:petrel://a/", "mmcls://"]
)
def test_no_loader_of_the_stock_that_unpickles_is_left(scheme):
    loader = CheckpointLoader._get_checkpoint_loader(f"{scheme}b.pth")
    assert loader is weights.load_from_url


def test_only_the_first_process_of_a_machine_downloads(offline, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    cfg = config(URL)
    prepare_weights(cfg)
    assert checkpoint_of(cfg) == URL and not offline


@pytest.mark.parametrize(
    ("source", "beginning"),
    [
        (f"torchvision://{name}", f"https://download.pytorch.org/models/{name}-")
        for name in weights.TORCHVISION_FILES
    ]
    + [("open-mmlab://detectron2/resnet50_caffe", "https://")],
)
def test_names_mean_urls(source, beginning, offline, monkeypatch, tmp_path):
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(tmp_path / "missing"))
    with pytest.raises(InputError) as error:
        find_weights(source)
    assert offline == [error.value.source]
    assert offline[0].startswith(beginning) and offline[0].endswith(".pth")


# --- what is refused ---


@pytest.mark.parametrize(
    "failure",
    [
        URLError("Name or service not known"),
        HTTPError(URL, 404, "Not Found", None, None),
        TimeoutError("timed out"),
        OSError(28, "No space left on device"),
    ],
)
def test_failed_download_says_url_reason_and_remedy(monkeypatch, failure):
    def download(url: str, target: str, hash_prefix: str | None) -> None:
        raise failure

    monkeypatch.setattr(weights, "download_url_to_file", download)
    error = refuse(config("torchvision://resnet18"))
    assert str(error) == (
        f"{URL}: the weights cannot be downloaded ({failure}). Download the file "
        f"elsewhere, put it as {NAME} into a folder, and set CELL_WEIGHTS_DIR to that "
        "folder."
    )


def test_missing_local_file(tmp_path):
    error = refuse(config(tmp_path / "none.pth"))
    assert error.source == str(tmp_path / "none.pth")
    assert "does not exist" in error.reason


@pytest.mark.parametrize(
    "source",
    [
        "torchvision://resnet51",
        "open-mmlab://nothing",
        "s3://a/b.pth",
        "torchvision://",
    ],
)
def test_unknown_name_is_not_asked_for(source, offline):
    error = refuse(config(source))
    assert error.source == source and not offline
    assert "weights of this name are unknown" in error.reason
    assert "resnet50" in error.remedy


@pytest.mark.parametrize(
    "other", [{"channels": 16}, {"depth": 50}, {"channels": 16, "depth": 34}]
)
def test_file_of_another_architecture(tmp_path, other):
    path = tmp_path / "other.pth"
    torch.save(state_of(backbone(**other)), path)
    error = refuse(config(path))
    assert error.source == str(path)
    wanted = [k for k in state_of(backbone()) if "num_batches" not in k]
    assert f"of the {len(wanted)} weights of ResNet are in it" in error.reason
    assert "architecture" in error.remedy


def test_file_with_some_weights_missing_is_refused_and_with_few_is_not(file):
    state = torch.load(file)
    keys = [key for key in state_of(backbone()) if "num_batches" not in key]
    for missing, refused in ((len(keys) // 5, True), (1, False)):
        part = {k: v for k, v in state.items() if k not in keys[:missing]}
        torch.save(part, file)
        if refused:
            assert f"only {len(keys) - missing} of the" in refuse(config(file)).reason
        else:
            prepare_weights(config(file))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a weight file",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46830571\n",
        b"<html><title>403 Forbidden</title></html>",
        "half",
        torch.zeros(3),
        [torch.zeros(3)],
        {"state_dict": torch.zeros(3)},
    ],
)
def test_broken_file(file, content):
    if content == "half":
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    error = refuse(config(file))
    assert error.source == str(file)
    expected = (
        "it is damaged, or not a PyTorch file",
        "it does not hold named weights",
    )
    assert error.reason.startswith(expected)


def test_file_with_a_prefix_needs_to_be_told(file):
    state = {f"backbone.{k}": v for k, v in torch.load(file).items()}
    torch.save({"state_dict": state, "meta": {}}, file)
    prepare_weights(config(file, prefix="backbone."))
    prepare_weights(config(file, prefix="backbone"))
    assert "only 0 of" in refuse(config(file)).reason
    assert "only 0 of" in refuse(config(file, prefix="neck.")).reason


# --- where a config names weights ---


def test_every_module_with_weights_is_checked(file, tmp_path, monkeypatch, offline):
    monkeypatch.setenv("CELL_WEIGHTS_DIR", str(file.parent))
    missing = {"type": "Pretrained", "checkpoint": str(tmp_path / "none.pth")}
    several = backbone()
    several["init_cfg"] = [
        {"type": "Kaiming", "layer": "Conv2d"},
        {"type": "Pretrained", "checkpoint": URL},
    ]
    parts = [backbone(checkpoint=str(file)), {"inner": several}]
    cfg = Config({"model": {"parts": parts}, "load_from": None})
    prepare_weights(cfg)
    result = cfg.model.parts[1].inner.init_cfg[1].checkpoint
    assert result == str(file) and not offline
    cfg.model.parts[1].inner.init_cfg.append(ConfigDict(missing))
    assert refuse(cfg).source == missing["checkpoint"]


@pytest.fixture
def detector(repo) -> ConfigDict:
    return Config.fromfile(repo / "configs/demo/maskrcnn_r18-slim.py").model


def test_load_from_takes_a_detector_of_another_number_of_classes(detector, tmp_path):
    path = tmp_path / "detector.pth"
    torch.save({"state_dict": MODELS.build(detector).state_dict()}, path)
    for head in ("bbox_head", "mask_head"):
        detector["roi_head"][head]["num_classes"] = 7
    prepare_weights(Config({"model": detector, "load_from": str(path)}))


def test_load_from_refuses_a_backbone_alone(detector, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save(MODELS.build(detector["backbone"]).state_dict(), path)
    error = refuse(Config({"model": detector, "load_from": str(path)}))
    assert error.source == str(path) and "weights of MaskRCNN" in error.reason
