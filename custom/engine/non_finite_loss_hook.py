"""Batches whose loss is not finite: left out, reported, and limited in number.

Three parts work together. Only the optimiser's wrapper stands between the loss and
``backward``, so it leaves the step out; it knows neither the files nor the parts of the
loss, which a hook does.
"""

from __future__ import annotations

import logging

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import Tensor, nn

from custom.errors import InputError

_SKIPPED = "skipped_batches"


class _FiniteLoss:
    """Steps on finite losses only.

    Neither ``backward`` nor ``step`` runs on a loss that is NaN or infinite: weights,
    optimiser state, gradient scaler and gradients of an accumulation stay as they are.
    In a distributed run one such loss is enough for every process to leave the step
    out; otherwise the others would wait for its gradients for ever.
    """

    skipped = 0

    def update_params(self, loss: Tensor, *args, **kwargs) -> None:
        """As in the base, unless the loss of some process is not finite."""
        finite = loss.detach().isfinite().float()
        all_reduce(finite, op="min")
        if finite:
            super().update_params(loss, *args, **kwargs)
        else:
            self.skipped += 1
            self._inner_count += 1


@OPTIM_WRAPPERS.register_module()
class FiniteLossOptimWrapper(_FiniteLoss, OptimWrapper):
    """:class:`mmengine.OptimWrapper` that steps on finite losses only."""


@OPTIM_WRAPPERS.register_module()
class FiniteLossAmpOptimWrapper(_FiniteLoss, AmpOptimWrapper):
    """:class:`mmengine.AmpOptimWrapper` that steps on finite losses only."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Report batches that were left out, and end the run when there are too many.

    An average of the weights (``EMAHook``) goes on: it takes in the unchanged weights
    once more, and nothing that is not finite.

    Args:
        max_skips: So many batches may be left out in a run; with one more it ends.
    """

    def __init__(self, max_skips: int) -> None:
        self.max_skips = max_skips
        self._seen = 0

    def before_train(self, runner) -> None:
        """Check that somebody leaves batches out.

        Raises:
            InputError: The optimiser's wrapper steps on any loss.
        """
        if not isinstance(runner.optim_wrapper, _FiniteLoss):
            raise InputError(
                "optim_wrapper.type",
                f"{type(runner.optim_wrapper).__name__} steps on losses that are not "
                "finite, too",
                "Use FiniteLossOptimWrapper or FiniteLossAmpOptimWrapper, or remove "
                "NonFiniteLossHook from custom_hooks",
            )
        # In the message hub they are part of the checkpoint.
        self._seen = runner.message_hub.get_info(_SKIPPED, 0)
        runner.optim_wrapper.skipped = self._seen

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Report the batch if it was left out.

        Raises:
            InputError: There were more than ``max_skips``, or the model itself is not
                finite, so that no further batch can work.
        """
        skipped = runner.optim_wrapper.skipped
        if skipped == self._seen:
            return
        self._seen = skipped
        runner.message_hub.update_info(_SKIPPED, skipped)
        own = None
        if not outputs["loss"].isfinite():
            files = ", ".join(s.img_path for s in data_batch["data_samples"])
            parts = ", ".join(f"{k} {v:.4g}" for k, v in outputs.items())
            own = files, parts
        # Every process ends the run at the same time and says the same.
        found = [item for item in all_gather_object(own) if item]
        files, parts = ("; ".join(column) for column in zip(*found, strict=True))
        print_log(
            f"The loss is not finite: {parts}. The batch is left out ({skipped} so "
            f"far, {self.max_skips} may be): {files}",
            "current",
            logging.WARNING,
        )
        if name := _first_non_finite(runner.model):
            raise InputError(
                files,
                f"the loss is not finite ({parts}), nor is {name} of the model",
                "Resume from the last checkpoint with a lower learning rate, stronger "
                "clipping, or without --amp",
            )
        if skipped > self.max_skips:
            raise InputError(
                files,
                f"the loss is not finite ({parts}), and {skipped} batches have been "
                f"left out of this run; {self.max_skips} may be",
                "See the log for the files of each; lower the learning rate, or train "
                "without --amp",
            )


def _first_non_finite(model: nn.Module) -> str | None:
    """The first parameter or buffer, such as batch norm's mean, with NaN or inf."""
    for name, value in model.state_dict().items():
        if not torch.as_tensor(value).isfinite().all():
            return name
    return None
