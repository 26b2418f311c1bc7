"""A small data set in the layout of the 2021 nuclei task."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from custom.workbench.synthetic import draw_tile


def write_nuclei(root: Path, n_train: int = 5, size: int = 96) -> Path:
    """Draw ``n_train`` training images and one test image into ``root``."""
    rng = np.random.default_rng(0)
    for number in range(n_train):
        folder = root / "train" / f"TCGA-00-{number:04}-01Z-00-DX1"
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        image, labels = draw_tile(rng, (size, size), classes=(1, 2))
        cv2.imwrite(str(folder / "images" / f"{folder.name}.png"), image[..., ::-1])
        joined = sum(labels)
        for i in range(1, joined.max() + 1):
            mask = np.where(joined == i, 255, 0).astype(np.uint8)
            cv2.imwrite(str(folder / "masks" / f"mask_{i:04}.png"), mask)
    (root / "test").mkdir()
    image, _ = draw_tile(rng, (size, size), classes=(1, 2))
    cv2.imwrite(str(root / "test" / "TCGA-99.png"), image[..., ::-1])
    row = {"file_name": "TCGA-99.png", "height": size, "width": size, "id": 7}
    (root / "test_img_ids.json").write_text(json.dumps([row]))
    return root
