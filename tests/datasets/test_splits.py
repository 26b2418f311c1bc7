"""Splits: what each rule promises, the file, and the command."""

from __future__ import annotations

import json
from collections import Counter
from itertools import compress

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from custom.datasets import CellDataset
from custom.datasets.splits import (
    Split,
    find_split,
    make_split,
    patients_from_csv,
)
from custom.errors import InputError
from tests.nuclei_data import write_nuclei

many = settings(max_examples=80, deadline=None)
CLASSES = ("class1", "class2", "class3", "class4")


@st.composite
def data_sets(draw, least: int = 10, most: int = 60) -> dict[str, tuple[str, ...]]:
    """Classes of each image: the first ones common, the last rare."""
    count = draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    has = rng.random((count, 4)) < (0.6, 0.5, 0.3, 0.15)
    return {f"image{i:03}": tuple(compress(CLASSES, has[i])) for i in range(count)}


@st.composite
def patients(draw, names) -> dict[str, str]:
    """Patients with one to many images."""
    count = draw(st.integers(5, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return {name: f"patient{int(rng.random() ** 2 * count)}" for name in names}


shares = st.sampled_from([(80, 20), (90, 10), (50, 50), (7, 3), (2, 1)])
seeds = st.integers(0, 99)


def assert_partition(split: Split, names) -> None:
    assert sorted(split.train + split.val) == sorted(names)
    assert list(split.train) == sorted(split.train)
    assert list(split.val) == sorted(split.val)
    assert split.train and split.val


# --- what holds for every rule ---


@many
@given(
    data_sets(),
    st.sampled_from(["random_80-20", "stratified_70-30", "kfold_5-2"]),
    seeds,
)
def test_split_is_a_partition_and_depends_on_name_and_seed_only(data, rule, seed):
    name = f"{rule}_seed{seed}"
    split = make_split(name, data, "here")
    assert_partition(split, data)
    assert (split.name, split.seed) == (name, seed)
    assert split.rule == rule.split("_")[0]
    if rule == "random_80-20":
        assert len(split.val) == round(0.2 * len(data))
    backwards = {image: classes[::-1] for image, classes in reversed(data.items())}
    assert make_split(name, backwards, "elsewhere") == split


@pytest.mark.parametrize(
    "rule", ["random_80-20", "stratified_80-20", "grouped_80-20", "kfold_5-0"]
)
def test_other_seed_gives_another_split_and_42_is_the_default(rule):
    data = {f"TCGA-AA-{i:04}_1": ("class1", CLASSES[i % 4]) for i in range(40)}
    splits = [make_split(f"{rule}_seed{seed}", data, "here") for seed in range(8)]
    assert [split.seed for split in splits] == list(range(8))
    assert len({split.val for split in splits}) > 4
    split = make_split(rule, data, "here")
    assert split == make_split(f"{rule}_seed42", data, "here") and split.seed == 42
    assert split.val != splits[0].val
    everything = make_split("all", data, "here")
    assert everything == Split("all", "all", 0, tuple(sorted(data)), ())


# --- shares ---


@many
@given(data_sets(least=20), shares, seeds)
def test_stratified_split_keeps_each_class_near_its_share(data, share, seed):
    split = make_split(f"stratified_{share[0]}-{share[1]}_seed{seed}", data, "here")
    part = share[1] / sum(share)
    assert abs(len(split.val) - part * len(data)) <= 6
    total = Counter(c for classes in data.values() for c in classes)
    val = Counter(c for image in split.val for c in data[image])
    for c, n in total.items():
        assert abs(val[c] - part * n) <= 5, (c, n, val[c])
    if total:
        rarest = min(total, key=lambda c: (total[c], c))
        # It is dealt out first, while nothing stands in the way.
        assert abs(val[rarest] - part * total[rarest]) < 1


# --- folds ---


@many
@given(data_sets(least=25), st.integers(2, 4), seeds, st.booleans())
def test_folds_divide_the_images_and_keep_patients_together(data, count, seed, grouped):
    patient_of = {name: f"patient{i % 12}" for i, name in enumerate(sorted(data))}
    rule = "grouped-kfold" if grouped else "kfold"
    folds = [
        make_split(f"{rule}_{count}-{i}_seed{seed}", data, "here", patient_of)
        for i in range(count)
    ]
    assert sorted(name for fold in folds for name in fold.val) == sorted(data)
    total = Counter(c for classes in data.values() for c in classes)
    for fold in folds:
        assert_partition(fold, data)
        parts = ({patient_of[n] for n in part} for part in (fold.train, fold.val))
        if grouped:
            assert not set.intersection(*parts)
        else:
            val = Counter(c for image in fold.val for c in data[image])
            assert all(abs(val[c] - n / count) <= 5 for c, n in total.items())


@many
@given(st.data(), shares, seeds)
def test_grouped_split_keeps_patients_together(data, share, seed):
    images = data.draw(data_sets(least=25))
    patient_of = data.draw(patients(images))
    assume(len(set(patient_of.values())) >= 4)
    name = f"grouped_{share[0]}-{share[1]}_seed{seed}"
    wanted = len(images) * share[1] / sum(share)
    largest = max(Counter(patient_of.values()).values())
    try:
        split = make_split(name, images, "here", patient_of)
    except InputError:
        assert wanted < largest  # less than a patient for validation
        return
    assert_partition(split, images)
    train, val = ({patient_of[n] for n in part} for part in (split.train, split.val))
    assert not train & val
    assert abs(len(split.val) - wanted) <= largest + 6


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "count", "reason"),
    [
        *((name, 9, "no such split") for name in (
            "", "random", "random_80", "random_80-20_seed", "shuffled_80-20", "kfold_5",
            "stratified_80-20_seed-1", " random_80-20", "random_80-20.yaml",
        )),
        *((name, 9, "one part is empty") for name in (
            "random_0-0", "random_100-0", "stratified_0-100",
        )),
        *((name, 9, "does not exist") for name in (
            "kfold_5-5", "kfold_5-17", "kfold_0-0",
        )),
        ("random_80-20", 1, "1 images are too few"),
        ("random_99-1", 10, "10 images are too few"),
        ("kfold_1-0", 5, "5 images are too few"),
        ("kfold_5-4", 3, "3 images are too few"),
        ("grouped_80-20", 1, "1 patients are too few"),
    ],
)  # fmt: skip
def test_name_that_gives_no_split(name, count, reason):
    data = {f"TCGA-AA-{i:04}": ("class1",) for i in range(count)}
    with pytest.raises(InputError) as error:
        find_split(name, data, "the folder")
    assert reason in error.value.reason and error.value.remedy
    assert error.value.source == ("the folder" if "too few" in reason else name)


