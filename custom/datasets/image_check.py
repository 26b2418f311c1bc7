"""Check colours and brightness of a few images before training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from custom.errors import InputError
from custom.io.colours import channel_order_of
from custom.transforms.loading import LoadCellImage

_SAMPLED = 12  # images, spread over the data set
_FEWEST = 3  # images that must contradict the order
_TIMES = 4  # as many must contradict it as confirm it


def check_images(
    paths: Sequence[str], loader: LoadCellImage | None, source: str | Path
) -> None:
    """Refuse images whose colours contradict the order that their loader is told.

    Twelve images are read. At least three must be judged to have red and blue
    exchanged as they are loaded, and four times as many as are judged right. Warns if
    all of them are darker than an eighth of the range, as images of 12 bits in files of
    16 are.

    Args:
        paths: The images.
        loader: The step of the pipeline that loads them; None checks nothing.
        source: Their folder.

    Raises:
        InputError: The colours contradict ``channel_order``, unless it is None.
    """
    if loader is None or not paths:
        return
    chosen = np.unique(np.linspace(0, len(paths) - 1, _SAMPLED).round().astype(int))
    orders, brightest = {}, 0
    for path in (paths[i] for i in chosen):
        image = loader.read(path)
        brightest = max(brightest, int(image.max()))
        orders[path] = channel_order_of(image)
    if brightest < 32:
        print_log(
            f"{source}: the brightest of the 256 values in {len(orders)} images is "
            f"{brightest}. Images of 12 bits in files of 16 need max_value=4095 in "
            "LoadCellImage",
            "current",
            logging.WARNING,
        )
    wrong = {path: order for path, order in orders.items() if order.order == "bgr"}
    right = sum(order.order == "rgb" for order in orders.values())
    if (
        loader.channel_order is not None
        and len(wrong) >= _FEWEST
        and len(wrong) >= _TIMES * right
    ):
        example, order = min(wrong.items(), key=lambda item: item[1].score)
        other = "rgb" if loader.channel_order == "bgr" else "bgr"
        raise InputError(
            source,
            f"read with channel_order={loader.channel_order!r}, {len(wrong)} of the "
            f"{len(orders)} sampled images have red and blue exchanged and {right} "
            f"true colours; {example} scores {order.score:+.2f}, and H&E in true "
            "colours is above 0",
            f"Set channel_order={other!r} in LoadCellImage (for configs/cell, the "
            f"environment variable CELL_CHANNEL_ORDER={other}); for other stains than "
            "H&E, channel_order=None",
        )
