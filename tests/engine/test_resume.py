"""Runs that end anywhere resume exactly; a checkpoint is removed after the next exists.

tests/reliability kills real runs; here exceptions end small ones.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from custom.engine import resume
from custom.engine.resume import PREEMPTED, SIGNALS
from custom.errors import InputError
from custom.io import atomic
from custom.io.checkpoint import is_whole, read_checkpoint
from tests.reliability.states import differences
from tests.toy_run import runner


class Crash(Exception):
    pass


class Breaker(Hook):
    """Ends the run at one of its events."""

    def __init__(self, event: str, at: int, priority="LOWEST", act=None) -> None:
        self.event, self.at, self.priority, self.act = event, at, priority, act

    def _break(self, runner, event: str, iters: int) -> None:
        if (event, iters) == (self.event, self.at):
            if self.act is None:
                raise Crash
            self.act()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._break(runner, "train", runner.iter + 1)

    def before_val(self, runner) -> None:
        self._break(runner, "before_val", runner.iter)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._break(runner, "val", runner.iter)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._break(runner, "after_val", runner.iter)

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        best = "optimizer" not in checkpoint
        self._break(runner, "best" if best else "save", checkpoint["meta"]["iter"])


@pytest.fixture(autouse=True)
def _signals_as_before():
    yield
    be_a_new_process()


def be_a_new_process() -> None:
    """Remove PreemptionHook's handlers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory) -> dict[bool, Path]:
    """Runs that nothing ends, by whether their loops are of epochs."""
    folders = {}
    for epochs in (False, True):
        folders[epochs] = tmp_path_factory.mktemp("whole") / "run"
        runner(folders[epochs], epochs).train()
    return folders


def checkpoints(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.suffix == ".pth"}


def assert_same_end(folder: Path, whole: Path) -> None:
    assert checkpoints(folder) == checkpoints(whole)
    for name in checkpoints(whole):
        assert differences(whole / name, folder / name) == []
    last = [(f / "last_checkpoint").read_text() for f in (folder, whole)]
    assert Path(last[0]).name == Path(last[1]).name
    assert not list(folder.glob(".*"))


EVENTS = [
    *[("train", at) for at in (1, 3, 4, 7, 12)],
    *[("before_val", at) for at in (4, 12)],
    *[("val", at) for at in (8, 12)],
    *[("after_val", at) for at in (4, 12)],
    *[("save", at) for at in (2, 8, 12)],
    *[("best", at) for at in (8, 12)],
]


@pytest.mark.parametrize("epochs", [False, True], ids=["steps", "epochs"])
@pytest.mark.parametrize(
    ("event", "at", "priority"),
    [
        *[(*event, "LOWEST") for event in EVENTS],
        *[("train", 4, "VERY_HIGH"), ("after_val", 12, "VERY_HIGH")],
    ],
)
def test_a_run_that_ends_anywhere_resumes_exactly(
    epochs, event, at, priority, whole_runs, tmp_path
):
    if epochs and (event, at) == ("save", 2):
        at = 4
    with pytest.raises(Crash):
        runner(tmp_path, epochs, (Breaker(event, at, priority),)).train()
    named = tmp_path / "last_checkpoint"
    assert not named.exists() or is_whole(named.read_text())
    runner(tmp_path, epochs, resume=named.exists()).train()
    assert_same_end(tmp_path, whole_runs[epochs])


def test_the_comparison_sees_random_states(whole_runs, tmp_path, monkeypatch):
    """Without the states of the generators a resumed run ends elsewhere."""
    with pytest.raises(Crash):
        runner(tmp_path, hooks=(Breaker("train", 7),)).train()
    monkeypatch.setattr(resume, "_restore_random_states", lambda *_: None)
    runner(tmp_path, resume=True).train()
    changes = differences(whole_runs[False] / "iter_12.pth", tmp_path / "iter_12.pth")
    assert any("state_dict/last.weight" in place for place in changes)


