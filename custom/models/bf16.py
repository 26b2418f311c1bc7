"""Convolutions in BF16, everything else in FP32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn


@HOOKS.register_module()
class BF16Hook(Hook):
    """Run some modules under BF16 autocast with channels-last memory.

    Their outputs become FP32 in the usual memory order again: mmcv's RoIAlign and NMS
    have no BF16 on a CPU, and its RoIAlign takes any memory for channels-first. Pays on
    processors with AMX or AVX512-BF16 (docs/performance.md).

    Args:
        modules: Dotted names; each is called as a module by the detector.
    """

    priority = "VERY_HIGH"

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)
        self._prepared: nn.Module | None = None

    def before_train(self, runner) -> None:
        """Prepare the modules, once the model has its weights."""
        # Distributed and test-time-augmentation wrappers hold the model as `module`.
        model = getattr(runner.model, "module", runner.model)
        if model is self._prepared:
            return
        self._prepared = model
        for name in self.modules:
            module = model.get_submodule(name)
            module.to(memory_format=torch.channels_last)
            _autocast(module)

    before_val = before_test = before_train


def _autocast(module: nn.Module) -> None:
    """Give a module an autocast context around its forward."""
    contexts = []

    def enter(_, args: tuple) -> tuple:
        context = torch.autocast(_device(module), dtype=torch.bfloat16)
        context.__enter__()
        contexts.append(context)
        return _map(args, _channels_last)

    def leave(_, args: tuple, output: Any) -> Any:
        contexts.pop().__exit__(None, None, None)
        return _map(output, _plain)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


def _device(module: nn.Module) -> str:
    return next(module.parameters()).device.type


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _plain(x: Tensor) -> Tensor:
    return x.float().contiguous() if x.dtype == torch.bfloat16 else x


def _map(value: Any, function) -> Any:
    """Apply a function to each tensor of nested tuples and lists."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_map(v, function) for v in value)
    return value
