"""Small files in every format that can be converted, made by the format's own library.

The scene is the same everywhere: three cells, one with a hole, and two of them touch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile
from scipy.io import savemat
from skimage.measure import find_contours

from custom.formats.annotated import Source
from custom.formats.aperio_xml import find_monusac, find_monuseg
from custom.formats.coco import find_coco
from custom.formats.folders import find_labels, find_layout, find_mask_folders
from custom.formats.geojson import find_geojson
from custom.formats.instance_maps import find_instance_maps

SIZE = 24, 31
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
LABELS = np.zeros(SIZE, np.uint16)
LABELS[2:10, 3:12] = 1
LABELS[4:6, 5:8] = 0
LABELS[10:20, 6:14] = 2
LABELS[5:14, 20:29] = 700
TYPES = np.where(LABELS == 700, 2, np.minimum(LABELS, 1)).astype(np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def outlines() -> list[list[tuple[float, float]]]:
    """(x, y) outlines of the cells, as a hand draws them; pixel centres are whole."""
    rings = []
    for number in (1, 2, 700):
        padded = np.pad(number == LABELS, 1).astype(float)
        contour = max(find_contours(padded, 0.5), key=len) - 1
        rings.append([(float(x), float(y)) for y, x in contour])
    return rings


def image_scope(layers: dict[str, list], head: str = "") -> str:
    """The text of an ImageScope file: outlines by the name of their layer."""
    text = [head, '<Annotations MicronsPerPixel="0.2510">']
    for number, (name, regions) in enumerate(layers.items(), 1):
        text.append(f'<Annotation Id="{number}" Name="" Type="4"><Attributes>')
        text.append(f'<Attribute Name="{name}" Id="0" Value=""/></Attributes><Regions>')
        text.append(
            '<RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region"/>'
        )
        text.append("</RegionAttributeHeaders>")
        for region in regions:
            text.append(
                '<Region Id="1" Type="0" NegativeROA="0"><Attributes/><Vertices>'
            )
            text += [f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in region]
            text.append("</Vertices></Region>")
        text.append("</Regions><Plots/></Annotation>")
    return "\n".join([*text, "</Annotations>"])


def layout(folder: Path, **kwargs) -> None:
    """``kwargs`` go to tifffile."""
    image = folder / "TCGA-AA-0001_1"
    image.mkdir(parents=True)
    tifffile.imwrite(image / "image.tif", RGB, photometric="rgb", **kwargs)
    for number, name in ((1, "class1"), (2, "class4")):
        labels = np.where(number == TYPES, LABELS, 0)
        labels = labels.astype(np.float64 if number == 1 else np.uint32)
        tifffile.imwrite(image / f"{name}.tif", labels, compression="lzw")


def monusac(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    first, second, third = outlines()
    text = image_scope({"Epithelial": [first, second], "Macrophage": [third]})
    (folder / "a_1.xml").write_text(text)
    tifffile.imwrite(folder / "a_1.tif", RGB, photometric="rgb", compression="lzw")


def monuseg(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.xml").write_text(image_scope({"Description": outlines()}))
    tifffile.imwrite(folder / "a.tif", RGB, photometric="rgb", compression="zlib")


def png_masks(folder: Path) -> None:
    for part in ("images", "masks"):
        (folder / "a" / part).mkdir(parents=True)
    write_png(folder / "a" / "images" / "a.png", RGB)
    for number in (1, 2, 700):
        mask = np.where(number == LABELS, 255, 0).astype(np.uint8)
        write_png(folder / "a" / "masks" / f"{number}.png", mask)


def labels(folder: Path, suffix: str = ".tif") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "a.png", RGB)
    path = folder / f"a_masks{suffix}"
    if suffix == ".npy":
        np.save(path, LABELS.astype(np.int32))
    elif suffix == ".png":
        write_png(path, LABELS)
    else:
        tifffile.imwrite(path, LABELS, compression="zlib")


def geojson(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "a.png", RGB)
    features = [
        {
            "type": "Feature",
            "id": "1",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {
                "objectType": "detection",
                "classification": {"name": name, "color": [1, 2, 3]},
                "measurements": [{"name": "Area", "value": 3.5}],
            },
        }
        for name, ring in zip(
            ("Tumor", "Tumor", "Immune cells"), outlines(), strict=True
        )
    ]
    data = {"type": "FeatureCollection", "features": features}
    (folder / "a.geojson").write_text(json.dumps(data))


def coco(folder: Path, form: str = "rle") -> None:
    """``form`` is 'rle', 'counts' (uncompressed) or 'polygons'."""
    from pycocotools import mask as coco_mask

    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "a.png", RGB)
    annotations = []
    for index, number in enumerate((1, 2, 700)):
        mask = number == LABELS
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        flat = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0))
        counts = np.diff([0, *flat.tolist(), mask.size]).tolist()
        segmentation = {
            "rle": {"size": list(SIZE), "counts": rle["counts"].decode()},
            "counts": {"size": list(SIZE), "counts": counts},
            "polygons": [np.add(outlines()[index], 0.5).ravel().tolist()],
        }[form]
        annotations.append(
            {
                "id": index + 1,
                "image_id": 5,
                "category_id": 1 + int(number == 700),
                "segmentation": segmentation,
                "bbox": coco_mask.toBbox(rle).tolist(),
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
        )
    data = {
        "images": [
            {"id": 5, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}
        ],
        "categories": [{"id": 1, "name": "class1"}, {"id": 2, "name": "class2"}],
        "annotations": annotations,
    }
    (folder / "coco.json").write_text(json.dumps(data))


def mat(folder: Path, compress: bool = True, **variables: np.ndarray) -> None:
    """A file like CoNSeP's; ``variables`` are added or take the place of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "a.png", RGB)
    content = {"inst_map": LABELS.astype(np.float64), "type_map": TYPES, **variables}
    savemat(folder / "a.mat", content, do_compression=compress)


