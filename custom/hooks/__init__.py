"""Hooks of the training loop."""

from .run_record_hook import RunRecordHook

__all__ = ["RunRecordHook"]
