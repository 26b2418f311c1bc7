"""Damaged and malicious files: a clear error, in bounded memory and time."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from custom.errors import InputError
from custom.formats import annotated
from custom.formats.aperio_xml import read_monusac
from custom.formats.arrays import open_array
from custom.formats.coco import find_coco
from custom.formats.folders import read_layout
from custom.formats.geojson import read_geojson
from custom.io.image import (
    MAX_PIXELS,
    check_labels,
    image_size,
    read_image,
    read_labels,
)
from custom.io.json_file import read_json
from tests import annotation_files
from tests.annotation_files import RGB, SIZE, image_scope
from tests.fuzzing import PROTECTED

COUNT = 2700


@pytest.mark.slow
def test_no_damaged_file_hangs_crashes_or_is_half_converted(repo, tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", "0", str(COUNT), tmp_path / "files"],
        cwd=repo,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    case = (tmp_path / "files" / "now").read_text()
    assert process.returncode == 0, f"{case}\n{process.stderr[-2000:]}"
    outcomes = json.loads(process.stdout.splitlines()[-1])
    read, converted = Counter(), Counter()
    wrong = []
    for key, number in outcomes.items():
        name, _, kind, result = key.split(" | ", 3)
        if kind == "converted":
            converted[result] += number
            continue
        read[result] += number
        # What is cut off or random never passes. Changed bytes can, where the format
        # has no checksum: a pixel or a digit that is another one.
        silent = result == "different" and (
            kind in ("cut", "random") or name in PROTECTED
        )
        if silent or result not in ("refused", "equal", "different"):
            wrong.append((key, number))
    print(dict(read), dict(converted))
    assert not wrong
    assert sum(read.values()) == COUNT and read["refused"] > COUNT / 2
    assert set(converted) == {"whole", "nothing"}


# --- bombs: small files that ask for much ---


def limited(read, *args) -> str:
    """Read in a process that may take 256 MiB and 30 seconds; the InputError's text."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + (1 << 28)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        try:
            result = read(*args)
            theirs.send(("read", repr(result)[:100]))
        except InputError as error:
            theirs.send(("InputError", str(error)))
        except BaseException as error:
            theirs.send((type(error).__name__, str(error)))

    process = context.Process(target=child)
    process.start()
    theirs.close()
    try:
        assert ours.poll(30), "it hangs"
        kind, text = ours.recv()  # EOFError: the interpreter crashed
    finally:
        process.kill()
        process.join()
    assert kind == "InputError", (kind, text)
    assert str(args[0]) in text or str(Path(args[0]).parent) in text
    assert "memory" not in text.lower(), text  # refused before it was tried
    return text


def tiff_with(path: Path, **tags: int) -> Path:
    """A small deflated TIFF whose header says something else."""
    tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in tags.items():
            file.pages[0].tags[name].overwrite(value)
    return path


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImageWidth": 10**5, "ImageLength": 10**5}, "pixels are more than"),
        ({"ImageWidth": 0}, ""),
        ({"ImageLength": 0}, ""),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_labels, image_size])
def test_tiff_that_declares_ten_billion_pixels_or_none(tmp_path, read, tags, reason):
    assert reason in limited(read, tiff_with(tmp_path / "a.tif", **tags))


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_strip_that_inflates_to_gigabytes(tmp_path, codec):
    path = tmp_path / "a.tif"
    chunk = zlib.compressobj(1)
    if codec == "zlib":
        bomb = b"".join(chunk.compress(bytes(1 << 24)) for _ in range(32))
        bomb += chunk.flush()
    else:
        bomb = imagecodecs.zstd_encode(bytes(1 << 29), level=1)
    labels = np.zeros((10, 10), np.uint16)
    tifffile.imwrite(path, labels, compression=codec)
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[0]
        page.tags["StripOffsets"].overwrite(path.stat().st_size)
        page.tags["StripByteCounts"].overwrite(len(bomb))
    with path.open("ab") as file:
        file.write(bomb)
    limited(read_labels, path)


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (60_000, "Image size (3600000000 pixels)"),
        (9000, "a part of it declares (9000, 9000)"),
    ],
)
def test_tile_that_declares_more_than_its_page(tmp_path, side, reason):
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, RGB, photometric="rgb", compression=33005, tile=(32, 32))
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\x4f\xff\x51") + 8  # the sizes of its header, SIZ
    data[start : start + 8] = struct.pack(">II", side, side)
    path.write_bytes(data)
    assert reason in limited(read_image, path)


def test_png_that_declares_a_billion_pixels(tmp_path):
    path = tmp_path / "a.png"
    annotation_files.write_png(path, RGB)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 40_000, 40_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert f"more than {MAX_PIXELS} pixels" in limited(read_image, path)


def test_array_that_declares_more_than_its_file(tmp_path):
    path = tmp_path / "a.npy"
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    limited(open_array, path)


def test_array_of_objects_is_not_unpickled(tmp_path):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    path = tmp_path / "a.npy"
    np.save(path, np.array([Harm()]), allow_pickle=True)
    for _ in range(2):
        with pytest.raises(InputError, match="not an array of numbers"):
            open_array(path)
        path.write_bytes(pickle.dumps(Harm()))
    assert not (tmp_path / "harm").exists()


