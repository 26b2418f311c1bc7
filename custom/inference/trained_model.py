"""Read a trained model of the Mask R-CNN family and prepare it for prediction.

This is where registries meet ``custom.inference``: a config becomes a network here, and
what :class:`custom.inference.Segmenter` gets is a function of pixels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

import custom.models  # registers
import custom.models.backbones  # registers
import custom.transforms  # noqa: F401 (registers)
from custom.datasets.splits import Split
from custom.engine.configs import prediction_pipeline, tta_pipeline
from custom.engine.runs import checkpoint_of_run, config_of_run, read_config
from custom.errors import InputError
from custom.inference.export import FORBIDDEN_KEYS, ExportedModel, load_export
from custom.inference.segmenter import TileResult
from custom.io.checkpoint import read_checkpoint
from custom.io.colours import class_palette
from custom.structures.dihedral import DIHEDRAL

# A tile is one image for a model that would cut images itself.
_ANY_SIZE = 1 << 30
# For models that say nothing of test-time augmentation; as configs/_base_/tta.py.
_VIEWS = {"scales": [1.0], "elements": list(DIHEDRAL)}
_TTA_MODEL = {"type": "MaskTTAModel"}


def read_model(
    model: str | Path,
    checkpoint: str | Path | None = None,
    options: dict[str, Any] | None = None,
) -> ExportedModel:
    """Read a trained model; no network is built yet.

    Args:
        model: A run folder, of which the config and the best checkpoint, or else the
            last, are taken; an exported file; or a config, if there is a checkpoint.
            Configs are Python code and run, exported files run nothing.
        checkpoint: The weights that belong to a config.
        options: Settings that replace the config's, as ``--cfg-options`` gives them.

    Raises:
        InputError: Something is missing or damaged, or wants to run code as it is
            loaded.
    """
    model = Path(model)
    if not model.exists():
        raise InputError(model, "the file or folder does not exist", "Check the name")
    if checkpoint is None and model.is_file():
        if model.suffix == ".py":
            raise InputError(
                model, "a config alone lacks weights", "Give the checkpoint after it"
            )
        if options:
            raise InputError(model, "it lacks a config to change", "Use the run folder")
        return load_export(model)
    if checkpoint is None:
        model, checkpoint = _config_of(model), checkpoint_of_run(model)
    try:
        config = read_config(model)
        config.merge_from_dict(options or {})
        if not {"model", "submission_dataloader"} <= config.keys():
            raise ValueError("it lacks a model or a submission_dataloader")
    except Exception as error:  # a config is a program
        raise InputError(
            model, f"it is not a config of a model ({error})", "See configs/cell"
        ) from None
    return _read_trained(config, checkpoint)


def _config_of(folder: Path) -> Path:
    """The config of a run, also of one whose logs are gone."""
    try:
        return config_of_run(folder)
    except InputError:
        configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
        if not configs:
            raise
        return configs[-1]


def _read_trained(config: Config, checkpoint: str | Path) -> ExportedModel:
    """The model for prediction, from a config and its checkpoint.

    The weights are those that a test would use: EMA weights where the run has them,
    because MMEngine's ``EMAHook`` saves them as the ``state_dict``. What loads initial
    weights stays behind.
    """
    data = read_checkpoint(checkpoint)
    if not isinstance(data, dict) or not isinstance(data.get("state_dict"), dict):
        raise InputError(
            checkpoint,
            "it is not a checkpoint of a run",
            "Give best_*.pth or iter_*.pth of a run folder",
        )
    names = (data.get("meta") or {}).get("dataset_meta") or {}
    if not names.get("classes"):
        raise InputError(
            checkpoint,
            "it does not say which classes it knows",
            "Give a checkpoint that tools/train.py has written",
        )
    classes = tuple(map(str, names["classes"]))
    palette = class_palette(len(classes), names.get("palette") or ())
    whole = config.to_dict()
    pipeline = ConfigDict(steps=prediction_pipeline(config))
    settings = {
        # ``None`` tells detectors that they do not train.
        "model": {**whole["model"], "train_cfg": None},
        "pipeline": pipeline.to_dict()["steps"],
    }
    for key in ("tta_model", "tta_views", "tta_pipeline", "mpp"):
        if whole.get(key) is not None:
            settings[key] = whole[key]
    return ExportedModel(
        _without(settings, FORBIDDEN_KEYS),
        data["state_dict"],
        classes,
        tuple(palette),
        {
            "config": str(config.filename),
            "checkpoint": str(checkpoint),
            **_origin(whole, data, Path(checkpoint)),
        },
    )


def _origin(config: dict, checkpoint: dict, path: Path) -> dict[str, Any]:
    """On which data a checkpoint was trained, and the best score that it names."""
    origin: dict[str, Any] = {}
    if root := config.get("data_root"):
        origin["data"] = Path(str(root)).name
    if (split := path.parent / "split.json").is_file():
        known = Split.load(split)
        origin["split"] = f"{known.name}: {len(known.train)} training images"
    runtime = (checkpoint.get("message_hub") or {}).get("runtime_info") or {}
    if path.name.startswith("best_") and "best_score" in runtime:
        metric = re.sub(r"^best_|_(epoch|iter)_\d+$", "", path.stem)
        origin["score"] = f"{metric} {float(runtime['best_score']):.4f}"
    history = ((checkpoint.get("message_hub") or {}).get("log_scalars") or {}).get(
        "val/coco/segm_best_F1_score"
    )
    # Of the last validation before the checkpoint: a best one is saved after its own.
    if history is not None and history.current() > 0:
        origin["score_thr"] = float(history.current())
    return origin


def _without(value: Any, keys: Set[str]) -> Any:
    """A copy of nested dicts, lists and tuples without some keys."""
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list | tuple):
        return type(value)(_without(item, keys) for item in value)
    return value


def build_network(model: ExportedModel) -> TwoStageDetector:
    """The network with its weights, on the CPU.

    Args:
        model: Its types are trusted: from a run, or checked by ``load_export``.

    Raises:
        InputError: The network, the weights and the classes do not belong together.
    """
    init_default_scope("mmdet")
    network = MODELS.build(ConfigDict(model.config["model"]))
    source = model.info.get("checkpoint", "the model")
    heads = network.roi_head.bbox_head
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    if head.num_classes != len(model.classes):
        raise InputError(
            source,
            f"it is for {len(model.classes)} classes ({', '.join(model.classes)}), the "
            f"network of the config is for {head.num_classes}",
            "Use the config that it was trained with",
        )
    try:
        network.load_state_dict(model.state_dict)
    except RuntimeError as error:
        mismatch = str(error).splitlines()[1].strip()[:200]
        raise InputError(
            source,
            f"its weights do not fit the network: {mismatch}",
            "Use the config that it was trained with",
        ) from None
    return revert_sync_batchnorm(network).eval()


class TrainedModel:
    """A network that takes tiles, see :class:`custom.inference.segmenter.Network`.

    Args:
        model: What was read; the types that it names are not checked again.
        device: Default: the GPU if there is one.
        amp: Half precision, on a GPU.
        score_thr: Of the box head, before non-maximum suppression; None: the model's.
        tta: Test-time augmentation.

    Raises:
        InputError: The weights do not fit the network, or are for other classes, the
            device does not exist, or it lacks half precision.
    """

    def __init__(
        self,
        model: ExportedModel,
        *,
        device: str | None = None,
        amp: bool = False,
        score_thr: float | None = None,
        tta: bool = False,
    ) -> None:
        self.classes, self.palette = model.classes, model.palette
        self.info = {**model.info, "digest": _digest(model)}
        settings = Config(model.config)
        self.tile: tuple[int, int] | None = None
        if "tile_size" in settings.model:
            self.tile = settings.model.tile_size, settings.model.overlap
            settings.model.update(tile_size=_ANY_SIZE, overlap=1)
        if score_thr is not None:
            settings.model.test_cfg.rcnn.score_thr = score_thr
        pipeline = settings.pipeline
        if tta:
            pipeline = settings.get("tta_pipeline") or tta_pipeline(
                pipeline, **settings.get("tta_views", _VIEWS)
            )
        load, *steps = pipeline
        self.max_value = int(load.get("max_value", 65_535))
        self.channel_order = load.get("channel_order")
        self.mpp = settings.get("mpp")
        self._device = _device(device)
        if amp and self._device.type != "cuda":
            # mmcv's suppression and RoIAlign take float32 only on a CPU.
            raise InputError("half precision", "it needs a GPU", "Predict without it")
        self._amp = amp
        network = build_network(replace(model, config=settings))
        if tta:
            network = MODELS.build(
                {**settings.get("tta_model", _TTA_MODEL), "module": network}
            )
        self._pipeline = Compose(steps)
        self._network = network.to(self._device).eval()

    @torch.no_grad()
    def __call__(self, tiles: list[np.ndarray]) -> Iterator[TileResult]:
        """Predict (h, w, 3) uint8 RGB tiles."""
        batch = []
        for tile in tiles:
            size = tile.shape[:2]
            image = np.ascontiguousarray(tile[:, :, ::-1])  # BGR, as LoadCellImage
            batch.append(
                self._pipeline({"img": image, "img_shape": size, "ori_shape": size})
            )
        with torch.autocast(self._device.type, enabled=self._amp):
            samples = self._network.test_step(pseudo_collate(batch))
        for sample in samples:
            pred = sample.pred_instances
            columns = (pred.bboxes.float(), pred.scores.float(), pred.labels)
            yield *(column.cpu().numpy() for column in columns), pred.masks


def _digest(model: ExportedModel) -> str:
    """Changes with the weights, the network, its thresholds and its pipeline."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, value in model.state_dict.items():
        flat = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(name.encode() + flat.numpy().tobytes())
    return digest.hexdigest()[:16]


def _device(name: str | None) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device {name}", f"it cannot be used ({reason})", "Use cpu, cuda or cuda:1"
        ) from None
    return device
