"""Runs that end anywhere go on as if they had not; nothing whole is ever removed first.

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

from custom.engine.resume import EXIT_CODE, SIGNALS
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
    """Forget what PreemptionHook set, and signals that wait."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # drops those that wait
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
    return {path.name for path in folder.glob("*.pth")}


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
def test_a_run_that_ends_anywhere_goes_on_exactly(
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


def test_what_the_runs_are_compared_by_is_not_blind(whole_runs, tmp_path):
    """Without the states of the generators a resumed run ends elsewhere."""
    with pytest.raises(Crash):
        runner(tmp_path, hooks=(Breaker("train", 7),)).train()
    going_on = runner(tmp_path, resume=True)
    going_on._hooks = [
        h for h in going_on.hooks if type(h).__name__ != "RandomStateHook"
    ]
    going_on.train()
    found = differences(whole_runs[False] / "iter_12.pth", tmp_path / "iter_12.pth")
    assert any("state_dict/last.weight" in place for place in found)


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
def test_a_run_that_is_told_to_stop_saves_and_goes_on_exactly(
    epochs, event, at, number, whole_runs, tmp_path
):
    stop = Breaker(event, at, "VERY_HIGH", lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as exit_:
        runner(tmp_path, epochs, (stop,)).train()
    assert exit_.value.code == EXIT_CODE == 85
    last = Path((tmp_path / "last_checkpoint").read_text())
    assert read_checkpoint(last)["meta"]["iter"] == at  # nothing is done twice
    be_a_new_process()
    runner(tmp_path, epochs, resume=True).train()
    # In the middle of an epoch there was a checkpoint more, which has gone.
    assert_same_end(tmp_path, whole_runs[epochs])


def test_an_epoch_of_other_batches_cannot_be_gone_on_with(tmp_path):
    stop = Breaker("train", 6, "VERY_HIGH", lambda: os.kill(os.getpid(), 15))
    with pytest.raises(SystemExit):
        runner(tmp_path, epochs=True, hooks=(stop,)).train()
    be_a_new_process()
    with pytest.raises(InputError, match=r"after 2 of 4 batches .* that has 2 now"):
        runner(tmp_path, epochs=True, resume=True, batch_size=4).train()


@pytest.mark.parametrize("at", [3, 4, 5])
def test_gradients_that_wait_for_a_step_are_kept(at, tmp_path):
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


def test_the_old_checkpoint_goes_after_the_new_one_is_whole(tmp_path):
    seen = []

    class Look(Hook):
        priority = "LOWEST"

        def before_save_checkpoint(self, runner, checkpoint) -> None:
            seen.append(checkpoints(tmp_path))

    runner(tmp_path, hooks=(Look(),), checkpoint={"max_keep_ckpts": 1}).train()
    # Whenever there is something to save, there is something whole before.
    assert all(any(n.startswith("iter") for n in names) for names in seen[1:])
    assert all(any(n.startswith("best") for n in names) for names in seen[4:])
    assert checkpoints(tmp_path) == {"iter_12.pth", "best_toy_error_iter_12.pth"}


def test_later_checkpoints_of_a_run_that_went_back_stay(tmp_path):
    (tmp_path / "iter_40.pth").touch()
    (tmp_path / "epoch_1.pth").touch()
    runner(tmp_path).train()
    assert {"iter_40.pth", "epoch_1.pth"} < checkpoints(tmp_path)
    assert {"iter_2.pth", "iter_8.pth"}.isdisjoint(checkpoints(tmp_path))


def test_what_a_killed_process_left_beside_is_removed(tmp_path):
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
def test_an_error_of_the_disk_leaves_what_was_there(
    code, after, tmp_path, monkeypatch, whole_runs
):
    refuse_to_flush(monkeypatch, code, after)
    with pytest.raises(InputError, match=os.strerror(code)) as error:
        runner(tmp_path).train()
    assert str(tmp_path) in str(error.value) and "untouched" in str(error.value)
    assert not list(tmp_path.glob(".*"))
    named = Path((tmp_path / "last_checkpoint").read_text())
    assert is_whole(named)
    assert all(is_whole(path) for path in tmp_path.glob("*.pth"))
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
    going_on = runner(tmp_path, resume=True)
    going_on._world_size = 2
    going_on.register_hook(Breaker("before_val", 8))
    with pytest.raises(Crash):
        going_on.train()
    log = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "made by 1 processes, this run has 2" in log
