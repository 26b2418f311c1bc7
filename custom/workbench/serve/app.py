"""The web application: one page, one model, the latest results.

Everything that the page needs comes from here. Files of this machine are not reachable:
the only ones that are sent are those of the page, read at the start.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from custom.errors import InputError
from custom.inference.segmentation import Segmentation
from custom.inference.segmenter import Segmenter, validated_score_thr
from custom.io.pixels import ArrayPixels
from custom.workbench.report.images import jpeg, outline
from custom.workbench.report.page import TEMPLATES
from custom.workbench.report.theme import css
from custom.workbench.serve.results import KINDS, Results, make_download
from custom.workbench.serve.uploads import HANG_UP, check_pixels, name_of, receive

_STATIC = Path(__file__).with_name("static")
# The browser shows at most so many pixels along a side; contours stay exact.
_MAX_SHOWN_SIDE = 4096
# Above this, in micrometres, a pixel size is a typing error.
_MAX_MPP = 1000.0
# The client closed the connection and never reads this status.
_GONE = 499
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Limits:
    """Limits of uploads and stored results."""

    upload_bytes: int = 100 << 20  # of one image file
    upload_seconds: float = 120.0  # from the first to the last byte of a file
    uploads: int = 16  # files that are received at once
    pixels: int = 50_000_000  # of one image
    waiting: int = 4  # received images, the one that is segmented included
    results: int = 8  # images whose results are kept, pixels included
    seconds: float = 3600.0  # for how long


def make_app(
    segmenter: Segmenter, title: str, origins: Sequence[str], limits: Limits
) -> ASGIApp:
    """Make the application.

    Args:
        segmenter: With ``score_thr=None``: the page chooses.
        title: What the page calls the model.
        origins: The addresses of the page as browsers see them,
            ``http://127.0.0.1:8000`` or ``https://cells.example.org``. Requests with
            another name in their ``Host`` header are refused, because a foreign page
            could give its own name our address, and so are those of other origins.
        limits: What is taken and kept.
    """
    handlers = _Handlers(segmenter, title, origins, limits)
    app = Starlette(
        routes=[
            *_page_routes(),
            Route("/model", handlers.model),
            Route("/results", handlers.segment, methods=["POST"]),
            Route("/results/{key}/image", handlers.image),
            Route("/results/{key}/{kind}", handlers.download),
        ],
        middleware=[
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=[urlsplit(origin).hostname for origin in origins],
            ),
        ],
        exception_handlers={
            HTTPException: _answer_refusal,
            InputError: _answer_input_error,
            Exception: _answer_failure,
        },
    )
    return _with_headers(app)


def _page_routes() -> list[Route]:
    """The routes of the page's own files, which are read now."""
    styles = TEMPLATES / "style.css", TEMPLATES / "gallery.css", _STATIC / "serve.css"
    scripts = TEMPLATES / "viewer.js", _STATIC / "serve.js"
    routes = []
    for route, media, paths in (
        ("/", "text/html", [_STATIC / "index.html"]),
        ("/serve.css", "text/css", styles),
        ("/serve.js", "text/javascript", scripts),
    ):
        text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
        response = Response(text, media_type=media)
        routes.append(Route(route, response, methods=["GET"]))
    return routes


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Add the security headers to every response, also to refusals."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, sending)

    return wrapped


