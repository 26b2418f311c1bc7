"""Images that are sent to the server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import PIL.Image
from starlette.exceptions import HTTPException
from starlette.requests import Request

from custom.errors import InputError
from custom.io.image import is_tiff, tiff_page
from custom.io.names import IMAGE_SUFFIXES

# The page gives the name of the file in this header, in percent-encoding. A page from
# elsewhere cannot: the browser would ask us first, and we never allow it.
NAME_HEADER = "x-file-name"
# Without a byte for so long the sender is gone.
_PATIENCE = 30.0
_MIB = 1 << 20
# Otherwise the server would go on reading what it throws away.
_HANG_UP = {"Connection": "close"}


def name_of(request: Request) -> str:
    """The name of the file that is sent, without any folder.

    Raises:
        HTTPException: It does not say (400), or is none of an image (415).
    """
    sent = unquote(request.headers.get(NAME_HEADER, ""), errors="replace")
    name = PureWindowsPath(sent).name  # takes / for a separator as well
    if not name:
        raise HTTPException(400, f"The request has no {NAME_HEADER} header.")
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise HTTPException(
            415, f"{name}: not an image. Give one of {', '.join(IMAGE_SUFFIXES)}."
        )
    return name


@asynccontextmanager
async def received(request: Request, name: str, limit: int) -> AsyncIterator[Path]:
    """A request's body as a file, which is gone after the block.

    Args:
        request: Its body is the image.
        name: Of the image; gives the suffix.
        limit: In bytes.

    Raises:
        HTTPException: There are more bytes (413), or none come any more (408).
    """
    too_large = HTTPException(
        413, f"{name}: larger than {limit / _MIB:.0f} MiB.", headers=_HANG_UP
    )
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    with tempfile.TemporaryDirectory(prefix="mmcell-") as folder:
        path = Path(folder, f"image{Path(name).suffix.lower()}")
        with path.open("wb") as file:
            size, chunks = 0, request.stream()
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(chunks), _PATIENCE)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise HTTPException(
                        408, f"{name}: the rest did not come.", headers=_HANG_UP
                    ) from None
                if (size := size + len(chunk)) > limit:
                    raise too_large
                file.write(chunk)
        yield path


def check_pixels(path: Path, limit: int) -> None:
    """Look at the size that an image declares, before anything is decoded.

    Raises:
        InputError: It is a TIFF that cannot be read, or has more pixels than the limit.
    """
    if is_tiff(path):
        with tiff_page(path) as page:
            height, width = int(page.imagelength), int(page.imagewidth)
    else:
        try:
            with PIL.Image.open(path) as image:
                width, height = image.size
        except Exception:  # who reads it says what is wrong
            return
    if height * width > limit:
        raise InputError(
            path,
            f"{height}x{width} pixels are more than {limit / 1e6:.0f} million",
            "Cut it into smaller images, or use tools/predict.py",
        )
