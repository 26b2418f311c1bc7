"""Console output of a run, and the metrics and images that it logs."""

from __future__ import annotations

import logging
from pathlib import Path

from mmdet.engine.hooks import DetVisualizationHook
from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.registry import HOOKS

from custom.io.json_file import write_json
from custom.transforms.loading import LoadCellImage, image_loader

# Messages of MMEngine that are kept in the log file and not shown on the screen: dumps
# of a hundred lines, and warnings about MMEngine's own code.
_NOT_ON_SCREEN = (
    "\n------",  # the environment
    "Config:\n",
    "Hooks will be executed",
    "paramwise_options",
    "set param ",
    "Param groups = ",
    "Distributed training is not used, all SyncBatchNorm",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "Exp name:",
    "Checkpoints will be saved",
)


def keep_dumps_off_screen(logger: logging.Logger) -> None:
    """Leave MMEngine's dumps to the log file of a logger that has one."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(
                lambda record: not record.getMessage().startswith(_NOT_ON_SCREEN)
            )


def log_outcome(runner) -> None:
    """Log the best score of a training run, its checkpoint and the run's folder."""
    hub = runner.message_hub
    scores = [key for key in hub.runtime_info if key.startswith("best_score")]
    for key in scores:
        checkpoint = hub.get_info(key.replace("score", "ckpt"))
        name = Path(checkpoint).stem.removeprefix("best_")
        runner.logger.info(f"Best {name}: {hub.get_info(key):.4f}, {checkpoint}")
    if not scores:
        runner.logger.info("Without validation: the last checkpoint is the result")
    runner.logger.info(f"Run: {runner.work_dir}, log: {runner.log_dir}")


@HOOKS.register_module()
class MainLoggerHook(LoggerHook):
    """:class:`mmengine.hooks.LoggerHook` whose test metrics one process writes.

    In the stock hook every process of a test writes the same ``<time>.json``, which may
    then hold parts of several.
    """

    @master_only
    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        """Log the metrics and write ``<time>.json`` atomically."""
        values, text = runner.log_processor.get_log_after_epoch(
            runner, len(runner.test_dataloader), "test", with_non_scalar=True
        )
        runner.logger.info(text)
        path = Path(runner.log_dir, self.json_log_path)
        write_json(self._process_tags(values), path)


@HOOKS.register_module()
class CellVisualizationHook(DetVisualizationHook):
    """Draw each tested image to ``<test_out_dir>/<name>.png``.

    The stock hook names an overlay after its image file, and here every file is called
    ``image.tif``; it also reads with OpenCV, which does not know 16-bit scaling. The
    options are the stock hook's. Ground truth, where available, is on the left.
    """

    def after_val_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """Draw every ``interval``-th image to the visualizer's backends."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(outputs[0], runner.val_dataloader, "val_img", None, step)

    def after_test_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """Draw each image."""
        if not self.draw:
            return
        for sample in outputs:
            self._test_index += 1
            out_file = None
            if self.test_out_dir is not None:
                folder = Path(runner.log_dir) / self.test_out_dir
                folder.mkdir(parents=True, exist_ok=True)
                out_file = str(folder / f"{Path(sample.name).stem}.png")
            loader = runner.test_dataloader
            self._draw(sample, loader, "test_img", out_file, self._test_index)

    def _draw(self, sample, loader, name: str, out_file, step: int) -> None:
        load = image_loader(loader.dataset) or LoadCellImage()
        self._visualizer.add_datasample(
            name,
            load.read(sample.img_path),
            data_sample=sample,
            draw_gt="masks" in sample.gt_instances,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )
