"""Each suspicion is raised by what it is about, and by nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from custom.structures import LabelMasks
from custom.workbench.audit.checks import KINDS, Facts, findings, inspect

CLASSES = ("class1", "class2")
NUCLEUS, TISSUE = (0.65, 0.70, 0.29), (0.15, 0.45, 0.15)


def draw(seed: int, cells: int = 12, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """An H&E-like image, and a label image of discs that do not touch."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    columns = size // 32
    for i, place in enumerate(rng.permutation(columns**2)[:cells], 1):
        center = np.array([place % columns, place // columns]) * 32 + 16
        center += rng.integers(-4, 5, 2)
        cv2.circle(labels, center.tolist(), int(rng.integers(7, 11)), i, -1)
    share = cv2.GaussianBlur((labels > 0).astype(np.float32), (0, 0), 1)[..., None]
    density = share * NUCLEUS + (1 - share) * TISSUE
    density = density + rng.normal(0, 0.02, density.shape)
    return np.clip(255 * 10**-density, 0, 255).astype(np.uint8), labels


def facts_of(
    name: str, image, *label_images, labels=None, subset: str = "train"
) -> Facts:
    masks, ids = LabelMasks.from_label_images(list(label_images))
    if labels is None:
        labels = np.repeat(np.arange(len(ids)), [len(own) for own in ids])
    return inspect(name, subset, image, masks, labels)


@pytest.fixture(scope="module")
def clean() -> list[Facts]:
    """Twelve images of six patients, three of which are for validation."""
    facts = []
    for i in range(12):
        image, labels = draw(i)
        second = np.where(labels > 6, labels, 0)
        name, subset = f"patient{i // 2}_{i % 2}", "train" if i < 6 else "val"
        facts.append(
            facts_of(name, image, np.where(labels > 6, 0, labels), second,
                     subset=subset)
        )  # fmt: skip
    return facts


def kinds(facts, patient_of=None, max_dets=100, classes=CLASSES) -> dict[str, list]:
    names = [image.name for image in facts]
    patient_of = patient_of or {name: name.split("_")[0] for name in names}
    suspicions = findings(
        facts, classes, max_dets, patient_of, dict.fromkeys(names, "x")
    )
    by_kind: dict[str, list] = {}
    for finding in suspicions:
        by_kind.setdefault(finding.kind, []).append(finding)
    return by_kind


def test_clean_images_raise_no_suspicion(clean):
    assert kinds(clean) == {}


def test_patient_in_both_halves(clean):
    facts = [*clean, facts_of("patient1_9", *draw(99), subset="val")]
    (finding,) = kinds(facts)["patient"]
    assert finding.text == "patient1: 2 train, 1 val"
    assert set(finding.images[:2]) == {"patient1_0", "patient1_9"}


def test_look_is_named_where_patients_are_not_known(clean):
    cluster_of = {image.name: image.name.split("_")[0] for image in clean}
    cluster_of["patient5_0"] = "patient0"
    finding, *others = findings(clean, CLASSES, 5, None, cluster_of)
    assert (finding.kind, finding.text) == ("look", "patient0: 2 train, 1 val")
    order = [list(KINDS).index(other.kind) for other in others]
    assert order == sorted(order) and order


@pytest.mark.parametrize("way", range(12))
def test_near_duplicate_is_found_however_it_is_turned(clean, way):
    image, _ = draw(3)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR)
    ways = [np.rot90(image, turns) for turns in range(4)]
    ways += [np.rot90(image[:, ::-1], turns) for turns in range(4)]
    ways += [image[..., ::-1], jpeg, np.clip(image * 0.8 + 20, 0, 255)]
    ways.append(cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA))
    changed = np.ascontiguousarray(ways[way], np.uint8)
    none = np.zeros(changed.shape[:2], np.int32)
    facts = [*clean, facts_of("patient9_0", changed, none, subset="val")]
    (finding,) = kinds(facts)["duplicate"]
    assert finding.images == ("patient1_1", "patient9_0")
    assert finding.text.endswith("one in each half")


def test_image_of_one_colour_duplicates_nothing(clean):
    blank = np.full((50, 50, 3), 240, np.uint8)
    none = np.zeros((50, 50), np.int32)
    facts = [*clean, *(facts_of(f"patient0_{i}", blank, none) for i in (7, 8))]
    assert "duplicate" not in kinds(facts)


# --- colours ---


def test_images_in_the_other_order_are_named_and_many_are_counted(clean):
    drawn = [draw(50 + i) for i in range(13)]
    exchanged = [
        facts_of(f"patient0_{9 + i}", image[..., ::-1].copy(), labels)
        for i, (image, labels) in enumerate(drawn)
    ]
    (finding,) = kinds([*clean, exchanged[0]])["color order"]
    assert finding.images == ("patient0_9",)
    assert finding.text.startswith("red and blue exchanged (score -")
    (finding,) = kinds(exchanged)["color order"]
    assert finding.images == () and "13 of 13 images" in finding.text
    first, *names = kinds([*clean, *exchanged])["color order"]
    assert "13 of 25" in first.text and len(names) == 12
    assert names[0].text.startswith("true colours")


def test_an_image_of_another_stain_stands_out(clean):
    image, labels = draw(51)
    tinted = np.clip(image * [0.6, 1.0, 0.5], 0, 255).astype(np.uint8)
    suspicions = kinds([*clean, facts_of("patient0_9", tinted, labels)])["stain"]
    assert suspicions[0].images == ("patient0_9",)


# --- cells ---


def test_cell_in_pieces_and_fragment_and_giant(clean):
    image, labels = draw(60, size=320)
    labels[labels == 3] = 2  # two cells with one id
    labels[0:3, 0:3] = 77
    labels[250:, 200:] = 78
    suspicions = kinds([*clean, facts_of("patient0_9", image, labels)])
    (parts,) = suspicions["parts"]
    assert parts.text.startswith("class1, 2 pieces")
    (tiny,) = suspicions["tiny"]
    assert (tiny.text, tiny.box) == ("class1, 9 px", (0, 0, 3, 3))
    (huge,) = suspicions["huge"]
    assert huge.box == (200, 250, 320, 320)
    assert parts.images == tiny.images == huge.images == ("patient0_9",)


def test_pixels_of_two_classes(clean):
    image, labels = draw(62)
    first, second = np.zeros_like(labels), np.zeros_like(labels)
    first[10:30, 10:30], first[60:80, 60:80] = 4, 5
    second[25:45, 10:30], second[100:120, 10:30] = 4, 6
    facts = facts_of("patient0_9", image, first, second)
    (finding,) = kinds([*clean, facts])["overlap"]
    assert finding.text == "class1, 100 px with class2, 25% of the smaller"
    assert finding.box == (10, 10, 30, 30)


def test_pixels_of_cells_that_were_left_out_do_not_overlap():
    first, second = np.zeros((2, 40, 40), np.int32)
    first[0:15, 5:20], second[10:25, 5:20] = 1, 1
    masks, _ = LabelMasks.from_label_images([first, second])
    image = np.full((40, 40, 3), 200, np.uint8)
    assert inspect("a", "train", image, masks[[0]], np.zeros(1, int)).overlaps == []
    both = inspect("a", "train", image, masks, np.arange(2))
    assert both.overlaps == [[0, 1, 75]] and both.at_border.tolist() == [True, False]


# --- images ---


def test_small_crowded_and_empty_images_and_absent_classes(clean):
    image, labels = draw(70, size=320, cells=30)
    none = np.zeros_like(labels)
    facts = [
        *clean,
        facts_of("patient0_7", image, labels),
        facts_of("patient0_8", image[::-1, :160].copy(), none[:, :160]),
        facts_of("patient0_9", image[:63].copy(), labels[:63]),
    ]
    suspicions = kinds(facts, max_dets=29)
    assert [f.text for f in suspicions["crowded"]] == [
        "30 cells, at most 29 detections"
    ]
    assert [f.images for f in suspicions["no cells"]] == [("patient0_8",)]
    assert [f.text for f in suspicions["small image"]] == ["320x63 px"]
    only_first = [image for image in clean if image.subset == "train"]
    for image in only_first:
        assert "absent class" not in kinds([image])
    alone = facts_of("patient0_6", *draw(71))
    assert [f.text for f in kinds([alone])["absent class"]] == [
        "class2 is not in train"
    ]
