"""COCO JSON as a cell data set."""

from __future__ import annotations

from pathlib import Path

from mmdet.registry import DATASETS

from custom.datasets.cell import CellDataset, ImageFiles
from custom.errors import InputError
from custom.io.json_file import COCO_REMEDY, read_coco_json
from custom.io.names import IGNORE_LABEL, image_name
from custom.transforms.loading import LoadLabelMasks


@DATASETS.register_module()
class CocoCellDataset(CellDataset):
    """Images with the polygons or RLE of a COCO JSON.

    Unlike the stock ``CocoDataset`` it is split, checked and reported as all cell data
    sets are. Entries have ``instances`` instead of ``label_files``; the ids of images
    are the file's. ``iscrowd`` marks regions to ignore.

    Args:
        ann_file: The JSON.
        data_prefix: ``dict(img=...)``, the folder that ``file_name`` starts from.
    """

    def _scan(self, folder: Path) -> dict[str, ImageFiles]:
        """The image of each name; its classes are keys without a file."""
        _, images = read_coco_json(self.ann_file)
        self._rows = {image_name(Path(row["file_name"])): row for row in images}
        if not images or len(self._rows) < len(images):
            raise InputError(
                self.ann_file,
                f"its {len(images)} images have {len(self._rows)} different names",
                "Give each image a unique id and name",
            )
        return {
            name: ImageFiles(
                folder / row["file_name"],
                {key: Path(self.ann_file) for key, _ in row["annotations"]},
            )
            for name, row in self._rows.items()
        }

    def _label_files(self, files, size) -> list:
        """None: the instances are in the JSON."""
        return []

    def _entry(self, name: str, img_id: int, files: ImageFiles) -> dict:
        """Check one image and its masks."""
        row, label_of = self._rows[name], self._label_of()
        entry = super()._entry(name, row["id"], files)
        del entry["label_files"]
        entry["instances"] = instances = []
        for key, mask in row["annotations"]:
            label = label_of[key]
            ignored = label == IGNORE_LABEL
            instance = {"mask": mask, "bbox_label": label, "ignore_flag": int(ignored)}
            instances.append(instance)
            if not ignored:
                entry["counts"][label] += 1
        size = entry["height"], entry["width"]
        listed = row.get("height"), row.get("width")
        if size != listed:
            raise InputError(
                files.image,
                f"its size (H, W) is {size}, {self.ann_file} says {listed}",
                "Check that image and annotation belong together",
            )
        try:
            LoadLabelMasks().transform(dict(entry))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                self.ann_file, f"a mask of {name} is malformed ({error!r})", COCO_REMEDY
            ) from None
        return entry

    def files(self) -> dict[str, str]:
        """The images, and the JSON as ``annotations``."""
        entries = map(self.get_data_info, range(len(self)))
        images = {f"{entry['name']}/image": entry["img_path"] for entry in entries}
        return {"annotations": self.ann_file, **images}