def test_grouped_split_without_patients_counts_the_names():
    names = ["TCGA-AB-0001-01Z", *(f"image{i}" for i in range(5))]
    with pytest.raises(InputError) as error:
        make_split("grouped_80-20", dict.fromkeys(names, ()), "here")
    assert "5 names carry no TCGA patient: image0, image1, image2 and 2 more" in (
        error.value.reason
    )
    assert "--patients" in error.value.remedy and "stain_80-20" in error.value.remedy


# --- the file ---


@many
@given(data_sets(), seeds)
def test_file_round_trip(tmp_path_factory, data, seed):
    folder = tmp_path_factory.getbasetemp() / "round trip" / "new"
    split = make_split(f"random_80-20_seed{seed}", data, "here")
    path = folder / "split.json"
    split.save(path)
    assert Split.load(path) == split
    assert find_split(str(path), data, "here") == split
    assert [file.name for file in folder.iterdir()] == ["split.json"]


GOOD = {"name": "x", "rule": "random", "seed": 1, "train": ["a", "b"], "val": ["c"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (json.dumps([GOOD]), "not a split"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "val"}), "'val'"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "seed"}), "'seed'"),
        (json.dumps({**GOOD, "seed": "one"}), "not a split"),
        (json.dumps({**GOOD, "train": "ab"}), "not a list of image names"),
        (json.dumps({**GOOD, "train": [["a"], "b"]}), "not a list of image names"),
        (json.dumps({**GOOD, "val": [1]}), "not a list of image names"),
        (json.dumps({**GOOD, "val": None}), "not a list of image names"),
        (json.dumps({**GOOD, "val": ["b"]}), "names images twice: b"),
        (json.dumps({**GOOD, "train": ["a", "a"]}), "names images twice: a"),
    ],
)
def test_file_that_is_no_split(tmp_path, content, reason):
    path = tmp_path / "split.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        Split.load(path)
    assert error.value.source == str(path)
    assert reason in error.value.reason
    assert "make_split.py" in error.value.remedy


def test_file_that_is_not_there_or_of_other_images(tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(InputError) as error:
        find_split(str(path), {"a": ()}, "here")
    assert error.value.source == str(path)
    path.write_text(json.dumps(GOOD))
    with pytest.raises(InputError) as error:
        find_split(str(path), {"b": (), "d": ()}, "the folder")
    assert error.value.source == "the folder"
    assert "names 2 images that are not there: a, c" in error.value.reason
    # It may leave images out.
    split = find_split(str(path), dict.fromkeys("abcdef", ()), "here")
    assert (split.train, split.val) == (("a", "b"), ("c",))


# --- patients from a file ---


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_patients_from_csv(tmp_path, mark):
    path = tmp_path / "patients.csv"
    path.write_text(f"{mark}name,age,patient\na,9,p\nb,8, q \nc,7,p\nd,6,r\n")
    assert patients_from_csv(path, ["c", "a", "b"]) == {"a": "p", "b": "q", "c": "p"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "lacks the columns"),
        ("name,patient\n", "lacks the columns"),
        ("file,patient\na,p\nb,q\n", "lacks the columns"),
        ("name,patient\na,p\n", "1 images lack a patient: b"),
        ("name,patient\na,p\nb,\n", "1 images lack a patient: b"),
        ("name,patient\na,p\nb\n", "1 images lack a patient: b"),
        ("name,patient\na,p\nb,q\na,q\n", "a has two patients, p and q"),
        ("name,patient\na,\ud8ff\n", "not a readable CSV"),
        (None, "does not exist"),
    ],
)
def test_csv_that_does_not_tell_every_patient(tmp_path, content, reason):
    path = tmp_path / "patients.csv"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as error:
        patients_from_csv(path, ["a", "b"])
    assert error.value.source == str(path)
    assert reason in error.value.reason and error.value.remedy


