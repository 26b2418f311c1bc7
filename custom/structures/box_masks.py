"""Final masks as bitmaps in their boxes, one bit per pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from custom.structures.rle import encode_runs, patch_runs

# Masks that are encoded at once, of like size; bounds the memory, not the result.
_MASKS_AT_ONCE = 256


class BoxMasks:
    """N masks of any resolution, each cut to its own pixels.

    For masks that are no network's patch any more: put together from tiles, or read
    from a file. A mask of h x w pixels costs h·w/8 bytes and 24 more, whatever the size
    of the image; overlapping masks are no problem.

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
        windows, bits = [], []
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

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        return f"BoxMasks(num_masks={len(self)}, size={self.size})"

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
        """Concatenate masks of one image; bits that are shared stay shared.

        :class:`mmengine.structures.InstanceData` selects by slicing and concatenating.
        """
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
        """Themselves: final masks stay in host memory."""
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

    @property
    def areas(self) -> np.ndarray:
        """(N,) int64 areas in pixels."""
        counts = [np.count_nonzero(mask) for _, _, mask in self.patches()]
        return np.array(counts, np.int64)

    def to_rle(self) -> list[dict]:
        """N COCO RLE dicts (bytes); time and memory follow the boxes' areas."""
        extent = self.windows[:, 2:] - self.windows[:, :2]
        order = np.lexsort((extent[:, 1], extent[:, 0]))
        rles: list = [None] * len(self)
        for start in range(0, len(order), _MASKS_AT_ONCE):
            chunk = order[start : start + _MASKS_AT_ONCE]
            height, width = extent[chunk].max(axis=0)
            masks = np.zeros((len(chunk), height, width), bool)
            for mask, index in zip(masks, chunk, strict=True):
                _, _, patch = self.patch(index)
                mask[: patch.shape[0], : patch.shape[1]] = patch
            runs = patch_runs(
                masks, self.windows[chunk, :2].astype(np.int64), self.size[0]
            )
            for index, rle in zip(
                chunk, encode_runs(*runs, len(chunk), self.size), strict=True
            ):
                rles[index] = rle
        return rles

    def to_ndarray(self) -> np.ndarray:
        """(N, H, W) bool bitmaps, for small images and tests."""
        full = np.zeros((len(self), *self.size), bool)
        for mask, (y, x, patch) in zip(full, self.patches(), strict=True):
            mask[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
        return full
