"""The submission file that the scorer takes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from custom.errors import InputError
from custom.evaluation.predictions import ImagePredictions
from custom.io.atomic import write_atomically


@METRICS.register_module()
class Submission(BaseMetric):
    """Write a JSON file and ``submission.zip``, which holds exactly it.

    An entry is ``{image_id, bbox, score, category_id, segmentation}``: the official id
    of the image, an xywh box in pixels, a category from 1 on, and an RLE whose
    ``counts`` is a str.

    Args:
        out_dir: Folder of the two files; ``tools/test.py`` gives a new one per call.
        file_name: Of the JSON file; the task says which.
    """

    default_prefix = "submission"

    def __init__(
        self, out_dir: str, file_name: str = "test-results.json", **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.out_dir, self.file_name = Path(out_dir), file_name

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep the entries of a batch, one list for each image."""
        self.results += [
            ImagePredictions.from_sample(sample).entries() for sample in data_samples
        ]

    def compute_metrics(self, results: list[list[dict]]) -> dict[str, float]:
        """Write the files; the metrics are the numbers of images and detections."""
        entries = [entry for image in results for entry in image]
        path = write_submission(entries, self.out_dir, self.file_name)
        print_log(f"Submission of {len(results)} images written: {path}", "current")
        return {"images": len(results), "detections": len(entries)}


def write_submission(
    entries: Sequence[dict], out_dir: str | Path, file_name: str = "test-results.json"
) -> Path:
    """Write both files atomically and return the path of the zip.

    Args:
        entries: The list that becomes the JSON file.
        out_dir: Folder of the two files.
        file_name: Of the JSON file.

    Raises:
        InputError: ``out_dir`` holds a submission already.
    """
    out_dir = Path(out_dir)
    targets = out_dir / file_name, out_dir / "submission.zip"
    for target in targets:
        if target.exists():
            raise InputError(target, "it exists already", "Choose another folder")
    text = json.dumps(list(entries))
    with write_atomically(targets[0]) as part:
        part.write_text(text)
    with write_atomically(targets[1]) as part, zipfile.ZipFile(part, "w") as archive:
        # No time of day in it: the same entries give the same bytes.
        member = zipfile.ZipInfo(file_name)
        member.external_attr = 0o644 << 16
        archive.writestr(member, text, zipfile.ZIP_DEFLATED)
    return targets[1]
