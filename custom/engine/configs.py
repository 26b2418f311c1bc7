"""Changes to a config that several tools make: split, data root, views, test images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from custom.datasets.splits import Split
from custom.errors import InputError

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def set_split(cfg: Config, split: str) -> None:
    """Make every labelled data set of a config use one split."""
    for name in _LOADERS:
        for dataset in labelled_datasets(cfg.get(name) or {}):
            dataset.split = split


def set_data_root(cfg: Config, given: Path | None, recorded: str | None) -> None:
    """Set the folder of every labelled data set of a run's config.

    Args:
        cfg: The config of a run.
        given: The folder, if the user names it.
        recorded: The folder at the time of the run, for configs with a relative folder
            that are read elsewhere.
    """
    for name in _LOADERS:
        for dataset in labelled_datasets(cfg.get(name) or {}):
            root = Path(dataset.data_root)
            if not root.is_dir() and recorded is not None:
                root = Path(recorded)
            dataset.data_root = str(given or root)


def labelled_datasets(loader: dict) -> list[ConfigDict]:
    """The data sets of a loader that a split divides, also those inside wrappers."""
    return [dataset for dataset in _datasets(loader) if "split" in dataset]


def _datasets(node: dict) -> Iterator[ConfigDict]:
    """The data sets of a loader, also those inside wrappers."""
    for inner in (node.get("dataset"), *(node.get("datasets") or ())):
        if inner is not None:
            yield inner
            yield from _datasets(inner)


def drop_validation(cfg: Config) -> bool:
    """Remove validation from a config if its split leaves no images for it.

    With it go the best checkpoint, early stopping and validation losses; checkpoints
    are written by their interval.

    Returns:
        Whether validation was removed: the split is ``all``, or a file without
        validation images.
    """
    if any(
        _has_validation(d.split) for d in labelled_datasets(cfg.val_dataloader or {})
    ):
        return False
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.default_hooks.checkpoint.save_best = None
    cfg.custom_hooks = [
        hook
        for hook in cfg.custom_hooks
        if hook["type"] not in ("EarlyStoppingHook", "ValidationLossHook")
    ]
    return True


def _has_validation(split: str) -> bool:
    return bool(Split.load(split).val) if split.endswith(".json") else split != "all"


def prediction_pipeline(cfg: Config) -> list[dict]:
    """The pipeline for images without labels: the validated one without its labels.

    Raises:
        InputError: The config's ``submission_dataloader`` has a pipeline that differs:
            what is submitted would not be what was validated.
    """
    pipeline = [
        step
        for step in _test_dataset(cfg).pipeline
        if step["type"] != "LoadLabelMasks" and "Annotations" not in step["type"]
    ]
    submission = (cfg.get("submission_dataloader") or {}).get("dataset", {})
    given = submission.get("pipeline", pipeline)
    # As JSON: a saved config has its tuples as lists.
    if json.dumps(given, sort_keys=True) != json.dumps(pipeline, sort_keys=True):
        steps = [step["type"] for step in given if step not in pipeline]
        raise InputError(
            "submission_dataloader.dataset.pipeline",
            f"it differs from the validated test_dataloader's ({', '.join(steps)})",
            "Remove the pipeline from submission_dataloader: it then follows "
            "test_dataloader's",
        )
    return pipeline


def set_submission(cfg: Config) -> None:
    """Test on the images to submit, with the pipeline that was validated."""
    pipeline = prediction_pipeline(cfg)
    cfg.test_dataloader = cfg.submission_dataloader
    cfg.test_dataloader.dataset.pipeline = pipeline
    cfg.test_evaluator = {**cfg.submission_evaluator, "out_dir": ""}


def _test_dataset(cfg: Config) -> ConfigDict:
    """The data set of the test loader that has the pipeline."""
    dataset = cfg.test_dataloader.dataset
    while "pipeline" not in dataset:
        dataset = dataset.dataset
    return dataset


def set_tta(cfg: Config) -> None:
    """Test with augmentation: the model becomes ``tta_model`` around itself.

    The test data take ``tta_pipeline``. A config that lacks one gets one from its test
    pipeline and ``tta_views``, see :func:`tta_pipeline`.
    """
    dataset = _test_dataset(cfg)
    if cfg.get("tta_pipeline") is None:
        cfg.tta_pipeline = tta_pipeline(dataset.pipeline, **cfg.tta_views)
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def tta_pipeline(
    pipeline: Sequence[dict], scales: Sequence[float], elements: Sequence[str]
) -> list[dict]:
    """A test pipeline that makes every view: each scale with each element.

    Args:
        pipeline: Test pipeline with one ``Resize`` and, at its end, ``PackDetInputs``.
        scales: Factors on what ``Resize`` does.
        elements: Of :class:`custom.transforms.RandomDihedral`.

    Raises:
        InputError: The pipeline does not have this form.
    """
    types = [step["type"] for step in pipeline]
    if types.count("Resize") != 1 or types[-1] != "PackDetInputs":
        raise InputError(
            "test pipeline",
            f"no views can be made of the steps {', '.join(types)}",
            "It needs one Resize, and PackDetInputs as its last step; or give the "
            "config a tta_pipeline",
        )
    at = types.index("Resize")
    views = {
        "type": "TestTimeAug",
        "transforms": [
            [_rescaled(pipeline[at], scale) for scale in scales],
            [{"type": "RandomDihedral", "elements": [name]} for name in elements],
            *([step] for step in pipeline[at + 1 : -1]),
            [{**pipeline[-1], "meta_keys": (*pipeline[-1]["meta_keys"], "dihedral")}],
        ],
    }
    return [*pipeline[:at], views]


def _rescaled(resize: dict, factor: float) -> dict:
    """A ``Resize`` to ``factor`` times the size."""
    if resize.get("scale_factor") is not None:
        return {**resize, "scale_factor": resize["scale_factor"] * factor}
    return {**resize, "scale": tuple(round(side * factor) for side in resize["scale"])}