class _Handlers:
    """Handlers of the routes.

    One image goes through the model at a time; the others wait in the order in which
    they were received.
    """

    def __init__(
        self, segmenter: Segmenter, title: str, origins: Sequence[str], limits: Limits
    ) -> None:
        self.segmenter, self.title = segmenter, title
        self.origins, self.limits = origins, limits
        self.results = Results(limits.results, limits.seconds)
        self.turn = asyncio.Lock()
        # Counted apart: slow senders keep others from sending, not from being served.
        self.uploads = asyncio.Semaphore(limits.uploads)
        self.waiting = asyncio.Semaphore(limits.waiting)

    async def model(self, request: Request) -> Response:
        """What the page shows before there is an image."""
        classes = zip(self.segmenter.class_names, self.segmenter.palette, strict=True)
        return JSONResponse(
            {
                "title": self.title,
                "classes": [{"name": n, "colour": css(tuple(c))} for n, c in classes],
                "score": validated_score_thr(self.segmenter.info),
                "downloads": [{"kind": k, "about": text} for k, text in KINDS.items()],
                "upload_bytes": self.limits.upload_bytes,
                "pixels": self.limits.pixels,
            }
        )

    async def segment(self, request: Request) -> Response:
        """Segment the image that is the request's body."""
        origin = request.headers.get("origin")
        if origin is not None and origin not in self.origins:
            raise HTTPException(
                403,
                f"The request comes from {origin[:200]}, which is not an address of "
                "this page. Behind a proxy start tools/serve.py with --public-url.",
            )
        name, limits = name_of(request), self.limits
        try:
            with tempfile.TemporaryDirectory(prefix="mmcell-") as folder:
                path = Path(folder, f"image{Path(name).suffix.lower()}")
                _check_place(self.waiting, f"{limits.waiting} images are waiting")
                _check_place(self.uploads, f"{limits.uploads} images are being sent")
                async with self.uploads:
                    size, seconds = limits.upload_bytes, limits.upload_seconds
                    await receive(request, name, path, size, seconds)
                _check_place(self.waiting, f"{limits.waiting} images are waiting")
                async with self.waiting, self.turn:
                    if await request.is_disconnected():
                        raise ClientDisconnect
                    start = time.perf_counter()
                    result = await run_in_threadpool(self._run, path, name)
                    seconds = time.perf_counter() - start
        except ClientDisconnect:
            return Response(status_code=_GONE)
        key = self.results.add(result)
        return await run_in_threadpool(_answer_result, result, key, seconds)

    def _run(self, path: Path, name: str) -> Segmentation:
        try:
            check_pixels(path, self.limits.pixels)
            result = self.segmenter(path, name=name)
        except InputError as error:
            # The path on the server stays private.
            reason = error.reason.replace(str(path), name)
            raise InputError(name, reason, error.remedy) from None
        # The file is removed, the pixels stay; info would say where the model lies.
        pixels = ArrayPixels(result.image.read(0, 0, *result.size))
        info = {"model": self.title}
        return replace(result, image=pixels, file_name=name, info=info)

    def _result(self, request: Request) -> Segmentation:
        result = self.results.get(request.path_params["key"])
        if result is None:
            raise HTTPException(
                404, "This result is no longer kept. Segment the image again."
            )
        return result

    async def image(self, request: Request) -> Response:
        """The pixels of a result, as a JPEG."""
        result = self._result(request)
        pixels = result.image.read(0, 0, *result.size)
        data = await run_in_threadpool(jpeg, pixels, _MAX_SHOWN_SIDE, 92)
        return Response(data, media_type="image/jpeg")

    async def download(self, request: Request) -> Response:
        """A result in the form of another program, as the page shows it."""
        kind, query = request.path_params["kind"], request.query_params
        if kind not in KINDS:
            raise HTTPException(404, "This file does not exist.")
        result = self._result(request)
        try:
            score, chosen = float(query["score"]), query["classes"].split(",")
            classes = [result.class_names[int(i)] for i in chosen if i.isdecimal()]
            mpp = float(query["mpp"]) if "mpp" in query else result.mpp
            if mpp is not None and not 0 < mpp < _MAX_MPP:
                raise ValueError("not a pixel size")
        except (KeyError, ValueError, IndexError):
            raise HTTPException(
                400, "It takes score, classes and, if wanted, mpp (µm per pixel)."
            ) from None
        shown = replace(result, mpp=mpp).above(score).of_classes(classes)
        name, data = await run_in_threadpool(make_download, kind, shown)
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def _check_place(places: asyncio.Semaphore, reason: str) -> None:
    """Refuse a request rather than let it wait for a place."""
    if places.locked():
        raise HTTPException(503, f"{reason} already. Try again later.", HANG_UP)


def _answer_result(result: Segmentation, key: str, seconds: float) -> Response:
    """JSON for the page: for each cell its class, score, area and outline."""
    height, width = result.size
    columns = (
        result.classes.tolist(),
        result.scores.tolist(),
        result.masks.areas.tolist(),
        (outline(patch, y, x) for y, x, patch in result.masks.patches()),
    )
    return JSONResponse(
        {
            "key": key,
            "name": result.name,
            "width": width,
            "height": height,
            "mpp": result.mpp,
            "seconds": round(seconds, 2),
            "cells": list(zip(*columns, strict=True)),
        }
    )


async def _answer_refusal(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _answer_input_error(request: Request, error: InputError) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _answer_failure(request: Request, error: Exception) -> Response:
    text = "The server failed. Its terminal says more."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        text = "The image does not fit into the server's memory. Send a smaller part."
    return JSONResponse({"error": text}, 500)
