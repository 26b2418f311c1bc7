"""Pictures of predictions."""

from __future__ import annotations

from pathlib import Path

from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import HOOKS

from custom.io.image import read_image


@HOOKS.register_module()
class CellVisualizationHook(DetVisualizationHook):
    """Draws each tested image to ``<test_out_dir>/<name>.png``.

    The stock hook names a picture after its file, and here every file is called
    ``image.tif``; it also reads with OpenCV, which does not know 16-bit scaling. The
    options are the stock hook's. Ground truth, where there is some, is on the left.
    """

    def after_val_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """Draw every ``interval``-th image to the visualiser's backends."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(outputs[0], "val_img", None, step)

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
            self._draw(sample, "test_img", out_file, self._test_index)

    def _draw(self, sample, name: str, out_file: str | None, step: int) -> None:
        self._visualizer.add_datasample(
            name,
            read_image(sample.img_path),
            data_sample=sample,
            draw_gt="masks" in sample.gt_instances,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )
