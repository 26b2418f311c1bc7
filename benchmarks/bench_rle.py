"""1,000 detections to RLE: paste full frames and encode them, against box by box.

Example::

    python benchmarks/bench_rle.py --root data/hw3
"""

from __future__ import annotations

from common import Case, parse_root, run_cases

# isort: split
import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures.mask import encode_mask_results
from mmengine.config import ConfigDict
from samples import entries, load_masks

from custom.models import RoIFCNMaskHead

SIZE, DETECTIONS = (1771, 1760), 1000


def cases(root) -> list[Case]:
    """One image full of detections with the shapes of real cells."""
    densest = max(entries(root), key=lambda e: sum(e["counts"]))
    masks = load_masks(densest)

    def make():
        rng = np.random.default_rng(0)
        inds = rng.integers(0, len(masks), DETECTIONS)
        boxes = torch.from_numpy(masks.boxes()[inds])
        probs = masks.roi_align(boxes, torch.from_numpy(inds), (28, 28))
        noise = torch.from_numpy(rng.normal(0, 0.1, probs.shape).astype(np.float32))
        probs = (probs * 0.9 + 0.05 + noise).clamp(0.001, 0.999)
        extent = boxes[:, 2:] - boxes[:, :2]
        room = torch.tensor(SIZE[::-1]) - extent
        corner = torch.from_numpy(rng.random((DETECTIONS, 2), np.float32)) * room
        return {
            "logits": torch.logit(probs)[:, None],
            "boxes": torch.cat([corner, corner + extent], dim=1),
            "meta": {"scale_factor": (1.0, 1.0), "ori_shape": SIZE},
            "cfg": ConfigDict(mask_thr_binary=0.5),
        }

    def side(head_type):
        head = head_type(num_classes=1, class_agnostic=True, num_convs=0)

        def run(data):
            detections = head._predict_by_feat_single(
                data["logits"],
                data["boxes"].clone(),
                torch.zeros(len(data["boxes"]), dtype=torch.long),
                data["meta"],
                data["cfg"],
                rescale=True,
            )
            if isinstance(detections, torch.Tensor):
                return encode_mask_results(detections.numpy())
            return detections.to_rle()

        return run

    return [
        Case(
            f"paste and encode, {SIZE[0]}x{SIZE[1]}",
            make,
            side(FCNMaskHead),
            side(RoIFCNMaskHead),
            DETECTIONS,
            repeats=1,
            same=lambda a, b: [r["counts"] for r in a] == [r["counts"] for r in b],
            warm_up=lambda data: {
                **data,
                "logits": data["logits"][:1],
                "boxes": data["boxes"][:1],
            },
        )
    ]


if __name__ == "__main__":
    run_cases(cases(parse_root(__doc__)))
