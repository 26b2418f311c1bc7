"""A stub network that is never wrong about rectangles, and a server around it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import torch
import uvicorn
from skimage.measure import label, regionprops

from custom.inference.segmenter import Segmenter
from custom.structures import RoIMasks
from custom.workbench.serve import Limits, make_app

CLASSES = ("red", "green", "<b>blue & co</b>")
# y, x, height, width, class, score.
CELLS = [
    (10, 10, 20, 30, 0, 0.9),
    (50, 10, 10, 12, 0, 0.4),
    (100, 50, 16, 16, 1, 0.8),
    (150, 200, 30, 20, 2, 0.6),
]


class RectangleNetwork:
    """Finds the rectangles of :func:`draw`.

    Attributes:
        gate: What each call waits for; open at first.
    """

    classes = CLASSES
    palette = ((255, 0, 0), (0, 160, 0), (0, 80, 255))
    tile = None
    max_value = 65_535
    mpp, channel_order = None, None

    def __init__(self) -> None:
        self.info = {}
        self.calls = self.at_once = self.most_at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Exception | None = None

    def __call__(self, tiles: list[np.ndarray]):
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.gate.wait(30)
        self.at_once -= 1
        if self.fail is not None:
            raise self.fail
        for tile in tiles:
            boxes, scores, labels = [], [], []
            for region in regionprops(label(tile.any(axis=2))):
                y1, x1, y2, x2 = region.bbox
                channel = int(tile[y1, x1].argmax())
                boxes.append([x1, y1, x2, y2])
                scores.append(int(tile[y1, x1, channel]) / 255)
                labels.append(channel)
            boxes = np.array(boxes, np.float32).reshape(-1, 4)
            masks = torch.ones(len(boxes), 28, 28)
            yield (
                boxes,
                np.array(scores),
                np.array(labels, np.int64),
                RoIMasks(masks, torch.from_numpy(boxes), tile.shape[:2], 0.5),
            )


def draw(
    rectangles: Sequence[tuple[int, int, int, int, int, float]],
    size: tuple[int, int] = (200, 300),
) -> np.ndarray:
    """An image of rectangles (y, x, height, width, class, score) on black."""
    image = np.zeros((*size, 3), np.uint8)
    for y, x, height, width, kind, score in rectangles:
        image[y : y + height, x : x + width, kind] = round(score * 255)
    return image


def as_png(image: np.ndarray) -> bytes:
    """The bytes of a PNG."""
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


@contextmanager
def serving(
    network: RectangleNetwork,
    limits: Limits,
    title: str = "stub",
    public: Sequence[str] = (),
) -> Iterator[int]:
    """A real server on a free port of the loopback, which is given."""
    segmenter = Segmenter(network, score_thr=None)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    origins = [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
    app = make_app(segmenter, title, [*origins, *public], limits)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield port
    finally:
        network.gate.set()
        server.should_exit = True
        thread.join(30)
        listening.close()
