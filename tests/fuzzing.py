"""Damage files at random and look at what the readers make of them.

Run in a process of its own, ``python -m tests.fuzzing SEED COUNT FOLDER``, because a
reader might crash the interpreter, hang or take all memory: the memory is limited, a
case of more than 20 seconds ends the process, and the case in work is in a file. Prints
the number of outcomes as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from custom.errors import InputError
from custom.formats.annotated import Source
from custom.formats.conversion import convert
from custom.formats.folders import LayoutWriter
from custom.io.image import read_image
from tests.annotation_files import RGB, SOURCES, write_png

_MEMORY = 2 << 30  # bytes beyond what the process has when it begins
_SECONDS = 20
SMOOTH = cv2.GaussianBlur(RGB, (0, 0), 3)


def _tiff(path: Path, image: np.ndarray = RGB, **kwargs) -> None:
    tifffile.imwrite(path, image, **{"photometric": "rgb", **kwargs})


#: Images alone: (suffix, writer).
IMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "tif, plain": (".tif", _tiff),
    "tif, deflate": (".tif", lambda p: _tiff(p, compression="zlib", predictor=True)),
    "tif, strips": (".tif", lambda p: _tiff(p, compression="lzw", rowsperstrip=5)),
    "tif, tiles": (".tif", lambda p: _tiff(p, compression="zstd", tile=(16, 16))),
    "tif, planar": (
        ".tif",
        lambda p: _tiff(p, RGB.transpose(2, 0, 1), planarconfig="separate"),
    ),
    "tif, big": (".tif", lambda p: _tiff(p, bigtiff=True, compression="packbits")),
    "tif, 16 bits": (".tif", lambda p: _tiff(p, RGB.astype(np.uint16) * 257)),
    "tif, jpeg": (".tif", lambda p: _tiff(p, SMOOTH, compression="jpeg")),
    "svs, jpeg 2000": (
        ".svs",
        lambda p: _tiff(p, compression=33005, tile=(16, 16), description="Aperio x"),
    ),
    "png": (".png", lambda p: write_png(p, RGB)),
    "jpeg": (".jpg", lambda p: write_png(p, SMOOTH)),
}
#: A checksum covers these: damage is found or changes nothing.
PROTECTED = ("png", "labels, png", "png-masks", "mat, deflate")


def damage(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """The kind of damage, and the damaged content."""
    kind = rng.choice(["cut", "flip", "overwrite", "remove", "insert", "random"])
    place = int(rng.integers(len(data)))
    length = int(rng.integers(1, 1 + min(64, len(data) - place)))
    noise = rng.bytes(length)
    if kind == "cut":
        data = data[:place]
    elif kind == "flip":
        data = bytearray(data)
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == "overwrite":
        data = data[:place] + noise + data[place + length :]
    elif kind == "remove":
        data = data[:place] + data[place + length :]
    elif kind == "insert":
        data = data[:place] + noise + data[place:]
    else:
        data = rng.bytes(len(data))
    return str(kind), bytes(data)


def content(source: Source) -> list:
    """All that a source holds, to compare."""
    results = []
    for item in source.items:
        one = item.read()
        image = one.read_image()
        assert image.shape == (*one.size, 3) and image.dtype == np.uint8
        results.append((item.name, image.tobytes(), sorted(one.dropped.items())))
        for name, (top, left, mask) in zip(
            one.classes, one.masks.patches(), strict=True
        ):
            assert mask.dtype == bool and mask.any() and min(top, left) >= 0
            assert top + mask.shape[0] <= one.size[0]
            assert left + mask.shape[1] <= one.size[1]
            results.append((name, top, left, mask.shape, mask.tobytes()))
    return results


def image_content(path: Path) -> list:
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    return [image.shape, image.tobytes()]


def outcome(read: Callable[[], list], whole: list) -> str:
    """What became of one case: refused, equal, different, or the wrong exception."""
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    try:
        return "equal" if read() == whole else "different"
    except InputError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()


def convert_to_layout(source: Source, out: Path) -> str:
    """Convert and look at what is there: 'whole', 'nothing', or what is wrong."""
    try:
        summary = convert(source, LayoutWriter(), out)
    except InputError:
        return "nothing" if not out.exists() else "left something"
    finally:
        images = {p.name for p in out.iterdir() if p.is_dir()} if out.exists() else {}
        shutil.rmtree(out, ignore_errors=True)
    if images != {record["name"] for record in summary.written}:
        return f"wrote {images}"
    return "whole" if images else "nothing"


def main(seed: int, count: int, folder: Path) -> None:
    """Try ``count`` damaged inputs."""
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    rng = np.random.default_rng(seed)
    folder.mkdir()
    cases = []
    for name, (suffix, write) in IMAGES.items():
        path = folder / f"image{len(cases)}{suffix}"
        write(path)
        read = partial(image_content, path)
        cases.append((name, [path], read, read(), None))
    for name, (write, find) in SOURCES.items():
        root = folder / f"source{len(cases)}"
        write(root)
        files = sorted(p for p in root.rglob("*") if p.is_file())
        read = partial(lambda find, root: content(find(root)), find, root)
        cases.append((name, files, read, read(), partial(find, root)))
    outcomes: Counter[str] = Counter()
    for number in range(count):
        name, files, read, whole, find = cases[number % len(cases)]
        path = files[rng.integers(len(files))]
        data = path.read_bytes()
        kind, damaged = damage(rng, data)
        (folder / "now").write_text(f"{number} {name} {path.name} {kind}")
        path.write_bytes(damaged)
        result = outcome(read, whole)
        if result not in ("refused", "equal", "different"):
            (folder / f"bad{number}").write_bytes(damaged)
        outcomes[f"{name} | {path.suffix} | {kind} | {result}"] += 1
        if find is not None and number % 4 == 0:
            try:
                state = convert_to_layout(find(), folder / "out")
            except InputError:
                state = "nothing"
            outcomes[f"{name} | {path.suffix} | converted | {state}"] += 1
        path.write_bytes(data)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
