"""Masks in boxes: what they have in common, and bitmaps of one bit per pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from custom.structures.label_image import find_instances
from custom.structures.rle import decode_runs, encode_runs, patch_runs

# Pixels that are handled at once; bounds the memory, not the result.
PIXELS_AT_ONCE = 1 << 19
_MASKS_AT_ONCE = 256


def chunks(sizes: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of windows whose pixels are handled at once.

    Args:
        sizes: (N, 2) int (h, w) of the windows, sorted so that neighbours are of like
            size: all windows of a chunk are padded to its tallest and widest one.
        most: Windows in a chunk.
    """
    start = tallest = widest = 0
    for i, (height, width) in enumerate(sizes.tolist()):
        tallest, widest = max(tallest, height), max(widest, width)
        count = i - start + 1
        if i > start and (count > most or tallest * widest * count > PIXELS_AT_ONCE):
            yield start, i
            start, tallest, widest = i, height, width
    if len(sizes):
        yield start, len(sizes)


class PatchMasks:
    """Base of masks that give their pixels box by box; :attr:`size` is the image's."""

    size: tuple[int, int]
    _rles: list[dict] | None = None

    def stacks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the masks in groups of like size.

        Yields:
            (n,) indices; (n, 4) windows (y1, x1, y2, x2) in the image; (n, h, w) bool
            masks, each in the upper left corner.
        """
        raise NotImplementedError

    def patches(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (y, x, (h, w) bool mask) of each instance, in order."""
        raise NotImplementedError

    def to_rle(self) -> list[dict]:
        """N COCO RLE dicts (bytes), made once however many metrics ask.

        Time and memory follow the areas of the boxes.
        """
        if self._rles is None:
            rles: list = [None] * len(self)
            for chosen, windows, masks in self.stacks():
                runs = patch_runs(masks, windows[:, :2].astype(np.int64), self.size[0])
                encoded = encode_runs(*runs, len(chosen), self.size)
                for index, rle in zip(chosen, encoded, strict=True):
                    rles[index] = rle
            self._rles = rles
        return [dict(rle) for rle in self._rles]

    def to_ndarray(self) -> np.ndarray:
        """(N, H, W) bool bitmaps, for small images and tests."""
        full = np.zeros((len(self), *self.size), bool)
        for mask, (y, x, patch) in zip(full, self.patches(), strict=True):
            mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        return full

    def __len__(self) -> int:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_masks={len(self)}, size={self.size})"


