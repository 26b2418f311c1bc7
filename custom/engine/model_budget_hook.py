"""A limit on the size of the model."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import nn

from custom.errors import InputError


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters of a model; buffers do not count."""
    numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in numbers), sum(n for n, trained in numbers if trained)


@HOOKS.register_module()
class ModelBudgetHook(Hook):
    """Refuse to train a model that the course's rules do not allow.

    Args:
        limit: The most trainable parameters; the rule is fewer than 200 million.
    """

    priority = "VERY_HIGH"

    def __init__(self, limit: int = 200_000_000) -> None:
        self.limit = limit

    def before_train(self, runner) -> None:
        """Count and compare.

        Raises:
            InputError: There are ``limit`` trainable parameters or more.
        """
        total, trainable = count_parameters(runner.model)
        print_log(f"{trainable:,} trainable of {total:,} parameters", "current")
        if trainable >= self.limit:
            raise InputError(
                runner.cfg.filename or "model",
                f"{trainable:,} trainable parameters, but fewer than {self.limit:,} "
                "are allowed",
                "Take a smaller backbone, or freeze more of its stages",
            )
