"""Weights of torchvision and detectron2 under MMDetection's names."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from custom.errors import InputError
from custom.io.checkpoint import read_checkpoint


def _less(by: int, template: str) -> Callable[[re.Match], str]:
    """A replacement that puts the matched number, less ``by``, into a template."""
    return lambda match: template.format(int(match[1]) - by)


_MASK_CONV = _less(1, "roi_head.mask_head.convs.{}.conv.")


# Beginnings of names and what MMDetection calls them. torchvision: mask_rcnn.py and the
# modules that it builds (torchvision/models/detection), v2's, and before 0.13 the
# first's, whose published file has fewer numbers in its names.
_TORCHVISION = (
    (r"backbone\.body\.", "backbone."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.", r"neck.lateral_convs.\1.bn."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(0\.)?", r"neck.lateral_convs.\1.conv."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.", r"neck.fpn_convs.\1.bn."),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(0\.)?", r"neck.fpn_convs.\1.conv."),
    (r"rpn\.head\.conv\.(\d)\.0\.", r"rpn_head.rpn_conv.\1.conv."),
    (r"rpn\.head\.conv\.", "rpn_head.rpn_conv."),
    (r"rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (
        r"roi_heads\.box_head\.fc(\d)\.",
        _less(6, "roi_head.bbox_head.shared_fcs.{}."),
    ),
    (r"roi_heads\.box_head\.5\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"roi_heads\.box_head\.(\d)\.0\.", r"roi_head.bbox_head.shared_convs.\1.conv."),
    (r"roi_heads\.box_head\.(\d)\.1\.", r"roi_head.bbox_head.shared_convs.\1.bn."),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.", _MASK_CONV),
    (r"roi_heads\.mask_head\.(\d)\.0\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"roi_heads\.mask_head\.(\d)\.1\.", r"roi_head.mask_head.convs.\1.bn."),
)
# detectron2: backbone/{resnet,fpn}.py, proposal_generator/rpn.py and roi_heads of its
# modeling folder; first the stages, then what is inside a block.
_DETECTRON2 = (
    (r"backbone\.(bottom_up\.)?stem\.conv1\.norm\.", "backbone.bn1."),
    (r"backbone\.(bottom_up\.)?stem\.conv1\.", "backbone.conv1."),
    (r"backbone\.(?:bottom_up\.)?res(\d)\.", _less(1, "backbone.layer{}.")),
    (r"roi_heads\.res5\.", "roi_head.shared_head.layer4."),
    (r"backbone\.fpn_lateral(\d)\.", _less(2, "neck.lateral_convs.{}.conv.")),
    (r"backbone\.fpn_output(\d)\.", _less(2, "neck.fpn_convs.{}.conv.")),
    (r"proposal_generator\.rpn_head\.conv\.", "rpn_head.rpn_conv."),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", "rpn_head.rpn_cls."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", "rpn_head.rpn_reg."),
    (r"roi_heads\.box_head\.fc(\d)\.", _less(1, "roi_head.bbox_head.shared_fcs.{}.")),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.", _MASK_CONV),
    (r"roi_heads\.mask_head\.deconv\.", "roi_head.mask_head.upsample."),
)
_DETECTRON2_BLOCK = (
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
)
# A weight by which each library is recognised, its names, and the beginnings of what is
# left out: layers of other classes, which are initialised for the new ones, as the
# users of these weights do, and constants.
_LIBRARIES = {
    "torchvision": (
        "backbone.body.conv1.weight",
        _TORCHVISION,
        ("roi_heads.box_predictor.", "roi_heads.mask_predictor."),
    ),
    "detectron2": (
        "proposal_generator.rpn_head.conv.weight",
        _DETECTRON2,
        (
            "roi_heads.box_predictor.",
            "roi_heads.mask_head.predictor.",
            "proposal_generator.anchor_generator.",
            "pixel_mean",
            "pixel_std",
        ),
    ),
}


def rename_detector(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a Mask R-CNN of torchvision or detectron2, for MMDetection's.

    torchvision's ``maskrcnn_resnet50_fpn`` and ``_v2``, detectron2's C4, DC5 and FPN.
    The layers that depend on the number of classes are left out.

    Args:
        state: A state dict; one of another library is returned as it is.

    Raises:
        InputError: A name that these models lack.
    """
    library = next((k for k, (mark, *_) in _LIBRARIES.items() if mark in state), None)
    if library is None:
        return state
    _, names, left_out = _LIBRARIES[library]
    return {
        _new_name(name, names, library): value
        for name, value in state.items()
        if not name.startswith(left_out)
    }


