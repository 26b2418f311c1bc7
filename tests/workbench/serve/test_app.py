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
from tests.workbench.serve.rectangles import (
    CLASSES,
    RectangleNetwork,
    as_png,
    draw,
    serving,
)

LIMITS = Limits(upload_bytes=200_000, pixels=100_000, waiting=3, results=4)
CELLS = [
    (10, 10, 20, 30, 0, 0.9),
    (50, 10, 10, 12, 0, 0.4),
    (100, 50, 16, 16, 1, 0.8),
    (150, 200, 30, 20, 2, 0.6),
]


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


def segment(port, data, name="cells.png", **headers):
    status, _, text = ask(
        port, "/results", "POST", data, x_file_name=quote(name), **headers
    )
    return status, json.loads(text)


def download(port, key, kind, score=0.0, classes="0,1,2"):
    path = f"/results/{key}/{kind}?score={score}&classes={classes}"
    status, headers, data = ask(port, path)
    assert status == 200, data
    return headers.get_filename(), data


def test_an_image_comes_back_as_cells_that_can_be_drawn(port):
    status, found = segment(port, as_png(draw(CELLS)), "näme of it.png")
    assert status == 200
    assert (found["width"], found["height"], found["mpp"]) == (300, 200, None)
    assert found["name"] == "näme of it.png"
    cells = sorted(found["cells"], key=lambda cell: -cell[1])
    assert [c[0] for c in cells] == [0, 1, 2, 0]
    assert [c[1] for c in cells] == [round(s * 255) / 255 for s in (0.9, 0.8, 0.6, 0.4)]
    assert [c[2] for c in cells] == [600, 256, 600, 120]
    assert cells[0][3] == "M10 10l0 19 29 0 0-19z"
    status, headers, jpeg = ask(port, f"/results/{found['key']}/image")
    assert status == 200 and headers["content-type"] == "image/jpeg"
    assert jpeg[:2] == b"\xff\xd8"


def test_downloads_agree_with_each_other_and_with_what_is_shown(port):
    _, found = segment(port, as_png(draw(CELLS)))
    key = found["key"]
    for score, classes, expected in (
        (0.0, "0,1,2", [600, 256, 600, 120]),
        (0.5, "0,1,2", [600, 256, 600]),
        (0.5, "0,2", [600, 600]),
        (0.95, "0,1,2", []),
        (0.0, "", []),
    ):
        shown = [
            area
            for label, cell_score, area, _ in found["cells"]
            if cell_score >= score and str(label) in classes.split(",")
        ]
        assert sorted(shown) == sorted(expected)
        choice = {"score": score, "classes": classes}

        name, data = download(port, key, "geojson", **choice)
        assert name == "cells_cells.geojson"
        features = json.loads(data)["features"]
        assert [shape(f["geometry"]).area for f in features] == expected

        _, data = download(port, key, "coco", **choice)
        coco = json.loads(data)
        assert [
            int(coco_mask.area(a["segmentation"])) for a in coco["annotations"]
        ] == expected

        _, data = download(port, key, "csv", **choice)
        table = pd.read_csv(io.BytesIO(data))
        assert len(table) == len(expected)

        name, data = download(port, key, "labels", **choice)
        assert name == "cells_cells_labels.zip"
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            assert all("/" not in n and "<" not in n for n in names)
            labels = tifffile.imread(io.BytesIO(archive.read(names[0])))
        assert np.bincount(labels.ravel())[1:].tolist() == expected

        name, data = download(port, key, "overlay", **choice)
        assert name == "cells_cells_overlay.png" and data[:4] == b"\x89PNG"


def test_the_network_runs_once_for_an_image(port, network):
    _, found = segment(port, as_png(draw(CELLS)))
    for kind in ("geojson", "csv", "labels", "overlay", "coco"):
        download(port, found["key"], kind, score=0.7)
    assert network.calls == 1


