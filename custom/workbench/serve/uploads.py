"""Images that are sent to the server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from custom.errors import InputError
from custom.io.image import image_size
from custom.io.names import IMAGE_SUFFIXES

# The page gives the name of the file in this header, in percent-encoding. A page from
# elsewhere cannot: the browser would ask us first, and we never allow it.
NAME_HEADER = "x-file-name"
_MIB = 1 << 20
#: Otherwise the server would continue to read what it throws away.
HANG_UP = {"Connection": "close"}


def name_of(request: Request) -> str:
    """The name of the file that is sent, without any folder.

    Raises:
        HTTPException: The header is missing (400), or the name is not that of an image
            (415).
    """
    sent = unquote(request.headers.get(NAME_HEADER, ""), errors="replace")
    name = PureWindowsPath(sent).name  # takes / for a separator as well
    if not name:
        raise HTTPException(400, f"The request lacks the {NAME_HEADER} header.")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise HTTPException(
            415, f"{name}: not an image. Give one of {', '.join(IMAGE_SUFFIXES)}."
        )
    return name


async def receive(
    request: Request, name: str, path: Path, limit: int, seconds: float
) -> None:
    """Write a request's body into the file ``path``.

    At most ``limit`` bytes, and ``seconds`` for all of them, however they trickle in.

    Raises:
        HTTPException: There are more bytes (413), or they take longer (408).
    """
    too_large = HTTPException(
        413, f"{name}: larger than {limit / _MIB:.0f} MiB.", HANG_UP
    )
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    deadline, size, chunks = time.monotonic() + seconds, 0, request.stream()
    with path.open("wb") as file:
        while True:
            try:
                left = max(deadline - time.monotonic(), 0)
                chunk = await asyncio.wait_for(anext(chunks), left)
            except StopAsyncIteration:
                return
            except (TimeoutError, asyncio.TimeoutError):  # two types in Python 3.10
                raise HTTPException(
                    408, f"{name}: not complete after {seconds:.0f} s.", HANG_UP
                ) from None
            if (size := size + len(chunk)) > limit:
                raise too_large
            file.write(chunk)


def check_pixels(path: Path, limit: int) -> None:
    """Refuse an image by the size in its header, before pixels are decoded.

    Raises:
        InputError: The image cannot be read, or has more pixels than the limit.
    """
    height, width = image_size(path)
    if height * width > limit:
        raise InputError(
            path,
            f"{height}x{width} pixels are more than {limit / 1e6:.0f} million",
            "Cut it into smaller images, or use tools/predict.py",
        )
