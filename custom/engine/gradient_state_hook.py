"""Gradients that wait for the optimiser's next step when a run ends."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

_KEY = "gradients"


@HOOKS.register_module()
class GradientStateHook(Hook):
    """Keep accumulated gradients in the checkpoint.

    With ``optim_wrapper.accumulative_counts`` a checkpoint may fall between two steps
    of the optimiser. Several processes, whose gradients differ until the step, keep
    their mean, which is what the step would have made of them.
    """

    def __init__(self) -> None:
        self._gradients: dict[str, Tensor] = {}

    def before_checkpoint(self, runner) -> None:
        """Collect them; called by AtomicCheckpointHook in every process."""
        self._gradients = {
            name: parameter.grad.detach().clone()
            for name, parameter in _model(runner).named_parameters()
            if parameter.grad is not None
        }
        all_reduce_params(list(self._gradients.values()), op="mean")

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put them in, if there are some; a best checkpoint is not resumed."""
        if self._gradients and "optimizer" in checkpoint:
            checkpoint[_KEY] = {k: v.cpu() for k, v in self._gradients.items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take them out."""
        self._gradients = checkpoint.get(_KEY, {}) if runner._resume else {}

    @torch.no_grad()
    def before_train(self, runner) -> None:
        """Give them back to the parameters."""
        parameters = dict(_model(runner).named_parameters())
        for name, gradient in self._gradients.items():
            parameters[name].grad = gradient.to(parameters[name].device)


def _model(runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