def pannuke(folder: Path, count: int = 2) -> None:
    for part in ("images", "masks"):
        (folder / part / "fold1").mkdir(parents=True)
    masks = np.zeros((count, *SIZE, 6))
    masks[..., 0], masks[..., 4] = LABELS * (TYPES == 1), LABELS * (TYPES == 2)
    masks[..., 5] = LABELS == 0
    np.save(folder / "images" / "fold1" / "images.npy", np.stack([RGB * 1.0] * count))
    np.save(folder / "masks" / "fold1" / "masks.npy", masks)


def conic(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", RGB[None])
    np.save(folder / "labels.npy", np.dstack([LABELS, TYPES])[None].astype(np.uint16))


#: Every source, by name: how a folder is filled, and how its images are found.
SOURCES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Source]]] = {
    "layout": (layout, find_layout),
    "layout, deflate, tiles": (
        partial(layout, compression="zlib", tile=(16, 16)),
        find_layout,
    ),
    "monusac": (monusac, find_monusac),
    "monuseg": (monuseg, find_monuseg),
    "png-masks": (png_masks, find_mask_folders),
    "labels, tif": (labels, find_labels),
    "labels, npy": (partial(labels, suffix=".npy"), find_labels),
    "labels, png": (partial(labels, suffix=".png"), find_labels),
    "geojson": (geojson, find_geojson),
    "coco, rle": (coco, lambda folder: find_coco(folder / "coco.json")),
    "coco, counts": (
        partial(coco, form="counts"),
        lambda folder: find_coco(folder / "coco.json"),
    ),
    "coco, polygons": (
        partial(coco, form="polygons"),
        lambda folder: find_coco(folder / "coco.json"),
    ),
    "mat, deflate": (mat, find_instance_maps),
    "mat, plain": (partial(mat, compress=False), find_instance_maps),
    "pannuke": (pannuke, find_instance_maps),
    "conic": (conic, find_instance_maps),
}
