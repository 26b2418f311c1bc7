"""The web application, over HTTP."""

from __future__ import annotations

import http.client
import io
import json
import socket
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import tifffile
from pycocotools import mask as coco_mask
from shapely.geometry import shape

from custom.workbench.serve import Limits
from custom.workbench.serve.results import Results
from tests.browser import wait
from tests.workbench.serve.rectangles import (
    CELLS,
    RectangleNetwork,
    as_png,
    draw,
    serving,
)

LIMITS = Limits(upload_bytes=200_000, pixels=100_000, waiting=3, results=4)
PNG = as_png(draw(CELLS))


@pytest.fixture
def network() -> RectangleNetwork:
    return RectangleNetwork()


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def port(network, temporary):
    with serving(network, LIMITS) as port:
        yield port


def ask(port, path, method="GET", body=None, **headers):
    """(status, headers, body) of one request; ``_`` in header names means ``-``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, names)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers, data


def segment(port, data=PNG, name="cells.png", **headers):
    status, _, text = ask(
        port, "/results", "POST", data, x_file_name=quote(name), **headers
    )
    return status, json.loads(text)


def sender(port: int) -> socket.socket:
    """A connection that has sent one byte of an image."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(
        b"POST /results HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.png\r\n"
        b"Content-Length: 1000\r\n\r\na"
    )
    return connection


def test_an_image_comes_back_as_cells_that_can_be_drawn(port):
    status, result = segment(port, name="näme of it.png")
    assert (status, result["name"]) == (200, "näme of it.png")
    assert (result["width"], result["height"], result["mpp"]) == (300, 200, None)
    cells = sorted(result["cells"], key=lambda cell: -cell[1])
    assert [c[0] for c in cells] == [0, 1, 2, 0]
    assert [c[1] for c in cells] == [round(s * 255) / 255 for s in (0.9, 0.8, 0.6, 0.4)]
    assert [c[2] for c in cells] == [600, 256, 600, 120]
    assert cells[0][3] == "M10 10l0 19 29 0 0-19z"
    status, headers, jpeg = ask(port, f"/results/{result['key']}/image")
    assert status == 200 and headers["content-type"] == "image/jpeg"
    assert jpeg[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("score", "classes", "areas"),
    [(0.0, "0,1,2", [600, 256, 600, 120]), (0.5, "0,2", [600, 600]), (0.0, "", [])],
)
def test_downloads_hold_what_is_shown(port, network, score, classes, areas):
    key = segment(port)[1]["key"]

    def download(kind: str, more: str = "") -> tuple[str, bytes]:
        query = f"score={score}&classes={classes}{more}"
        status, headers, data = ask(port, f"/results/{key}/{kind}?{query}")
        assert status == 200, data
        return headers.get_filename(), data

    name, data = download("geojson")
    assert name == "cells_cells.geojson"
    features = json.loads(data)["features"]
    assert [shape(f["geometry"]).area for f in features] == areas
    coco = json.loads(download("coco")[1])["annotations"]
    assert [int(coco_mask.area(a["segmentation"])) for a in coco] == areas
    for mpp, factor in (("", np.nan), ("&mpp=0.5", 0.25)):  # as it was typed
        table = pd.read_csv(io.BytesIO(download("csv", mpp)[1]))
        expected = [area * factor for area in areas]
        np.testing.assert_allclose(table["area_um2"].astype(float), expected)
    name, data = download("labels")
    assert name == "cells_cells_labels.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert all("/" not in n and "<" not in n for n in names)
        labels = tifffile.imread(io.BytesIO(archive.read(names[0])))
    assert np.bincount(labels.ravel())[1:].tolist() == areas
    name, data = download("overlay")
    assert name == "cells_cells_overlay.png" and data[:4] == b"\x89PNG"
    assert network.calls == 1


def test_bad_uploads_end_in_a_sentence_without_paths_of_the_server(port, temporary):
    def tiff(shape, dtype) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros(shape, dtype))
        return buffer.getvalue()

    cases = [
        (b"no image", "a.png", 400, "not a readable image"),
        (PNG, "a.tif", 400, "not a readable TIFF"),
        (PNG[:200], "a.png", 400, "truncated"),
        (PNG, "a.txt", 415, "not an image"),
        (PNG, "", 400, "x-file-name"),
        (PNG, "..", 415, "not an image"),
        (as_png(draw([], (400, 400))), "a.png", 400, "400x400 pixels are more than"),
        (bytes(LIMITS.upload_bytes + 1), "a.png", 413, "larger than"),
        (tiff((8, 8, 12), np.uint8), "a.tif", 400, "a.tif"),
        (tiff((8, 8), np.float32), "a.tif", 400, "float32"),
        # Of a format that is not accepted not even the header is read.
        (b"GIF89a" + b"`\xea" * 2 + bytes(3), "a.png", 400, "not a readable image"),
    ]
    for data, name, expected, words in cases:
        status, answer = segment(port, data, name)
        assert (status, words in answer["error"]) == (expected, True), answer
        assert str(temporary) not in answer["error"]
        assert "mmcell-" not in answer["error"]
    assert segment(port)[0] == 200


def test_an_endless_upload_is_cut_at_the_limit(port):
    sent, chunk = 0, bytes(10_000)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /results HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with suppress(OSError):  # the server has closed
            while sent < 20 * LIMITS.upload_bytes:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                sent += len(chunk)
                time.sleep(0.01 * (sent > 2 * LIMITS.upload_bytes))
    assert sent < 20 * LIMITS.upload_bytes


def test_a_sender_who_goes_away_leaves_nothing(port, temporary):
    with sender(port):
        wait(lambda: list(temporary.iterdir()))
    wait(lambda: not list(temporary.iterdir()))
    assert segment(port)[0] == 200


