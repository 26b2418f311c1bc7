"""Checkpoints that a kill at any moment leaves whole, and an exact way back."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop

from custom.engine.loop import BATCHES_DONE
from custom.io.atomic import remove_parts, write_atomically
from custom.io.checkpoint import check_written, read_checkpoint

# Not "val...": the log would show it as a figure.
_VALIDATED = "last_validation"


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_file(
    path: str, map_location: str | torch.device | None = None
) -> dict[str, object]:
    """MMEngine's way to :func:`custom.io.checkpoint.read_checkpoint`."""
    return read_checkpoint(path, map_location)


class AtomicBackend(LocalBackend):
    """Local files of MMEngine, written whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a checkpoint, read it back, and only then give it its name.

        Raises:
            InputError: It cannot be written. What was there before is still there.
        """
        with write_atomically(filepath) as part:
            part.write_bytes(obj)
            check_written(part, filepath)


register_backend("atomic", AtomicBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """:class:`mmengine.hooks.CheckpointHook` that never is without a whole checkpoint.

    The options are the stock hook's. What is different:

    * A checkpoint is written beside, flushed to the disk and read back before it gets
      its name; old ones go after that, the stock hook removes them before.
    * ``last_checkpoint`` is written whole, too, after the file that it names.
    * The stock hook saves before the validation of the same step, so that a kill in
      between loses it. Here a run that resumes from there validates first, and the
      checkpoint is written once more when the validation is over.
    * Before each save every process calls ``before_checkpoint`` of all hooks, where
      they can gather what the processes know (the stock ``before_save_checkpoint`` is
      called in the first process only).
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, backend_args={"backend": "atomic"}, **kwargs)
        # Iterations done at the newest checkpoint, and at the validation that it holds.
        self.saved_iters: int | None = None
        self._validated: int | None = None

    def before_train(self, runner) -> None:
        """Clean up behind a killed process, and do the validation that it owes."""
        super().before_train(runner)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for part in remove_parts(folder):
                    runner.logger.info(f"Removed {part}, left by a killed process")
            if last := runner.message_hub.get_info("last_ckpt"):
                self._remove_old(runner, Path(last).name)
        if _validation_is_due(runner):
            runner.logger.info("The run ended before this validation:")
            self.last_ckpt = runner.message_hub.get_info("last_ckpt")
            self.saved_iters = runner.iter
            runner.val_loop.run()

    def after_val_epoch(self, runner, metrics) -> None:
        """As in the base, and keep in the checkpoint what the validation found."""
        runner.message_hub.update_info(_VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)
        if self.saved_iters == runner.iter != self._validated:
            step = runner.epoch if self.by_epoch else runner.iter
            meta = {"epoch": runner.epoch, "iter": runner.iter}
            self._save_checkpoint_with_step(runner, step, meta)

    def save_now(self, runner) -> None:
        """Save after an iteration, unless it was a step of the interval.

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
        """Save, point to it, and only then remove what is too old."""
        runner.call_hook("before_checkpoint")
        self.saved_iters = meta["iter"]
        self._validated = runner.message_hub.get_info(_VALIDATED)
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
        if is_main_process():
            with write_atomically(Path(runner.work_dir, "last_checkpoint")) as part:
                part.write_text(self.last_ckpt)
            self._remove_old(runner, name)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """As in the base, but the old best goes after the new one is there."""
        # The base removes what these name before it saves.
        paths = getattr(self, "best_ckpt_path_dict", {})
        self.best_ckpt_path = None
        paths.update(dict.fromkeys(paths))
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process() and self.last_ckpt:
            self._remove_old(runner, Path(self.last_ckpt).name)

    def _remove_old(self, runner, last: str) -> None:
        """Remove what is too old beside the last and the best checkpoint."""
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

        Later ones, of which there are some when a run went back, are left alone.
        """
        template = re.escape(prefix + self.filename_tmpl)
        pattern = re.compile(template.replace(r"\{\}", r"(\d+)(?:-iter_(\d+))?"))

        def numbers(name: str) -> tuple[int, ...]:
            match = pattern.fullmatch(name)
            return tuple(int(n or 0) for n in match.groups()) if match else ()

        paths = [(numbers(p.name), p) for p in Path(self.out_dir).iterdir()]
        return [path for own, path in sorted(paths) if () < own < numbers(name)]


def _validation_is_due(runner) -> bool:
    """Whether the loop would have validated now, had the run not been ended.

    The conditions are those at the ends of MMEngine's two training loops.
    """
    loop, hub = runner.train_loop, runner.message_hub
    if isinstance(loop, EpochBasedTrainLoop):
        step, last = loop.epoch, loop.max_epochs
    else:
        step, last = loop.iter, loop.max_iters
    return (
        runner.val_loop is not None
        and hub.get_info(BATCHES_DONE) is None
        and step > 0
        and step >= loop.val_begin
        and (step % loop.val_interval == 0 or step == last)
        and hub.get_info(_VALIDATED) != loop.iter
    )
