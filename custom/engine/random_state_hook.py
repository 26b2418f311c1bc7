"""Random numbers that go on where they were when a run resumes."""

from __future__ import annotations

import logging
import random

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

_KEY = "random_states"


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keep the generators of every process in the checkpoint.

    Those of Python, NumPy, torch and the process's GPU: the model draws from them
    (sampled proposals, dropout). What is drawn for the data needs no state, see
    :class:`custom.datasets.SeededDataset`.
    """

    # Before AtomicCheckpointHook's before_train, which may validate.
    priority = "LOW"

    def __init__(self) -> None:
        self._states: list[dict] = []

    def before_checkpoint(self, runner) -> None:
        """Gather the states; called by AtomicCheckpointHook in every process."""
        self._states = all_gather_object(_state())

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Put them in; those of a best checkpoint are of no use, it is not resumed."""
        if "optimizer" in checkpoint:
            checkpoint[_KEY] = self._states

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take them out."""
        self._states = checkpoint.get(_KEY, []) if runner._resume else []

    def before_train(self, runner) -> None:
        """Set this process's generators, when all that makes a run has drawn."""
        if not self._states:
            return
        if len(self._states) == runner.world_size:
            _set_state(self._states[get_rank()])
        else:
            print_log(
                f"The checkpoint was made by {len(self._states)} processes, this run "
                f"has {runner.world_size}: the random numbers of the model begin anew",
                "current",
                logging.WARNING,
            )


def _state() -> dict:
    """The states of this process, of tensors and plain Python only."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _set_state(state: dict) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
