"""Running statistics of batch norm in a distributed run."""

from __future__ import annotations

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.nn.modules.batchnorm import _BatchNorm


@HOOKS.register_module()
class BatchNormStatsHook(Hook):
    """Give every process the mean of the running statistics after each iteration.

    Each process normalises by the statistics of its own batch and keeps a running mean
    of them. Without this hook the processes of a run validate different models, and
    the checkpoint is that of the first. MMEngine's ``SyncBuffersHook`` does the same
    before a validation, which is after the checkpoint and the average of the weights
    (``EMAHook``) have been made. Layers that are frozen are left alone.
    """

    priority = "HIGH"  # before EMAHook

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Average; the network is still in training mode."""
        layers = [
            module
            for module in runner.model.modules()
            if isinstance(module, _BatchNorm)
            and module.training
            and module.track_running_stats
        ]
        if layers:
            stats = [s for m in layers for s in (m.running_mean, m.running_var)]
            all_reduce_params(stats, op="mean")
