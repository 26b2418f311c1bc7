"""Cached label images hold what the files hold, and only while they hold it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Manager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from custom.errors import InputError
from custom.io.label_cache import _read_entry, read_label_masks

SIZE = (40, 50)


def write(path: Path, labels: np.ndarray) -> str:
    tifffile.imwrite(path, labels.astype(np.float64), compression="lzw")
    return str(path)


@pytest.fixture
def files(tmp_path) -> list[tuple[int, str]]:
    """Two classes that overlap in one row, with gaps in the ids and ids in common."""
    first, second = np.zeros((2, *SIZE))
    first[2:9, 3:20], first[20:30, 5:9] = 3, 90_000
    second[8:15, 3:20], second[35:, 40:] = 3, 7
    return [
        (0, write(tmp_path / "class1.tif", first)),
        (2, write(tmp_path / "class3.tif", second)),
    ]


def same(found, expected) -> None:
    (masks, labels), (other, other_labels) = found, expected
    np.testing.assert_array_equal(masks.to_ndarray(), other.to_ndarray())
    np.testing.assert_array_equal(masks.boxes(), other.boxes())
    np.testing.assert_array_equal(labels, other_labels)


def test_first_and_second_reading_equal_the_files(files, tmp_path):
    plain = read_label_masks(files, SIZE)
    assert plain[1].tolist() == [0, 0, 2, 2]
    assert plain[0].areas.tolist() == [119, 40, 119, 50]
    for _ in range(2):
        same(read_label_masks(files, SIZE, str(tmp_path / "cache")), plain)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_second_reading_does_not_open_the_label_images(files, tmp_path, monkeypatch):
    cache = str(tmp_path / "cache")
    plain = read_label_masks(files, SIZE, cache)

    def fail(path):
        raise AssertionError(path)

    monkeypatch.setattr("custom.io.label_cache.read_labels", fail)
    same(read_label_masks(files, SIZE, cache), plain)


def test_a_changed_file_is_read_again(files, tmp_path):
    cache = str(tmp_path / "cache")
    read_label_masks(files, SIZE, cache)
    changed = np.zeros(SIZE)
    changed[0, :4] = 5
    write(Path(files[0][1]), changed)
    os.utime(files[0][1], ns=(1, 1))
    masks, labels = read_label_masks(files, SIZE, cache)
    assert labels.tolist() == [0, 2, 2]
    assert masks.areas[0] == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-7],
        lambda data: data[: len(data) // 2] + b"\0" + data[len(data) // 2 + 1 :],
        lambda data: b"",
        lambda data: b"something else",
    ],
    ids=["cut off", "changed byte", "empty", "other file"],
)
def test_a_damaged_entry_is_made_again(files, tmp_path, damage):
    cache = tmp_path / "cache"
    plain = read_label_masks(files, SIZE, str(cache))
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    same(read_label_masks(files, SIZE, str(cache)), plain)
    assert entry.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_only_the_speed(files, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    same(
        read_label_masks(files, SIZE, str(blocked / "cache")),
        read_label_masks(files, SIZE),
    )


def test_wrong_size_is_an_error_with_and_without_an_entry(files, tmp_path):
    cache = str(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(InputError, match="its size"):
            read_label_masks(files, (50, 40), cache)
        read_label_masks(files, SIZE, cache)


def test_missing_label_image_is_an_input_error(files, tmp_path):
    os.remove(files[1][1])
    with pytest.raises(InputError, match="does not exist"):
        read_label_masks(files, SIZE, str(tmp_path / "cache"))


def test_image_without_label_images_has_no_instances(tmp_path):
    masks, labels = read_label_masks([], SIZE, str(tmp_path / "cache"))
    assert len(masks) == len(labels) == 0
    assert (masks.height, masks.width) == SIZE


def _read(job) -> list[int]:
    files, cache = job
    return read_label_masks(files, SIZE, cache)[0].areas.tolist()


def test_several_processes_share_one_folder(files, tmp_path):
    cache = tmp_path / "cache"
    with ProcessPoolExecutor(4) as pool:
        found = list(pool.map(_read, [(files, str(cache))] * 40))
    assert found == [[119, 40, 119, 50]] * 40
    assert [p.suffix for p in cache.iterdir()] == [".labels"]


def _write_at_once(files, cache, barrier, rounds) -> bool:
    plain = read_label_masks(files, SIZE)
    whole = []
    for i in range(rounds):
        barrier.wait()
        # Each round begins without an entry, and all processes make it together.
        masks, labels = read_label_masks(files, SIZE, f"{cache}/{i}")
        whole.append(masks.to_rle() == plain[0].to_rle())
        whole.append(labels.tolist() == plain[1].tolist())
    return all(whole)


def test_processes_that_write_one_entry_at_once_leave_it_whole(files, tmp_path):
    rounds = 25
    with Manager() as manager, ProcessPoolExecutor(3) as pool:
        job = (files, str(tmp_path / "cache"), manager.Barrier(3), rounds)
        jobs = [pool.submit(_write_at_once, *job) for _ in range(3)]
        assert all(done.result(timeout=60) for done in jobs)
    for i in range(rounds):
        (entry,) = (tmp_path / "cache" / str(i)).iterdir()
        assert _read_entry(entry) is not None


def test_moving_the_data_does_not_mix_up_entries(files, tmp_path):
    cache = str(tmp_path / "cache")
    read_label_masks(files, SIZE, cache)
    other = tmp_path / "other.tif"
    shutil.copy2(files[1][1], other)
    masks, _ = read_label_masks([(1, str(other))], SIZE, cache)
    assert masks.areas.tolist() == [119, 50]


def test_every_real_region_reads_the_same_from_the_cache(hw3, tmp_path):
    cache = str(tmp_path / "cache")
    for folder in sorted((hw3 / "train").iterdir()):
        paths = sorted(folder.glob("class*.tif"))
        pairs = list(enumerate(map(str, paths)))
        size = tifffile.imread(folder / "image.tif").shape[:2]
        plain, plain_labels = read_label_masks(pairs, size)
        read_label_masks(pairs, size, cache)
        masks, labels = read_label_masks(pairs, size, cache)
        np.testing.assert_array_equal(labels, plain_labels)
        assert masks.to_rle() == plain.to_rle()
