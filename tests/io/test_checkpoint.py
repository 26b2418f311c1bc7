from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from custom.errors import InputError
from custom.io.checkpoint import is_whole, read_checkpoint, write_checkpoint


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Stranger:
    """Harmless, but nobody said so."""


class Getattr:
    """Asks for more than the statistics of a history."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "register_statistics")


def checkpoint() -> dict:
    hub = MessageHub("test")
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("best_score", np.float64(0.25))
    hub.update_info("ids", np.arange(3, dtype=np.uint16))
    return {
        "state_dict": {"weight": torch.randn(100, 100)},
        "message_hub": hub.state_dict(),
        "random": (random.getstate(), np.random.get_state(legacy=False)),
    }


def test_what_mmengine_stores_comes_back(tmp_path):
    path, data = tmp_path / "iter_1.pth", checkpoint()
    write_checkpoint(path, data)
    back = read_checkpoint(path)
    assert torch.equal(back["state_dict"]["weight"], data["state_dict"]["weight"])
    history = back["message_hub"]["log_scalars"]["train/loss"]
    assert history.current() == 0.5 and history.statistics("mean") == 0.5
    assert back["message_hub"]["runtime_info"]["best_score"] == 0.25
    assert back["random"][0] == data["random"][0]
    assert [p.name for p in tmp_path.iterdir()] == ["iter_1.pth"]


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_with_the_remedy(tmp_path, zipped):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    data = {"state_dict": {}, "x": Malice(trace)}
    torch.save(data, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"system.*could run.*docs/reliability"
    ) as error:
        read_checkpoint(path)
    assert "docs/reliability.md" in str(error.value) and not trace.exists()


def test_other_classes_and_getattr_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"x": Stranger()}, path)
    with pytest.raises(InputError, match="Stranger"):
        read_checkpoint(path)
    torch.save({"x": Getattr()}, path)
    with pytest.raises(InputError, match="register_statistics"):
        read_checkpoint(path)


def test_no_damage_is_overlooked(tmp_path):
    """One flipped bit anywhere, or any cut, is noticed; torch itself loads it."""
    path, weights = tmp_path / "x.pth", torch.zeros(1000)
    write_checkpoint(path, {"w": weights})
    assert is_whole(path)
    good = path.read_bytes()
    at = good.index(b"\0" * 3000) + 1000
    path.write_bytes(good[:at] + b"\1" + good[at + 1 :])
    assert torch.load(path)["w"].any()
    assert not is_whole(path)
    with pytest.raises(InputError, match=r"damaged.*newest good"):
        read_checkpoint(path)
    for length in (0, 1, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        assert not is_whole(path)
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(path)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_checkpoint(path)
