"""Find, download and check pretrained weights before training starts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier
from mmengine.runner.checkpoint import CheckpointLoader, get_external_models
from torch.hub import download_url_to_file

from custom.errors import InputError
from custom.models.weight_names import read_weights, rename_detector

# What `torchvision://` means, so that CPU machines need no torchvision. From
# torchvision/models/{resnet,convnext,efficientnet}.py, weights IMAGENET1K_V1.
_TORCHVISION = "https://download.pytorch.org/models/"
TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnext50_32x4d": "resnext50_32x4d-7cdf4587.pth",
    "resnext101_32x8d": "resnext101_32x8d-8ba56ff5.pth",
    "convnext_tiny": "convnext_tiny-983f1562.pth",
    "convnext_base": "convnext_base-6075fbad.pth",
    "efficientnet_v2_m": "efficientnet_v2_m-dc08266a.pth",
}
# Every scheme that MMEngine knows: its own loaders would read any pickle.
_SCHEMES = (
    "http://",
    "https://",
    "torchvision://",
    "modelzoo://",
    "open-mmlab://",
    "openmmlab://",
    "mmcls://",
    "pavi://",
    r"(\S+\:)?s3://",
    r"(\S+\:)?petrel://",
)
# The first digits of a file's SHA-256 at the end of its name, as torchvision and
# OpenMMLab write them; eight digits that begin with 20 are a date.
_HASH = re.compile(r"[-_](?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$")


@CheckpointLoader.register_scheme(prefixes=_SCHEMES, force=True)
def load_from_url(
    source: str, map_location: str | torch.device | None = None
) -> dict[str, object]:
    """Load weights by URL, for MMEngine; a pickle beyond weights is refused.

    Raises:
        InputError: See :func:`find_weights` and
            :func:`custom.io.checkpoint.read_checkpoint`.
    """
    url = find_weights(source)
    barrier()  # the first process of this machine has downloaded it
    # MMDetection's own tools load torchvision's and detectron2's files like this.
    return rename_detector(read_weights(_local(url), map_location))


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_file(
    path: str, map_location: str | torch.device | None = None
) -> dict[str, object]:
    """Load a local file, for MMEngine; a pickle that is more than weights is refused.

    Raises:
        InputError: See :func:`custom.io.checkpoint.read_checkpoint`.
    """
    return rename_detector(read_weights(Path(path), map_location))


def prepare_weights(cfg: Config) -> None:
    """Make sure that every weight file of a config is there and fits.

    A file is looked for in the folder that the environment variable
    ``CELL_WEIGHTS_DIR`` names, then in torch's own cache (``$TORCH_HOME/hub``), then
    downloaded there. URLs of files in the folder are replaced in ``cfg``.

    Raises:
        InputError: A file is missing and cannot be downloaded, or holds other weights
            than the model's: nothing starts from random weights by accident.
    """
    for module, init in _pretrained(cfg.model):
        init.checkpoint = find_weights(init.checkpoint)
        check_weights({**module, "init_cfg": None}, init.checkpoint, init.get("prefix"))
    if cfg.get("load_from"):
        cfg.load_from = find_weights(cfg.load_from)
        # Layers that depend on the number of classes may differ.
        check_weights(_without_init(cfg.model), cfg.load_from, None, least=0.6)


def find_weights(source: str) -> str:
    """The local file of a weight URL, or the URL once it is in torch's cache.

    Args:
        source: A path, an https URL, ``torchvision://`` or ``open-mmlab://``.

    Raises:
        InputError: The file does not exist, cannot be downloaded, or does not match the
            hash in its name.
    """
    url = _resolve(source)
    if "://" not in url:
        if not Path(url).is_file():
            raise InputError(url, "the weight file does not exist", "Check the path")
        return url
    name = Path(urlparse(url).path).name
    folder = os.environ.get("CELL_WEIGHTS_DIR")
    if folder and (Path(folder) / name).is_file():
        return str(Path(folder) / name)
    cached = _cached(url)
    # One process per machine downloads; mmengine lets the others wait for it.
    if not cached.exists() and int(os.environ.get("LOCAL_RANK", 0)) == 0:
        cached.parent.mkdir(parents=True, exist_ok=True)
        known = _HASH.search(name)
        try:
            download_url_to_file(url, str(cached), hash_prefix=known and known[1])
        except RuntimeError as error:
            raise InputError(
                url,
                f"the download does not match the hash in its name ({error})",
                "Try again; if the mismatch persists, do not use the file",
            ) from None
        except (URLError, OSError) as error:
            raise InputError(
                url,
                f"the weights cannot be downloaded ({error})",
                f"Download the file elsewhere, put it as {name} into a folder, and "
                "set CELL_WEIGHTS_DIR to that folder",
            ) from None
    return url


def _resolve(source: str) -> str:
    scheme, separator, name = source.partition("://")
    if not separator or scheme in ("http", "https"):
        return source
    if scheme == "torchvision" and name in TORCHVISION_FILES:
        return _TORCHVISION + TORCHVISION_FILES[name]
    if scheme == "open-mmlab" and name in get_external_models():
        return get_external_models()[name]
    raise InputError(
        source,
        "weights of this name are unknown",
        "Give a path, an https URL, open-mmlab://<name> of MMEngine's list, or "
        f"torchvision:// with one of {', '.join(TORCHVISION_FILES)}",
    )


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)


def _local(source: str) -> Path:
    """The local path of a file of :func:`find_weights`."""
    return _cached(source) if "://" in source else Path(source)


def check_weights(
    module_cfg: dict, source: str, prefix: str | None, least: float = 0.9
) -> None:
    """Check that a file holds a module's weights.

    Args:
        module_cfg: Config of the module.
        source: What :func:`find_weights` returned.
        prefix: Of the module's keys in the file, as in mmengine's ``Pretrained``.
        least: The share of the module's tensors that must be there in their shapes.
    """
    path = _local(source)
    if not path.exists():
        return  # another process is downloading it
    content: Any = read_weights(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InputError(
            path, "it does not hold named weights", "Use a file with a state dict"
        )
    prefix = f"{prefix.rstrip('.')}." if prefix else ""
    module = MODELS.build(ConfigDict(module_cfg))
    state = {
        k.removeprefix(prefix): v
        for k, v in rename_detector(state).items()
        if k.startswith(prefix)
    }
    if hasattr(module, "rename_weights"):
        state = module.rename_weights(state)
    wanted = module.state_dict()
    wanted = {k: v.shape for k, v in wanted.items() if "num_batches" not in k}
    fitting = sum(
        getattr(state.get(key), "shape", None) == shape for key, shape in wanted.items()
    )
    if fitting < least * len(wanted):
        raise InputError(
            path,
            f"only {fitting} of the {len(wanted)} weights of "
            f"{module_cfg['type']} are in it",
            "Use the weights of this architecture",
        )


def _pretrained(node) -> Iterator[tuple[ConfigDict, ConfigDict]]:
    """The modules of a config with ``Pretrained`` weights, and their init_cfg."""
    if isinstance(node, dict):
        init = node.get("init_cfg")
        for item in init if isinstance(init, list) else [init]:
            if isinstance(item, dict) and item.get("type") == "Pretrained":
                yield node, item
        for value in node.values():
            yield from _pretrained(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _pretrained(value)


def _without_init(cfg: ConfigDict) -> ConfigDict:
    copy = ConfigDict(cfg.to_dict())
    for module, _ in list(_pretrained(copy)):
        module["init_cfg"] = None
    return copy