ENTITIES = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (image_scope({"&m;": []}, ENTITIES + "]>"), "declares a type or entities"),
        (
            image_scope(
                {"&a;": []}, '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
            ),
            "declares a type or entities",
        ),
        (
            image_scope({"x": []}, '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">'),
            "declares a type or entities",
        ),
        (image_scope({"&undefined;": []}), "not XML"),
        ("<Annotations>" + "<a>" * 100_000, "not XML"),
        ("<svg></svg>", "not <Annotations>"),
        ("", "not XML"),
        (image_scope({"Epithelial": [[("nan", 1), (1, 1), (2, 1)]]}), "a vertex is"),
        (image_scope({"Epithelial": [[("1e999", 1)]]}), "a vertex is"),
        (image_scope({"Epithelial": [[("1_0x", 1)]]}), "a vertex is"),
        (image_scope({"Epithelial": [[(1, 1), (2, 2)]]}), "none of its 1 regions"),
        (image_scope({"Epithelial": [[(900, 1), (2, 2), (1, 5)]]}), "none of its 1"),
        (
            image_scope(
                {"Epithelial": [[(0, 0), (31, 0), (31, 24), (0, 24)]] * 24_000}
            ),
            "too many or too large",
        ),
    ],
    ids=map(str, range(13)),
)
def test_tricks_in_xml(tmp_path, monkeypatch, text, reason):
    monkeypatch.setattr(annotated, "_COVER_FLOOR", 1 << 18)
    annotation_files.monusac(tmp_path)
    path = tmp_path / "a_1.xml"
    path.write_text(text)
    assert reason in limited(read_monusac, path, tmp_path / "a_1.tif")


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a": NaN}', "1" * 10**5, "", '["\ud800'],
    ids=["nested", "nan", "number", "empty", "surrogate"],
)
def test_tricks_in_json(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    limited(read_json, path)


def read_coco(path: Path):
    return find_coco(path).items[0].read()


def coco_with(folder: Path, segmentation: object, **image: object) -> Path:
    annotation_files.coco(folder)
    path = folder / "coco.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["segmentation"] = segmentation
    data["images"][0].update(image)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    "image",
    [
        {"file_name": "../a.png"},
        {"file_name": "/etc/passwd"},
        {"file_name": 3},
        {"id": "5"},
        {"id": 6},
        {"height": 25},
    ],
)
def test_tricks_in_coco_images(tmp_path, image):
    limited(read_coco, coco_with(tmp_path, [[1, 2, 9, 2, 9, 9]], **image))


@pytest.mark.parametrize(
    "segmentation",
    [
        # pycocotools itself writes where these lead.
        {"size": list(SIZE), "counts": [0, 10**9]},
        {"size": list(SIZE), "counts": [-5, 10, 739]},
        {"size": list(SIZE), "counts": [0.5, 743.5]},
        {"size": list(SIZE), "counts": [1] * 10**5},
        {"size": list(SIZE), "counts": "o" * 1000},
        {"size": list(SIZE), "counts": "0" * 10**5},
        {"size": list(SIZE), "counts": "\x00~"},
        {"size": list(SIZE), "counts": "é"},
        {"size": [10**6, 10**6], "counts": "0"},
        {"size": "ab", "counts": "0"},
        {"counts": "0"},
        [[1, 2, 3, 4, 1e300, 5]],
        [[1, 2, 3]],
        [[1, 2, 3, 4]],
        [["a", 1, 2, 3, 4, 5]],
        [3, 4, 5],
        "text",
    ],
    ids=map(str, range(17)),
)
def test_tricks_in_coco_masks(tmp_path, segmentation):
    limited(read_coco, coco_with(tmp_path, segmentation))


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 0], [0, 1]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0]]]},
        {"type": "Polygon", "coordinates": [["ab", "cd", "ef"]]},
        {"type": "Polygon", "coordinates": [[[0], [1], [2]]]},
        {"type": "Polygon", "coordinates": 5},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon"},
        {"type": "MultiPolygon", "coordinates": [[[0, 0], [1, 1], [2, 0]]]},
        {"type": ["Polygon"]},
        {"type": "Point", "coordinates": [3, 4]},
        None,
        7,
    ],
)
def test_tricks_in_geojson(tmp_path, geometry):
    annotation_files.geojson(tmp_path)
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    limited(read_geojson, path, tmp_path / "a.png")


def test_a_hundred_thousand_ids(tmp_path):
    path, image = tmp_path / "class1.tif", tmp_path / "image.tif"
    labels = np.arange(1, 102_401, dtype=np.uint32).reshape(320, 320)
    tifffile.imwrite(path, labels, compression="zlib")
    tifffile.imwrite(image, np.zeros((320, 320, 3), np.uint8), photometric="rgb")
    begin = time.monotonic()
    with pytest.raises(InputError, match="102400 instances or more, too many"):
        read_layout(image, [path])
    with pytest.raises(InputError, match="102400 different ids"):
        check_labels(path, (320, 320))
    assert time.monotonic() - begin < 60  # it must not be quadratic


def test_a_jpeg_that_is_cut_is_not_filled_with_gray(tmp_path):
    path = tmp_path / "a.jpg"
    annotation_files.write_png(path, np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError):
            read_image(path)


def test_a_tiff_that_lacks_a_strip_is_not_filled_with_zeros(tmp_path):
    path = tmp_path / "a.tif"
    labels = np.arange(400, dtype=np.uint16).reshape(20, 20)
    tifffile.imwrite(path, labels, compression="zlib", rowsperstrip=5)
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = [*file.pages[0].databytecounts]
        counts[2] = 0
        file.pages[0].tags["StripByteCounts"].overwrite(counts)
    with pytest.raises(InputError, match="3 of its 4 parts"):
        read_labels(path)