def _new_name(name: str, names: tuple, library: str) -> str:
    for pattern, replacement in names:
        new, matches = re.subn(f"^{pattern}", replacement, name)
        if matches:
            for inner, replacement in _DETECTRON2_BLOCK:
                new = re.sub(inner, replacement, new)
            return new
    raise InputError(
        name,
        f"{library}'s Mask R-CNN with R50 or R101 has no such weight",
        f"Use a file of one of {library}'s models that configs/reproductions names",
    )


# Parts of a ConvNeXt block (torchvision/models/convnext.py, CNBlock).
_BLOCK = {
    "layer_scale": "gamma",
    "block.0": "depthwise_conv",
    "block.2": "norm",
    "block.3": "pointwise_conv1",
    "block.5": "pointwise_conv2",
}


def rename_convnext(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's ConvNeXt for :class:`custom.models.ConvNeXt`.

    ``features`` are the stem, the first stage, a downsampling, the second stage, and so
    on. The classifier is left out.

    Args:
        state: A state dict; one of other names is returned as it is.
    """
    if "features.0.0.weight" not in state:
        return state
    renamed = {}
    for name, value in state.items():
        if not name.startswith("features."):
            continue
        number, rest = name.removeprefix("features.").split(".", 1)
        stage, is_stage = divmod(int(number), 2)
        if is_stage:
            block, rest = rest.split(".", 1)
            part = next(part for part in _BLOCK if rest.startswith(part))
            rest = rest.replace(part, _BLOCK[part], 1)
            if part == "layer_scale":
                value = value.flatten()  # (C, 1, 1)
            renamed[f"stages.{stage}.{block}.{rest}"] = value
        else:
            renamed[f"downsample_layers.{stage}.{rest}"] = value
    return renamed


def read_weights(
    path: str | Path, map_location: str | torch.device | None = None
) -> dict[str, object]:
    """A file of PyTorch, or one of detectron2's model zoo (``.pkl``).

    Raises:
        InputError: See :func:`custom.io.checkpoint.read_checkpoint`; also a pickle that
            holds anything but named arrays; it is not executed.
    """
    path = Path(path)
    if path.suffix != ".pkl":
        return read_checkpoint(path, map_location)
    remedy = "Download it again from detectron2's model zoo"
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        return {
            name: torch.as_tensor(np.array(value), device=map_location)
            for name, value in content["model"].items()
        }
    except Exception as error:  # a damaged pickle can end in any
        reason = f"it does not hold named arrays ({error})"
        raise InputError(path, reason, remedy) from None


class _ArrayUnpickler(pickle.Unpickler):
    """A reader of pickles that hold arrays, numbers, names and nothing else."""

    # By name, because the module that they are in has another name in NumPy 2.
    _ALLOWED = {  # noqa: RUF012
        "_reconstruct": np.zeros(1).__reduce__()[0],
        "scalar": np.float32(0).__reduce__()[0],
        "ndarray": np.ndarray,
        "dtype": np.dtype,
        "OrderedDict": OrderedDict,
        "encode": str.encode,
    }

    def find_class(self, module: str, name: str) -> object:
        """The class or function of a name."""
        known = module.split(".")[0] in ("numpy", "collections", "_codecs")
        if known and name in self._ALLOWED:
            return self._ALLOWED[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")
