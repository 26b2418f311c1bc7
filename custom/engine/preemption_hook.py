"""Runs that are told to stop, by Slurm or by hand."""

from __future__ import annotations

import signal

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from custom.engine.atomic_checkpoint_hook import AtomicCheckpointHook

EXIT_CODE = 85
SIGNALS = {signal.SIGTERM, signal.SIGUSR1}


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1 save a checkpoint and exit with code 85.

    The iteration is finished first, and all processes of a run stop together if one of
    them is told to. During a validation whose checkpoint is written already the process
    exits at once, and the validation is done when the run resumes.

    85 is none of a shell's own codes: a job script can tell a run that goes on with
    ``--resume`` (85) from one that failed (1) or was finished (0).
    """

    # After everything that belongs to an iteration, AtomicCheckpointHook included.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._told = False

    def before_train(self, runner) -> None:
        """Listen."""
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        # Worker processes inherit this mask: a signal to the whole job must not end
        # them before the run. What is blocked here is looked up below.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Stop after this iteration if any process was told to."""
        told = torch.tensor(float(self._is_told()))
        all_reduce(told, op="max")
        if told:
            saver = _saver(runner)
            saver.save_now(runner)
            _exit(runner, saver)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Stop at once if nothing can be lost."""
        if self._is_told() and _saver(runner).saved_iters == runner.iter:
            _exit(runner, _saver(runner))

    def after_train(self, runner) -> None:
        """Be like any other process again; what came too late has nothing to stop."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_) -> None:
        self._told = True

    def _is_told(self) -> bool:
        return self._told or bool(signal.sigpending() & SIGNALS)


def _saver(runner) -> AtomicCheckpointHook:
    return next(h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))


def _exit(runner, saver: AtomicCheckpointHook) -> None:
    runner.logger.warning(
        f"Told to stop after {saver.saved_iters} iterations; the state is in "
        f"{saver.last_ckpt}. Go on with --resume. Exit code {EXIT_CODE}"
    )
    raise SystemExit(EXIT_CODE)
