import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from custom.evaluation.cell_coco_metric import coco_detections, coco_ground_truth
from custom.evaluation.matching import match_image
from tests.cell_scenes import CLASSES, make_result, random_result
from tests.dense_masks import seeds


def coco_matches(result) -> tuple[np.ndarray, np.ndarray]:
    """Matched cells, and ignored predictions, of pycocotools at IoU 0.5."""
    row = result.coco_row(1)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_ground_truth([row], CLASSES)
        truth.createIndex()
        detections = coco_detections([row], "segm")
        results = truth.loadRes(detections)
        evaluation = COCOeval(truth, results, "segm")
        evaluation.params.maxDets = [1000]
        evaluation.evaluate()
    match, ignored = np.full(len(detections), -1), np.zeros(len(detections), bool)
    for image in evaluation.evalImgs:
        if image is None or image["aRng"] != [0, 1e10]:
            continue
        for i, gt, ignore in zip(
            image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True
        ):
            ignored[i - 1] = ignore
            match[i - 1] = gt - 1 if gt and not ignore else -1
    return match, ignored


@given(seeds, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=80)
def test_matches_are_those_of_cocoeval(seed, ignored, ties):
    result = random_result(np.random.default_rng(seed), ignored)
    if ties:
        result.scores = result.scores.round(1)
    if not len(result.scores):
        return
    matches = match_image(result, 0.5)
    match, ignore = coco_matches(result)
    np.testing.assert_array_equal(matches.match, match)
    np.testing.assert_array_equal(matches.ignored, ignore)


@pytest.mark.parametrize(("width", "ignored"), [(5, True), (4, False)])
def test_half_of_the_pixels_in_ignored_regions_is_enough(width, ignored):
    """Two regions of which neither holds half of it count together."""
    regions, mask = np.zeros((10, 10), int), np.zeros((10, 10), bool)
    mask[4], regions[4, :3], regions[4, 3:width] = True, 1, 2
    result = make_result(np.zeros((10, 10)), [], [(mask, 0, 0.9)], regions)
    matches = match_image(result, 0.5)
    assert matches.ignored.tolist() == [ignored]
    assert matches.used.tolist() == [not ignored]
    assert len(matches.segments) == (not ignored)


def test_of_two_cells_with_the_same_iou_the_last_is_matched_as_in_cocoeval():
    both = np.ones((10, 10), bool)
    halves = 1 + both * (np.arange(10) > 4)
    result = make_result(halves, [0, 0], [(both, 0, 0.9)])
    assert coco_matches(result)[0].tolist() == [1]
    assert match_image(result, 0.5).match.tolist() == [1]