def test_images_at_once_wait_for_each_other_and_do_not_mix(port, network, temporary):
    network.gate.clear()
    images = [as_png(draw([(10, 10, 10, 10 + 5 * i, i, 0.9)])) for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(segment, port, image, f"{i}.png")
            for i, image in enumerate(images)
        ]
        # Each accepted image has a file.
        wait(lambda: network.at_once == 1 and len(list(temporary.iterdir())) == 3)
        status, answer = segment(port)
        assert status == 503 and "waiting" in answer["error"]
        network.gate.set()
        answers = [job.result() for job in waiting]
    assert network.most_at_once == 1 and network.calls == 3
    for i, (status, answer) in enumerate(answers):
        ((label, _, area, _),) = answer["cells"]
        assert (status, answer["name"], label) == (200, f"{i}.png", i)
        assert area == 10 * (10 + 5 * i)
        query = "coco?score=0&classes=0,1,2"
        data = json.loads(ask(port, f"/results/{answer['key']}/{query}")[2])
        assert data["images"][0]["file_name"] == f"{i}.png"
        assert list(data["info"]) == ["model"]  # not where the model's files lie


def test_slow_senders_do_not_block_others_and_have_a_deadline(network, temporary):
    limits = replace(LIMITS, upload_seconds=2.0, uploads=4, waiting=1)
    with serving(network, limits) as port:
        senders = [sender(port) for _ in range(3)]
        wait(lambda: len(list(temporary.iterdir())) == 3)
        # More of them than images may wait: the model is free nevertheless.
        assert segment(port)[0] == 200
        senders.append(sender(port))
        wait(lambda: len(list(temporary.iterdir())) == 4)
        status, answer = segment(port)
        assert status == 503 and "4 images are being sent" in answer["error"]
        end = time.monotonic() + 20
        answers = [b""] * 4
        while not all(answers):  # a byte now and then does not extend the deadline
            assert time.monotonic() < end
            for i, one in enumerate(senders):
                one.settimeout(0.05)
                with suppress(OSError):
                    one.sendall(b"b")
                with suppress(OSError):
                    answers[i] += one.recv(4096)
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
        assert segment(port)[0] == 200
        for one in senders:
            one.close()


def test_a_failure_is_said_and_the_next_image_works(port, network):
    for error, words in (
        (RuntimeError("secret"), "terminal"),
        (MemoryError(), "memory"),
    ):
        network.fail = error
        status, answer = segment(port)
        assert status == 500 and words in answer["error"]
        assert "secret" not in answer["error"]
    network.fail = None
    assert segment(port)[0] == 200


def test_nothing_but_the_page_and_the_latest_results_is_reachable(port, repo):
    keys = [segment(port)[1]["key"] for _ in range(5)]
    statuses = [ask(port, f"/results/{key}/image")[0] for key in keys]
    assert statuses == [404, 200, 200, 200, 200]
    key = keys[-1]
    for path in (
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/serve.js",
        "/docs",
        "/results",
        f"/results/{key}",
        f"/results/{key}/..%2f..%2fmodel",
        f"/results/{key}/image/../../../etc/passwd",
        f"/results/{key[:-1]}/image",
        "//etc/passwd",
        "/serve.css/../app.py",
    ):
        status, _, data = ask(port, path)
        assert status in (404, 405), path
        assert b"root:" not in data and str(repo).encode() not in data
    assert ask(port, "/results", "DELETE")[0] == 405
    choice = "score=0&classes=0"
    for query in ("", "score=a&classes=0", "score=0.5&classes=9", "classes=0"):
        assert ask(port, f"/results/{key}/csv?{query}")[0] == 400
    for mpp in ("0", "-1", "nan", "inf", "a"):
        assert ask(port, f"/results/{key}/csv?{choice}&mpp={mpp}")[0] == 400


def test_results_expire_under_long_keys(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    results = Results(most=2, seconds=10)
    key = results.add("a")
    assert len(key) >= 22  # 128 bits
    now = 9.0
    assert results.get(key) == "a" and results.get("") is None
    now = 11.0
    assert results.get(key) is None


def test_foreign_pages_and_names_are_refused(port, network):
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
        for path, method in (("/", "GET"), ("/model", "GET"), ("/results", "POST")):
            status, _, _ = ask(port, path, method, PNG, host=host, x_file_name="a.png")
            assert status == 400, host
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        status, answer = segment(port, origin=origin)
        assert status == 403 and "--public-url" in answer["error"]
    assert network.calls == 0
    # A page from elsewhere may not send the header without asking; the answer is no.
    asked = {"origin": "http://evil.example", "access_control_request_method": "POST"}
    status, headers, _ = ask(port, "/results", "OPTIONS", **asked)
    assert status == 405
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert segment(port, origin=f"http://127.0.0.1:{port}")[0] == 200


@pytest.mark.parametrize("host", ["cells.example.org", "127.0.0.1"])
def test_behind_a_proxy_with_tls_the_public_address_is_accepted(
    network, temporary, host
):
    """The proxy keeps the Host of the browser, or gives its own."""
    public = "https://cells.example.org"
    with serving(network, LIMITS, public=[public]) as port:
        assert ask(port, "/", host=host)[0] == 200
        assert segment(port, host=host, origin=public)[0] == 200
        for origin in ("http://cells.example.org", "https://cells.example.org:8443"):
            assert segment(port, host=host, origin=origin)[0] == 403
        assert ask(port, "/", host="www.example.org")[0] == 400


def test_every_answer_has_the_security_headers(port, network):
    network.fail = RuntimeError()
    for answer in (
        ask(port, "/"),
        ask(port, "/nothing"),
        ask(port, "/", host="evil.example"),
        ask(port, "/results", "POST", PNG, x_file_name="a.png"),
    ):
        headers = answer[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