@pytest.mark.parametrize("epochs", [False, True], ids=["steps", "epochs"])
@pytest.mark.parametrize(
    ("event", "at", "number"),
    [
        ("train", 1, signal.SIGTERM),
        ("train", 4, signal.SIGTERM),
        ("train", 6, signal.SIGUSR1),
        ("val", 8, signal.SIGTERM),
    ],
)
def test_a_signal_saves_and_the_run_resumes_exactly(
    epochs, event, at, number, whole_runs, tmp_path
):
    stop = Breaker(event, at, "VERY_HIGH", lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as exit_:
        runner(tmp_path, epochs, (stop,)).train()
    assert exit_.value.code == PREEMPTED == 85
    last = Path((tmp_path / "last_checkpoint").read_text())
    assert read_checkpoint(last)["meta"]["iter"] == at  # nothing is done twice
    be_a_new_process()
    runner(tmp_path, epochs, resume=True).train()
    # The checkpoint in the middle of an epoch has been removed since.
    assert_same_end(tmp_path, whole_runs[epochs])


def test_an_epoch_of_other_batches_is_not_resumed(tmp_path):
    stop = Breaker("train", 6, "VERY_HIGH", lambda: os.kill(os.getpid(), 15))
    with pytest.raises(SystemExit):
        runner(tmp_path, epochs=True, hooks=(stop,)).train()
    be_a_new_process()
    with pytest.raises(InputError, match=r"after 2 of 4 batches .* that has 2 now"):
        runner(tmp_path, epochs=True, resume=True, batch_size=4).train()


@pytest.mark.parametrize("at", [3, 4, 5])
def test_accumulated_gradients_are_kept(at, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    runner(whole, accumulate=3).train()
    stop = Breaker("train", at, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    stop.priority = "VERY_HIGH"
    with pytest.raises(SystemExit):
        runner(stopped, hooks=(stop,), accumulate=3).train()
    saved = read_checkpoint((stopped / "last_checkpoint").read_text())
    assert ("gradients" in saved) == (at != 3)
    be_a_new_process()
    runner(stopped, resume=True, accumulate=3).train()
    assert_same_end(stopped, whole)


def test_an_old_checkpoint_is_removed_after_the_new_one_exists(tmp_path):
    seen = []

    class Look(Hook):
        priority = "LOWEST"

        def before_save_checkpoint(self, runner, checkpoint) -> None:
            seen.append(checkpoints(tmp_path))

    runner(tmp_path, hooks=(Look(),), checkpoint={"max_keep_ckpts": 1}).train()
    assert all(any(n.startswith("iter") for n in names) for names in seen[1:])
    assert all(any(n.startswith("best") for n in names) for names in seen[4:])
    left = {"iter_12.pth", "best_toy_error_iter_12.pth"}
    assert checkpoints(tmp_path) == left


def test_later_checkpoints_of_a_run_that_went_back_stay(tmp_path):
    (tmp_path / "iter_40.pth").touch()
    (tmp_path / "epoch_1.pth").touch()
    runner(tmp_path).train()
    assert {"iter_40.pth", "epoch_1.pth"} < checkpoints(tmp_path)
    assert {"iter_2.pth", "iter_8.pth"}.isdisjoint(checkpoints(tmp_path))


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".iter_4.pth.0123456789abcdef.mmcell-part").write_bytes(b"half")
    (tmp_path / ".keep").touch()
    runner(tmp_path).train()
    assert [path.name for path in tmp_path.glob(".*")] == [".keep"]


def refuse_to_flush(monkeypatch, code: int, after: int) -> None:
    """The file system gives an error at one of the files that are written."""
    flush, calls = atomic._flush, []

    def failing(path: Path) -> None:
        calls.append(path)
        if len(calls) > after:
            raise OSError(code, os.strerror(code), str(path))
        flush(path)

    monkeypatch.setattr(atomic, "_flush", failing)


@pytest.mark.parametrize(
    ("code", "after"),
    [(errno.ENOSPC, 4), (errno.EACCES, 7), (errno.EIO, 10), (errno.EROFS, 13)],
)
def test_a_disk_error_keeps_the_old_files(
    code, after, tmp_path, monkeypatch, whole_runs
):
    refuse_to_flush(monkeypatch, code, after)
    with pytest.raises(InputError, match=os.strerror(code)) as error:
        runner(tmp_path).train()
    assert str(tmp_path) in str(error.value) and "untouched" in str(error.value)
    assert not list(tmp_path.glob(".*"))
    named = Path((tmp_path / "last_checkpoint").read_text())
    assert is_whole(named)
    assert all(is_whole(tmp_path / name) for name in checkpoints(tmp_path))
    monkeypatch.undo()
    runner(tmp_path, resume=True).train()
    assert_same_end(tmp_path, whole_runs[False])


def test_a_file_that_grows_too_large_is_refused_by_the_system_itself(tmp_path):
    """The same with a real limit, which the log still fits into."""
    runner(tmp_path / "x", width=4096).train()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"iter_2.pth.*File too large"):
            runner(tmp_path / "y", width=4096).train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "y").glob("*.pth"))


def test_random_states_of_another_number_of_processes_are_left_alone(
    tmp_path, monkeypatch
):
    with pytest.raises(Crash):
        runner(tmp_path, hooks=(Breaker("train", 7),)).train()
    resumed = runner(tmp_path, resume=True)
    resumed._world_size = 2
    resumed.register_hook(Breaker("before_val", 8))
    with pytest.raises(Crash):
        resumed.train()
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "made by 1 processes, this run has 2" in log


def test_each_checkpoint_is_written_once(tmp_path, monkeypatch):
    """The stock hook writes the last one again after a validation."""
    written, put = [], resume.AtomicBackend.put

    def spy(self, obj, filepath) -> None:
        written.append(Path(filepath).name)
        put(self, obj, filepath)

    monkeypatch.setattr(resume.AtomicBackend, "put", spy)
    runner(tmp_path, epochs=True).train()
    last = [name for name in written if name.startswith("epoch")]
    assert last == ["epoch_1.pth", "epoch_2.pth", "epoch_3.pth"]


def test_a_saved_state_keeps_no_gradients_on_the_device(tmp_path):
    stopped = runner(tmp_path, accumulate=3, hooks=(Breaker("train", 5),))
    with pytest.raises(Crash):
        stopped.train()
    (saver,) = (h for h in stopped.hooks if hasattr(h, "saved_iters"))
    assert saver._state == {} and saver.saved_iters == 4
