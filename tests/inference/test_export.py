"""The file of an exported model."""

from __future__ import annotations

import os

import pytest
import torch

from custom.errors import InputError
from custom.inference.export import ExportedModel, load_export, save_export

MODEL = ExportedModel(
    config={
        "model": {"type": "MaskRCNN", "out": (0, 1), "in": [2, 3], "eps": 1e-5},
        "pipeline": [{"type": "LoadCellImage"}, {"type": "Resize", "scale": (9, 8)}],
    },
    state_dict={"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(7)},
    classes=("one", "zwei"),
    palette=((0, 158, 115), (255, 0, 0)),
    info={"run": "x", "iterations": 3},
)


def test_what_is_saved_is_loaded_with_its_types(tmp_path):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    assert list(tmp_path.iterdir()) == [path]
    loaded = load_export(path)
    assert loaded.config == MODEL.config
    assert isinstance(loaded.config["model"]["out"], tuple)
    assert isinstance(loaded.config["model"]["in"], list)
    assert (loaded.classes, loaded.palette) == (MODEL.classes, MODEL.palette)
    assert loaded.info == MODEL.info
    assert loaded.state_dict.keys() == MODEL.state_dict.keys()
    for key, value in loaded.state_dict.items():
        assert torch.equal(value, MODEL.state_dict[key])
    assert torch.load(path, weights_only=True)["format"] == "mmcell-model"


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_file_that_would_run_code_does_not(tmp_path):
    trace = tmp_path / "trace"
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    data = torch.load(path, weights_only=True)
    data["info"] = Payload(f"touch {trace}")
    torch.save(data, path)
    with pytest.raises(InputError, match="run any code"):
        load_export(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other"}, "not an exported model"),
        ({"version": 2}, "version 2 of the format"),
        ({"config": {"model": {}}}, "lacks a model or a pipeline"),
        ({"config": "model = dict()"}, "lacks a model or a pipeline"),
        ({"classes": ()}, "lack names or colours"),
        ({"classes": ("one",)}, "lack names or colours"),
        ({"classes": (1, 2)}, "lack names or colours"),
        ({"palette": ((0, 0, 0), (0, 0, 256))}, "lack names or colours"),
        ({"palette": ((0, 0, 0), (0, 0, [1]))}, "lack names or colours"),
        ({"state_dict": {"a": 1}}, "not named tensors"),
        ({"state_dict": None}, "not named tensors"),
        ({"info": {"a": torch.zeros(1)}}, "info.a is of type Tensor"),
        ({"info": {1: 2}}, "info has the key 1"),
    ],
)
def test_other_contents_are_refused(tmp_path, change, words):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(InputError, match=words):
        load_export(path)


def test_a_missing_part_and_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    save_export(path, MODEL)
    data = torch.load(path, weights_only=True)
    del data["palette"]
    torch.save(data, path)
    with pytest.raises(InputError, match="lacks palette"):
        load_export(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="not an exported model"):
        load_export(path)
    torch.save({"state_dict": {}, "meta": {}}, path)
    with pytest.raises(InputError, match=r"not an exported model.*tools/export.py"):
        load_export(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        load_export(path)
    with pytest.raises(InputError, match="does not exist"):
        load_export(tmp_path / "no.pt")


def test_nothing_is_written_that_would_not_load(tmp_path):
    path = tmp_path / "model.pt"
    odd = {**MODEL.config, "tta_views": {"scales": {1.0, 2.0}}}
    model = ExportedModel(odd, {}, MODEL.classes, MODEL.palette, {})
    with pytest.raises(InputError, match="scales is of type set"):
        save_export(path, model)
    assert not path.exists()