def test_bad_uploads_end_in_a_sentence_without_paths_of_the_server(port, temporary):
    png = as_png(draw(CELLS))
    cases = [
        (b"", "a.png", 400, "not a readable image"),
        (b"no image", "a.png", 400, "not a readable image"),
        (png, "a.tif", 400, "not a readable TIFF"),
        (png[:200], "a.png", 400, "truncated"),
        (png, "a.txt", 415, "not an image"),
        (png, "", 400, "x-file-name"),
        (png, "..", 415, "not an image"),
        (as_png(draw([], (400, 400))), "a.png", 400, "400x400 pixels are more than"),
        (bytes(LIMITS.upload_bytes + 1), "a.png", 413, "larger than"),
    ]
    # Of a format that is not taken not even the header is read.
    gif = b"GIF89a" + (60_000).to_bytes(2, "little") * 2 + bytes(3)
    cases.append((gif, "a.png", 400, "not a readable image"))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8, 12), np.uint8))
    cases.append((buffer.getvalue(), "a.tif", 400, "a.tif"))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((8, 8), np.float32))
    cases.append((buffer.getvalue(), "a.tif", 400, "float32"))
    for data, name, expected, words in cases:
        status, answer = segment(port, data, name)
        assert (status, words in answer["error"]) == (expected, True), answer
        assert str(temporary) not in answer["error"]
        assert "mmcell-" not in answer["error"]
    status, _ = segment(port, png)
    assert status == 200  # it still works


def test_an_endless_upload_is_cut_at_the_limit(port):
    def endless():
        while True:
            yield bytes(10_000)

    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /results HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        try:
            for chunk in endless():
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                sent += len(chunk)
                if sent > 2 * LIMITS.upload_bytes:
                    time.sleep(0.01)
                if sent > 20 * LIMITS.upload_bytes:
                    break
        except OSError:
            pass  # the server has closed
    assert sent < 20 * LIMITS.upload_bytes


def test_a_sender_who_goes_away_leaves_nothing(port, temporary):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /results HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.png\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        wait(lambda: list(temporary.iterdir()))
    wait(lambda: not list(temporary.iterdir()))
    assert segment(port, as_png(draw(CELLS)))[0] == 200


