"""A loop of epochs that resumes in the middle of one."""

from __future__ import annotations

from itertools import islice

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop

from custom.errors import InputError

# In the message hub, and so in the checkpoint, while an epoch runs.
BATCHES_DONE = "batches_done"


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """:class:`mmengine.runner.EpochBasedTrainLoop` that goes on within an epoch.

    Checkpoints that are made in the middle of an epoch say how many batches of it are
    done. When the run resumes, these are loaded once more and left out; what chance
    does to the others does not depend on them, see
    :class:`custom.datasets.SeededDataset`.
    """

    def run_epoch(self) -> None:
        """The epoch, or the rest of it."""
        hub, length = self.runner.message_hub, len(self.dataloader)
        done = self._batches_done()
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, data_batch in islice(enumerate(self.dataloader), done, None):
            hub.update_info(BATCHES_DONE, (idx + 1, length))
            self.run_iter(idx, data_batch)
        hub.pop_info(BATCHES_DONE, None)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _batches_done(self) -> int:
        """What the checkpoint says from which the run resumes; 0 between epochs.

        Raises:
            InputError: The epoch had another number of batches then.
        """
        length = len(self.dataloader)
        done, before = self.runner.message_hub.get_info(BATCHES_DONE, (0, length))
        if before != length:
            raise InputError(
                self.runner.work_dir,
                f"the checkpoint was made after {done} of {before} batches of an epoch "
                f"that has {length} now",
                "Resume with the same data, batch size and number of processes, or "
                "from a checkpoint between two epochs (--resume PATH)",
            )
        return done
