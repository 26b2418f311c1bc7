"""Instance maps with type maps: PanNuke, CoNIC, and MATLAB files like CoNSeP's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from custom.errors import InputError
from custom.formats.annotated import (
    Annotated,
    Item,
    Source,
    check_names,
    find_pairs,
)
from custom.formats.arrays import open_array
from custom.io.image import as_labels
from custom.io.names import NUCLEUS, files_below
from custom.structures.box_masks import BoxMasks

#: Channels of PanNuke's masks; a sixth is the background (Gamper et al., 2020).
PANNUKE_CLASSES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
#: Values of CoNIC's class channel, from 1 on (Graham et al., 2021).
CONIC_CLASSES = (
    "neutrophil",
    "epithelial",
    "lymphocyte",
    "plasma",
    "eosinophil",
    "connective",
)
_VARIABLES = ("inst_map", "type_map", "inst_type")
_SAVE_AGAIN = "Save it in MATLAB with -v7"


def find_instance_maps(root: Path, images: Path | None = None) -> Source:
    """The images of a folder.

    Args:
        root: Holds ``images.npy`` with ``masks.npy`` (PanNuke) or ``labels.npy``
            (CoNIC), at any depth, or ``<image>.mat`` files.
        images: Folder of the images of ``.mat`` files; None for ``root``.

    Raises:
        InputError: The folder lacks these files, or they do not fit together.
    """
    arrays = [p for p in files_below(root, (".npy",)) if p.name == "images.npy"]
    if len(arrays) > 1:
        raise InputError(
            root,
            f"it holds {len(arrays)} files images.npy",
            "Convert each fold on its own",
        )
    if arrays:
        return _find_arrays(root, arrays[0])
    return find_pairs(root, images, ".mat", _read_mat)


def _find_arrays(root: Path, images: Path) -> Source:
    masks = files_below(root, (".npy",))
    masks = [p for p in masks if p.name in ("masks.npy", "labels.npy")]
    if len(masks) != 1:
        raise InputError(
            root, "not one file masks.npy or labels.npy in it", "Check the name"
        )
    pannuke = masks[0].name == "masks.npy"
    channels = len(PANNUKE_CLASSES) + 1 if pannuke else 2
    pixels, maps = open_array(images), open_array(masks[0])
    for path, array, depth in ((images, pixels, 3), (masks[0], maps, channels)):
        if array.ndim != 4 or array.shape[3] != depth:
            raise InputError(
                path, f"its shape is {array.shape}, not (N, H, W, {depth})", "Check it"
            )
    if pixels.shape[:3] != maps.shape[:3]:
        raise InputError(
            masks[0],
            f"its shape is {maps.shape}, that of the images is {pixels.shape}",
            "They must show the same pixels",
        )
    read = _read_pannuke if pannuke else _read_conic
    items = [
        Item(
            f"{images.parent.name}_{index:05}",
            (images, masks[0]),
            None,
            partial(read, images, masks[0], index),
            index + 1,
        )
        for index in range(len(pixels))
    ]
    classes = PANNUKE_CLASSES if pannuke else CONIC_CLASSES
    return Source(root, check_names(items), classes)


def _begin(images: Path, index: int) -> Annotated:
    size = open_array(images).shape[1:3]
    return Annotated(images, size, partial(_read_array_image, images, index))


def _read_array_image(path: Path, index: int) -> np.ndarray:
    pixels = open_array(path)[index]
    image = pixels.astype(np.uint8)
    if not np.array_equal(image, pixels):
        raise InputError(
            path, f"image {index} is not of integers in 0 to 255", "Save it as uint8"
        )
    return image


def _read_pannuke(images: Path, masks: Path, index: int) -> Annotated:
    """One image of PanNuke: a channel of instances for each class."""
    annotated = _begin(images, index)
    maps = open_array(masks)[index]
    for channel, name in enumerate(PANNUKE_CLASSES):
        annotated.add_labels(name, as_labels(masks, maps[:, :, channel]))
    return annotated


def _read_conic(images: Path, labels: Path, index: int) -> Annotated:
    """One image of CoNIC: a channel of instances and one of classes."""
    annotated = _begin(images, index)
    maps = open_array(labels)[index]
    ids, types = (as_labels(labels, maps[:, :, channel]) for channel in (0, 1))
    _add_typed(annotated, labels, ids, types, ("", *CONIC_CLASSES))
    return annotated


def _read_mat(path: Path, image: Path) -> Annotated:
    """``inst_map`` and, if there, ``type_map`` or ``inst_type`` of a MATLAB file.

    The classes are ``type1``, ``type2``, ...; without types all are nuclei.
    """
    annotated = Annotated.of_file(image, image)
    variables = _load(path)
    if "inst_map" not in variables:
        raise InputError(path, "it lacks inst_map", "Is it a file of instances?")
    labels = as_labels(path, variables["inst_map"], annotated.size)
    if "type_map" in variables:
        types = as_labels(path, variables["type_map"], annotated.size)
    elif "inst_type" in variables:
        # One row for each id, in ascending order.
        rows = as_labels(path, np.atleast_2d(variables["inst_type"]))
        ids, place = np.unique(labels, return_inverse=True)
        listed = np.concatenate([np.zeros(int(0 in ids), np.int32), rows.ravel()])
        if len(listed) != len(ids):
            raise InputError(
                path,
                f"inst_type lists {rows.size} instances, inst_map has {len(ids)} ids",
                "Save both again",
            )
        types = listed[place].reshape(labels.shape)
    else:
        annotated.add_labels(NUCLEUS, labels)
        return annotated
    top = int(types.max(initial=0))
    if top > 255:
        raise InputError(path, f"a type is {top}", "Types count from 1 on")
    names = ("", *(f"type{number}" for number in range(1, top + 1)))
    _add_typed(annotated, path, labels, types, names)
    return annotated


def _add_typed(
    annotated: Annotated,
    path: Path,
    labels: np.ndarray,
    types: np.ndarray,
    names: tuple[str, ...],
) -> None:
    """Add instances, each of the type that most of its pixels have."""
    if types.max(initial=0) >= len(names):
        raise InputError(
            path, f"a type is {types.max()}, above {len(names) - 1}", "Check the maps"
        )
    masks = BoxMasks.from_label_image(labels)
    instances = []
    for index, (y1, x1, y2, x2) in enumerate(masks.windows):
        _, _, mask = masks.patch(index)
        votes = np.bincount(types[y1:y2, x1:x2][mask])
        votes[0] = 0
        if votes.any():
            instances.append((names[int(votes.argmax())], masks[index]))
        else:
            annotated.dropped["has no type"] += 1
    annotated.extend(instances)


def _load(path: Path) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file that are read here."""
    from scipy.io import loadmat  # half of the time that --help takes

    try:
        with path.open("rb") as file:
            if file.read(128)[124:] not in (b"\x00\x01IM", b"\x01\x00MI"):
                raise InputError(
                    path, "not a MATLAB file of version 5 to 7.2", _SAVE_AGAIN
                )
            file.seek(0)
            variables = loadmat(file, variable_names=_VARIABLES)
    except InputError:
        raise
    except Exception as error:  # scipy lets many types through
        raise InputError(
            path, f"not a readable MATLAB file ({error})", _SAVE_AGAIN
        ) from None
    return {k: v for k, v in variables.items() if isinstance(v, np.ndarray)}