def wait(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_images_at_once_wait_for_each_other_and_do_not_mix(port, network, temporary):
    network.gate.clear()
    images = [draw([(10, 10, 10, 10 + 5 * i, i, 0.9)]) for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(segment, port, as_png(image), f"{i}.png")
            for i, image in enumerate(images)
        ]
        # Each that was taken has a file.
        wait(lambda: network.at_once == 1 and len(list(temporary.iterdir())) == 3)
        status, answer = segment(port, as_png(images[0]))
        assert status == 503 and "waiting" in answer["error"]
        network.gate.set()
        answers = [job.result() for job in waiting]
    assert network.most_at_once == 1 and network.calls == 3
    assert len({answer["key"] for _, answer in answers}) == 3
    for i, (status, answer) in enumerate(answers):
        ((label, _, area, _),) = answer["cells"]
        assert (status, answer["name"], label) == (200, f"{i}.png", i)
        assert area == 10 * (10 + 5 * i)
        _, data = download(port, answer["key"], "coco")
        data = json.loads(data)
        assert data["images"][0]["file_name"] == f"{i}.png"
        assert list(data["info"]) == ["model"]  # not where the model's files lie


def test_a_failure_is_said_and_the_next_image_works(port, network):
    network.fail = RuntimeError("secret detail")
    status, answer = segment(port, as_png(draw(CELLS)))
    assert status == 500 and "secret" not in answer["error"]
    network.fail = MemoryError()
    status, answer = segment(port, as_png(draw(CELLS)))
    assert status == 500 and "memory" in answer["error"]
    network.fail = None
    assert segment(port, as_png(draw(CELLS)))[0] == 200


def test_nothing_but_the_page_and_results_is_reachable(port, repo):
    _, found = segment(port, as_png(draw(CELLS)))
    key = found["key"]
    paths = [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/serve.py",
        "/static/serve.js",
        "/docs",
        "/openapi.json",
        "/results",
        f"/results/{key}",
        f"/results/{key}/..%2f..%2fmodel",
        f"/results/{key}/image/../../../etc/passwd",
        f"/results/{key[:-1]}/image",
        "/results/%2e%2e/image",
        "//etc/passwd",
        "/serve.css/../app.py",
    ]
    for path in paths:
        status, _, data = ask(port, path)
        assert status in (404, 405), path
        assert b"root:" not in data and str(repo).encode() not in data
    status, _, _ = ask(port, "/results", "DELETE")
    assert status == 405
    for query in ("", "?score=a&classes=0", "?score=0.5&classes=9", "?classes=0"):
        assert ask(port, f"/results/{key}/csv{query}")[0] == 400


def test_old_results_go(port):
    keys = [segment(port, as_png(draw(CELLS)))[1]["key"] for _ in range(5)]
    statuses = [ask(port, f"/results/{key}/image")[0] for key in keys]
    assert statuses == [404, 200, 200, 200, 200]


def test_foreign_pages_and_names_are_refused(port, network):
    png = as_png(draw(CELLS))
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
        for path, method in (("/", "GET"), ("/model", "GET"), ("/results", "POST")):
            status, _, _ = ask(port, path, method, png, host=host, x_file_name="a.png")
            assert status == 400, host
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        status, answer = segment(port, png, origin=origin)
        assert status == 403 and "--public-url" in answer["error"]
    assert network.calls == 0
    # A page from elsewhere may not send the header without asking; the answer is no.
    status, headers, _ = ask(
        port,
        "/results",
        "OPTIONS",
        origin="http://evil.example",
        access_control_request_method="POST",
        access_control_request_headers="x-file-name",
    )
    assert status == 405
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert segment(port, png, origin=f"http://127.0.0.1:{port}")[0] == 200


@pytest.mark.parametrize("host", ["cells.example.org", "127.0.0.1"])
def test_behind_a_proxy_with_tls_the_public_address_is_accepted(
    network, temporary, host
):
    """The proxy keeps the Host of the browser, or gives its own."""
    png = as_png(draw(CELLS))
    public = "https://cells.example.org"
    with serving(network, LIMITS, public=[public]) as port:
        assert ask(port, "/", host=host)[0] == 200
        assert segment(port, png, host=host, origin=public)[0] == 200
        for origin in ("http://cells.example.org", "https://cells.example.org:8443"):
            assert segment(port, png, host=host, origin=origin)[0] == 403
        assert ask(port, "/", host="www.example.org")[0] == 400


def trickle(port: int) -> socket.socket:
    """A sender who has sent one byte of an image."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(
        b"POST /results HTTP/1.1\r\nHost: localhost\r\nX-File-Name: a.png\r\n"
        b"Content-Length: 1000\r\n\r\na"
    )
    return connection


def test_slow_senders_do_not_block_others_and_have_a_deadline(network, temporary):
    limits = replace(LIMITS, upload_seconds=2.0, uploads=4, waiting=1)
    png = as_png(draw(CELLS))
    with serving(network, limits) as port:
        senders = [trickle(port) for _ in range(3)]
        wait(lambda: len(list(temporary.iterdir())) == 3)
        # More of them than images may wait: the model is free nevertheless.
        assert segment(port, png)[0] == 200
        senders.append(trickle(port))
        wait(lambda: len(list(temporary.iterdir())) == 4)
        status, answer = segment(port, png)
        assert status == 503 and "4 images are being sent" in answer["error"]
        end = time.monotonic() + 20
        answers = [b""] * 4
        while not all(answers):  # a byte now and then does not extend the deadline
            assert time.monotonic() < end
            for i, sender in enumerate(senders):
                sender.settimeout(0.05)
                with suppress(OSError):
                    sender.sendall(b"b")
                with suppress(OSError):
                    answers[i] += sender.recv(4096)
        assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers)
        assert segment(port, png)[0] == 200
        for sender in senders:
            sender.close()


@pytest.mark.parametrize(("mpp", "density"), [("", None), ("&mpp=0.5", 0.25)])
def test_downloads_take_the_pixel_size_that_was_typed(port, network, mpp, density):
    key = segment(port, as_png(draw(CELLS)))[1]["key"]
    _, _, data = ask(port, f"/results/{key}/csv?score=0&classes=0,1,2{mpp}")
    table = pd.read_csv(io.BytesIO(data))
    expected = [np.nan if density is None else a * density for a in table["area"]]
    np.testing.assert_allclose(table["area_um2"], expected)
    assert network.calls == 1
    for bad in ("0", "-1", "nan", "inf", "a"):
        query = f"score=0&classes=0&mpp={bad}"
        assert ask(port, f"/results/{key}/csv?{query}")[0] == 400


def test_every_answer_has_the_security_headers(port, network):
    network.fail = RuntimeError()
    for answer in (
        ask(port, "/"),
        ask(port, "/model"),
        ask(port, "/nothing"),
        ask(port, "/", host="evil.example"),
        ask(port, "/results", "POST", as_png(draw(CELLS)), x_file_name="a.png"),
    ):
        headers = answer[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_names_of_classes_are_data(port):
    _, _, data = ask(port, "/model")
    assert [c["name"] for c in json.loads(data)["classes"]] == list(CLASSES)
    assert b"blue" not in ask(port, "/")[2]
