"""Figures of a test, written once."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import LoggerHook
from mmengine.registry import HOOKS

from custom.io.json_file import write_json


@HOOKS.register_module()
class MainLoggerHook(LoggerHook):
    """:class:`mmengine.hooks.LoggerHook` of which one process writes the figures.

    In the stock hook every process of a test writes the same ``<time>.json``, which
    then may hold parts of several.
    """

    @master_only
    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        """Log the figures, and write them whole or not at all."""
        figures, text = runner.log_processor.get_log_after_epoch(
            runner, len(runner.test_dataloader), "test", with_non_scalar=True
        )
        runner.logger.info(text)
        path = Path(runner.log_dir, self.json_log_path)
        write_json(self._process_tags(figures), path)
