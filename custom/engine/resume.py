"""Checkpoints that survive a kill, and an exact resume from them.

A run that is killed, or told to stop, ends after ``--resume`` with the weights of an
undisturbed run (docs/reliability.md).
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    all_reduce_params,
    get_rank,
    is_main_process,
)
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from custom.io.atomic import remove_parts, write_atomically
from custom.io.checkpoint import check_written

PREEMPTED = 85
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

# Key of the message hub, and so of checkpoints: (batches done, batches) while an epoch
# runs.
BATCHES_DONE = "batches_done"
# Keys of checkpoints.
_RANDOM_STATES, _GRADIENTS = "random_states", "gradients"


class AtomicBackend(LocalBackend):
    """MMEngine's local files, written atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a checkpoint beside its name, read it back, then rename it.

        Raises:
            InputError: The file cannot be written; an older one of this name is kept.
        """
        with write_atomically(filepath) as part:
            part.write_bytes(obj)
            check_written(part, filepath)


register_backend("atomic", AtomicBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """:class:`mmengine.hooks.CheckpointHook` for runs that may be killed at any time.

    The options are the stock hook's. The differences:

    * A checkpoint is written to a temporary file, flushed, read back and renamed.
      ``last_checkpoint`` follows, and older checkpoints are removed last; the stock
      hook removes them first.
    * A checkpoint also holds the random-number generators of every process, and the
      gradients that wait for the optimiser's step (``accumulative_counts``). Processes
      whose gradients differ until the step store their mean, as the step uses it.
    * A checkpoint is saved before the validation of its step. A run that resumes from
      it validates first; the stock hook writes the whole checkpoint a second time.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, backend_args={"backend": "atomic"}, **kwargs)
        # Iterations done at the newest checkpoint.
        self.saved_iters: int | None = None
        # What before_save_checkpoint adds, or before_train restores.
        self._state: dict = {}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep the generators and gradients of a run that resumes for before_train."""
        if runner._resume:
            self._state = {k: checkpoint.get(k) for k in (_RANDOM_STATES, _GRADIENTS)}

    def before_train(self, runner) -> None:
        """Restore the state, remove temporary files, run a validation that is due."""
        super().before_train(runner)
        if states := self._state.get(_RANDOM_STATES):
            _restore_random_states(states, runner.world_size)
        if gradients := self._state.get(_GRADIENTS):
            for name, parameter in unwrapped(runner.model).named_parameters():
                if name in gradients:
                    parameter.grad = gradients[name].to(parameter.device)
        self._state = {}
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for part in remove_parts(folder):
                    runner.logger.info(f"Removed {part}, left by a killed process")
            if last := runner.message_hub.get_info("last_ckpt"):
                self._remove_old(runner, Path(last).name)
        if _validation_is_due(runner):
            runner.logger.info("The validation of the checkpoint's step:")
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")
            self.saved_iters = runner.iter
            runner.val_loop.run()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the generators and gradients; a best checkpoint is never resumed."""
        checkpoint.update(self._state)

    def save_now(self, runner) -> None:
        """Save after an iteration, unless the interval has just saved it.

        In a loop of epochs the file is ``epoch_<epochs done>-iter_<iterations done>``.
        """
        if self.saved_iters == runner.iter + 1:
            return
        if self.by_epoch:
            step = f"{runner.epoch}-iter_{runner.iter + 1}"
            meta = {"epoch": runner.epoch, "iter": runner.iter + 1}
            self._save_checkpoint_with_step(runner, step, meta)
        else:
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner, step: int | str, meta: dict) -> None:
        """Save, point to the new file, and only then remove old files."""
        self.saved_iters = meta["iter"]
        self._state = {_RANDOM_STATES: all_gather_object(_random_state())}
        if gradients := _mean_gradients(runner):
            self._state[_GRADIENTS] = gradients
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._state = {}
        if is_main_process():
            with write_atomically(Path(runner.work_dir, "last_checkpoint")) as part:
                part.write_text(self.last_ckpt)
            self._remove_old(runner, name)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Save the best checkpoint, then remove the one before it."""
        # The stock hook first removes the files that these name, and at the end saves
        # the last checkpoint again if there is one.
        paths = getattr(self, "best_ckpt_path_dict", {})
        self.best_ckpt_path = None
        paths.update(dict.fromkeys(paths))
        last, self.last_ckpt = self.last_ckpt, None
        super()._save_best_checkpoint(runner, metrics)
        self.last_ckpt = last
        if is_main_process() and last:
            self._remove_old(runner, Path(last).name)

    def _remove_old(self, runner, last: str) -> None:
        """Remove checkpoints beyond ``max_keep_ckpts`` and all but the best."""
        if self.max_keep_ckpts > 0:
            older = self._before(last)
            for path in older[: max(0, len(older) + 1 - self.max_keep_ckpts)]:
                path.unlink()
        indicators = self.key_indicators if self.save_best else []
        for indicator in indicators:
            key = "best_ckpt" if len(indicators) == 1 else f"best_ckpt_{indicator}"
            if best := runner.message_hub.get_info(key):
                prefix = f"best_{indicator}_".replace("/", "_")
                for path in self._before(Path(best).name, prefix):
                    path.unlink()

    def _before(self, name: str, prefix: str = "") -> list[Path]:
        """The checkpoints before one of them, by the numbers in their names.

        Later ones exist when a run went back to an older checkpoint; they are kept.
        """
        template = re.escape(prefix + self.filename_tmpl)
        pattern = re.compile(template.replace(r"\{\}", r"(\d+)(?:-iter_(\d+))?"))

        def numbers(name: str) -> tuple[int, ...]:
            match = pattern.fullmatch(name)
            return tuple(int(n or 0) for n in match.groups()) if match else ()

        paths = [(numbers(p.name), p) for p in Path(self.out_dir).iterdir()]
        return [path for key, path in sorted(paths) if () < key < numbers(name)]


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGUSR1 save a checkpoint and exit with code 85.

    The iteration is finished first, and all processes of a run stop together when one
    of them gets the signal. During a validation whose checkpoint exists the process
    exits at once; the resumed run validates.

    85 is unused by shells: a job script can tell a run that wants ``--resume`` (85)
    from one that failed (1) or finished (0).
    """

    # After everything that belongs to an iteration, AtomicCheckpointHook included.
    priority = "LOWEST"

    def __init__(self) -> None:
        self.signalled = False
        self._process = os.getpid()

    def before_train(self, runner) -> None:
        """Install the signal handlers."""
        self._handlers = {n: signal.signal(n, self._on_signal) for n in SIGNALS}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Save and exit if any process got a signal."""
        signalled = torch.tensor(float(self.signalled))
        all_reduce(signalled, op="max")
        if signalled:
            saver = _saver(runner)
            saver.save_now(runner)
            _exit(runner, saver)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Exit if a checkpoint of this step exists."""
        if self.signalled and _saver(runner).saved_iters == runner.iter:
            _exit(runner, _saver(runner))

    def after_train(self, runner) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _) -> None:
        if os.getpid() == self._process:
            self.signalled = True
        else:
            # A forked loader worker of a Runner other than CellRunner: Python ends it
            # by SIGTERM and waits for its end.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _saver(runner) -> AtomicCheckpointHook:
    return next(h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))


def _exit(runner, saver: AtomicCheckpointHook) -> None:
    runner.logger.warning(
        f"Stopped by a signal after {saver.saved_iters} iterations; saved as "
        f"{saver.last_ckpt}. Continue with --resume. Exit code {PREEMPTED}"
    )
    raise SystemExit(PREEMPTED)


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside MMEngine's wrapper for distributed training."""
    return model.module if is_model_wrapper(model) else model


def _validation_is_due(runner) -> bool:
    """Whether the loop validates at this step.

    The conditions are those at the ends of MMEngine's two training loops.
    """
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        step, last = loop.epoch, loop.max_epochs
    else:
        step, last = loop.iter, loop.max_iters
    return (
        runner.val_loop is not None
        and runner.message_hub.get_info(BATCHES_DONE) is None
        and step > 0
        and step >= loop.val_begin
        and (step % loop.val_interval == 0 or step == last)
    )


def _mean_gradients(runner) -> dict[str, torch.Tensor]:
    """Accumulated gradients by parameter name, on the CPU; mean of all processes."""
    gradients = {
        name: parameter.grad.detach().clone()
        for name, parameter in unwrapped(runner.model).named_parameters()
        if parameter.grad is not None
    }
    all_reduce_params(list(gradients.values()), op="mean")
    return {name: gradient.cpu() for name, gradient in gradients.items()}


def _random_state() -> dict:
    """The generators of this process: Python, NumPy, torch and its GPU."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random_states(states: list[dict], world_size: int) -> None:
    """Set the generators of this process to those of its rank in the checkpoint."""
    if len(states) != world_size:
        print_log(
            f"The checkpoint was made by {len(states)} processes, this run has "
            f"{world_size}: the model's random numbers start from the seed",
            "current",
            logging.WARNING,
        )
        return
    state = states[get_rank()]
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    # A tensor in checkpoints of older versions.
    keys = keys.cpu().numpy() if isinstance(keys, torch.Tensor) else keys
    np.random.set_state((name, keys.astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