class BoxMasks(PatchMasks):
    """N masks of any resolution, each cut to its own pixels.

    The list of instances of everything outside a network: merged from tiles, read from
    a file, drawn as polygons. A mask of h x w pixels takes h·w/8 + 24 bytes whatever
    the size of the image, and masks may overlap.

    Args:
        windows: (N, 4) int32 (y1, x1, y2, x2), the rectangle that each mask's bits
            fill, inside the image.
        bits: (B,) uint8, the masks one after another, each as ``np.packbits`` of its
            (h, w) pixels.
        starts: (N,) int64, where each mask begins in ``bits``.
        size: (H, W) of the image.
    """

    def __init__(
        self,
        windows: np.ndarray,
        bits: np.ndarray,
        starts: np.ndarray,
        size: tuple[int, int],
    ) -> None:
        self.windows, self.bits, self.starts = windows, bits, starts
        self.size = (int(size[0]), int(size[1]))

    @classmethod
    def from_patches(
        cls,
        patches: Iterable[tuple[int, int, np.ndarray]],
        size: tuple[int, int],
        clip: tuple[int, int, int, int] | None = None,
    ) -> BoxMasks:
        """Gather masks.

        Args:
            patches: (y, x, (h, w) bool mask) of each, as the ``patches()`` of all mask
                types gives them.
            size: (H, W) of the image.
            clip: (y1, x1, y2, x2); pixels outside are dropped. Default: the image.
        """
        top, left, bottom, right = clip or (0, 0, *size)
        windows: list[tuple[int, int, int, int]] = []
        bits: list[np.ndarray] = []
        for y, x, patch in patches:
            dy, dx = max(top - y, 0), max(left - x, 0)
            patch = patch[dy : max(bottom - y, 0), dx : max(right - x, 0)]
            rows = np.flatnonzero(patch.any(axis=1))
            if not len(rows):
                windows.append((0, 0, 0, 0))
                bits.append(np.zeros(0, np.uint8))
                continue
            columns = np.flatnonzero(patch.any(axis=0))
            (y1, y2), (x1, x2) = rows[[0, -1]] + [0, 1], columns[[0, -1]] + [0, 1]
            bits.append(np.packbits(patch[y1:y2, x1:x2]))
            y, x = y + dy, x + dx
            windows.append((y + y1, x + x1, y + y2, x + x2))
        starts = np.cumsum([0, *map(len, bits)])[:-1]
        return cls(
            np.array(windows, np.int32).reshape(-1, 4),
            np.concatenate([np.zeros(0, np.uint8), *bits]),
            starts.astype(np.int64),
            size,
        )

    @classmethod
    def from_rles(cls, rles: Sequence[dict], size: tuple[int, int]) -> BoxMasks:
        """Decode COCO RLE; time and memory follow the columns that masks cover.

        Args:
            rles: N dicts ``{'size': [H, W], 'counts': bytes}``.
            size: (H, W) of the image.

        Raises:
            ValueError: The counts of a mask are malformed or do not fill the image.
        """
        owner, start, end = decode_runs(rles)
        bounds = np.searchsorted(owner, np.arange(len(rles) + 1)).tolist()
        height = int(size[0])

        def decode(first: int, last: int) -> tuple[int, int, np.ndarray]:
            if first == last:
                return 0, 0, np.zeros((0, 0), bool)
            left = int(start[first]) // height
            right = (int(end[last - 1]) - 1) // height + 1
            steps = np.zeros((right - left) * height + 1, np.int8)
            steps[start[first:last] - left * height] = 1
            # A run may begin where the one before it ends.
            steps[end[first:last] - left * height] -= 1
            columns = np.cumsum(steps[:-1], dtype=np.int8).reshape(-1, height)
            return 0, left, columns.T.astype(bool)

        return cls.from_patches((decode(*pair) for pair in pairwise(bounds)), size)

    @classmethod
    def from_label_image(cls, labels: np.ndarray) -> BoxMasks:
        """Gather the instances of a label image in ascending order of their ids.

        Args:
            labels: (H, W) int32, 0 is background.
        """
        ids, boxes, _ = find_instances(labels)
        patches = (
            (y1, x1, labels[y1:y2, x1:x2] == number)
            for number, (x1, y1, x2, y2) in zip(ids, boxes.astype(int), strict=True)
        )
        return cls.from_patches(patches, labels.shape)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index) -> BoxMasks:
        """Select masks, the bits are shared; an int keeps the first dimension."""
        if hasattr(index, "cpu"):
            index = index.cpu().numpy()
        if not isinstance(index, slice) and np.ndim(index) == 0:
            index = [int(index)]
        elif isinstance(index, list):
            index = np.array(index, None if index else np.int64)
        return BoxMasks(self.windows[index], self.bits, self.starts[index], self.size)

    @classmethod
    def cat(cls, masks: Sequence[BoxMasks]) -> BoxMasks:
        """Concatenate masks of one image; bits that are shared stay shared."""
        parts, offsets, end = [], {}, 0
        for item in masks:
            if id(item.bits) not in offsets:
                offsets[id(item.bits)] = end
                parts.append(item.bits)
                end += len(item.bits)
        return cls(
            np.concatenate([item.windows for item in masks]),
            parts[0] if len(parts) == 1 else np.concatenate(parts),
            np.concatenate([item.starts + offsets[id(item.bits)] for item in masks]),
            masks[0].size,
        )

    def to(self, *args, **kwargs) -> BoxMasks:
        """The same masks: they stay in host memory."""
        return self

    def patch(self, index: int) -> tuple[int, int, np.ndarray]:
        """(y, x, (h, w) bool mask) of one instance."""
        y1, x1, y2, x2 = self.windows[index].tolist()
        count, start = (y2 - y1) * (x2 - x1), int(self.starts[index])
        bits = self.bits[start : start + (count + 7) // 8]
        mask = np.unpackbits(bits, count=count).view(bool)
        return y1, x1, mask.reshape(y2 - y1, x2 - x1)

    def patches(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (y, x, (h, w) bool mask) of each instance, in order."""
        return (self.patch(index) for index in range(len(self)))

    def paint(
        self,
        order: Sequence[int] | np.ndarray | None = None,
        rows: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Lay masks into one label image.

        Args:
            order: Indices of the masks, painted one after another: the last lies on
                top. Default: all, so that later masks lie over earlier ones.
            rows: First row and one past the last; default: all.

        Returns:
            (rows, W) int32: 0 is background, mask i has the value i + 1.
        """
        top, bottom = rows or (0, self.size[0])
        labels = np.zeros((bottom - top, self.size[1]), np.int32)
        for index in range(len(self)) if order is None else order:
            y, x, mask = self.patch(int(index))
            mask = mask[max(top - y, 0) : max(bottom - y, 0)]
            y = max(y - top, 0)
            labels[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = index + 1
        return labels

    @property
    def areas(self) -> np.ndarray:
        """(N,) int64 areas in pixels."""
        extent = (self.windows[:, 2:] - self.windows[:, :2]).astype(np.int64)
        ends = self.starts + (extent.prod(axis=1) + 7) // 8
        counts = np.append(0, np.cumsum(np.bitwise_count(self.bits), dtype=np.int64))
        return counts[ends] - counts[self.starts]

    def stacks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """See :class:`PatchMasks`."""
        extent = self.windows[:, 2:] - self.windows[:, :2]
        order = np.lexsort((extent[:, 1], extent[:, 0]))
        for start, stop in chunks(extent[order], _MASKS_AT_ONCE):
            chosen = order[start:stop]
            masks = np.zeros((len(chosen), *extent[chosen].max(axis=0)), bool)
            for mask, index in zip(masks, chosen, strict=True):
                _, _, patch = self.patch(index)
                mask[: patch.shape[0], : patch.shape[1]] = patch
            yield chosen, self.windows[chosen], masks
