"""A detector that reads the truth from the pixels, in whatever view it gets them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from custom.models import TiledDetector
from custom.structures import LabelMasks, RoIMasks

SCORES = np.random.default_rng(7).permutation(256) / 256


class OracleHead:
    """Boxes and 28x28 masks of the ids in the image's first channel."""

    def __init__(self):
        nms = {"type": "nms", "iou_threshold": 0.5}
        self.test_cfg = ConfigDict(nms=nms, max_per_img=1000, mask_thr_binary=0.5)

    def _masks(self, image):
        labels = image[0].round().int().numpy()
        return LabelMasks.from_label_images([labels])

    def predict_bbox(self, images, metas, proposals, rcnn_test_cfg, rescale=False):
        detections = []
        for image, meta in zip(images, metas, strict=True):
            height, width = meta["img_shape"]
            masks, (ids,) = self._masks(image[:, :height, :width])
            detections.append(
                InstanceData(
                    bboxes=torch.from_numpy(masks.boxes()),
                    scores=torch.from_numpy(SCORES[ids]).float(),
                    labels=torch.from_numpy(ids % 3),
                )
            )
        return detections

    def predict_mask(self, images, metas, result, rescale=False):
        for image, meta, pred in zip(images, metas, result, strict=True):
            if not len(pred):
                pred.masks = torch.zeros(0, 1, 1)  # as the stock heads do
                continue
            masks, (ids,) = self._masks(image)
            # The object that the box is around has the score of the box.
            place = {float(np.float32(SCORES[i])): k for k, i in enumerate(ids)}
            inds = torch.tensor([place[float(s)] for s in pred.scores])
            probs = masks.roi_align(pred.bboxes, inds, (28, 28))
            scale = pred.bboxes.new_tensor(meta["scale_factor"]).repeat(2)
            if rescale:
                pred.bboxes = pred.bboxes / scale
            pred.masks = RoIMasks(probs, pred.bboxes, meta["ori_shape"][:2], 0.5)
        return result

    def predict(self, images, proposals, samples, rescale=True):
        metas = [sample.metainfo for sample in samples]
        detections = self.predict_bbox(images, metas, proposals, None)
        return self.predict_mask(images, metas, detections, rescale)


class OracleDetector(TiledDetector):
    """See the module; in tiles where the image is larger than ``tile_size``."""

    with_bbox = True

    def __init__(self, tile_size=10_000, overlap=1, tile_batch=1):
        BaseModel.__init__(self, DetDataPreprocessor(pad_size_divisor=8))
        self.tile_size, self.overlap, self.tile_batch = tile_size, overlap, tile_batch
        self.roi_head = OracleHead()
        self.rpn_head = SimpleNamespace(predict=lambda x, samples, rescale: None)

    def extract_feat(self, images):
        return images


def data_of(*labels, factor=1):
    """What a data loader gives for label images, each pixel ``factor`` times a side."""
    inputs, samples = [], []
    for image in labels:
        pixels = image.repeat(factor, 0).repeat(factor, 1).astype(np.uint8)
        inputs.append(torch.from_numpy(pixels)[None].repeat(3, 1, 1))
        meta = {
            "img_shape": pixels.shape,
            "ori_shape": image.shape,
            "scale_factor": (float(factor), float(factor)),
        }
        samples.append(DetDataSample(metainfo=meta))
    return {"inputs": inputs, "data_samples": samples}


def plain(data):
    """The instances without tiles and without augmentation."""
    return [s.pred_instances for s in OracleDetector().test_step(data)]


def by_score(instances):
    """The same instances, best first."""
    return instances[torch.argsort(-instances.scores, stable=True)]