# --- the command ---


TOOL = "tools/data/make_split.py"


@pytest.mark.parametrize(
    ("name", "count"),
    [("random_67-33", 1), ("stratified_67-33_seed5", 1), ("all", 1), ("kfold_5", 5)],
)
def test_command_writes_the_splits_that_the_name_gives(
    run_tool, tiny_root, tmp_path, name, count
):
    out = run_tool(TOOL, tiny_root / "train", name, "--out", tmp_path / "new")
    paths = sorted((tmp_path / "new").iterdir())
    assert len(paths) == count
    for path in paths:
        split = Split.load(path)
        assert path.name == f"{split.name}.json"
        assert f"{path}: {len(split.train)} train, {len(split.val)} val" in out
        dataset = CellDataset(
            data_root=str(tiny_root), data_prefix={"img": "train"}, split=split.name
        )
        assert name == "all" or dataset.split == split


@pytest.mark.parametrize("rule", ["grouped_67-33", "grouped-kfold_3"])
def test_command_groups_by_a_csv(run_tool, tiny_root, tmp_path, rule):
    names = sorted(path.name for path in (tiny_root / "train").iterdir())
    patient_of = {name: f"p{i // 2}" for i, name in enumerate(names)}
    table = tmp_path / "patients.csv"
    rows = [f"{name},{patient}" for name, patient in patient_of.items()]
    table.write_text("\n".join(["name,patient", *rows]))
    folder, out = tiny_root / "train", tmp_path / "splits"
    run_tool(TOOL, folder, rule, "--patients", table, "--out", out)
    splits = [Split.load(path) for path in out.iterdir()]
    assert len(splits) == (3 if "kfold" in rule else 1)
    for split in splits:
        assert len({patient_of[name] for name in split.val}) == 1
        assert len(split.val) == 2


def test_command_does_not_overwrite_and_writes_no_other_fold(
    run_tool, tiny_root, tmp_path
):
    there = tmp_path / "kfold_3-1_seed42.json"
    there.write_text("mine")
    with pytest.raises(SystemExit, match=f"{there.name}: it exists already"):
        run_tool(TOOL, tiny_root / "train", "kfold_3", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there.name]
    assert there.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shuffled", "no such split"),
        ("kfold_0", "at least two folds are needed"),
        ("kfold_1", "at least two folds are needed"),
        ("kfold_7", "too few for the split kfold_7-"),
        ("grouped_80-20", "carry no TCGA patient"),
    ],
)
def test_command_says_what_is_wrong(run_tool, tiny_root, tmp_path, name, reason):
    with pytest.raises(SystemExit, match=f"^error: .*{reason}"):
        run_tool(TOOL, tiny_root / "train", name, "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_command_takes_the_data_of_a_config(run_tool, repo, tmp_path, monkeypatch):
    root = write_nuclei(tmp_path / "nuclei")
    monkeypatch.setenv("NUCLEI_DATA_ROOT", str(root))
    monkeypatch.setenv("CELL_LABEL_CACHE", str(tmp_path / "cache"))
    config = repo / "configs/demo/maskrcnn_r18-slim_nuclei.py"
    run_tool(TOOL, config, "random_60-40", "--out", tmp_path / "splits")
    (path,) = (tmp_path / "splits").iterdir()
    names = sorted(folder.name for folder in (root / "train").iterdir())
    assert sorted(Split.load(path).train + Split.load(path).val) == names


def test_command_leaves_regions_to_ignore_out_of_the_classes(
    run_tool, tiny_copy, tmp_path
):
    """Or its file would differ from the split of the same name in a config."""
    folder = tiny_copy / "train"
    for path in sorted(folder.iterdir())[:3]:
        shape = tifffile.imread(path / "image.tif").shape[:2]
        tifffile.imwrite(path / "ignore.tif", np.eye(*shape))
    name = "stratified_50-50_seed1"
    run_tool(TOOL, folder, name, "--out", tmp_path / "new")
    dataset = CellDataset(data_prefix={"img": str(folder)}, split=name)
    assert Split.load(tmp_path / "new" / f"{name}.json") == dataset.split


# Folds of a data set, or of a part of it.
