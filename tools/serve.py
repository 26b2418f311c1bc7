"""Show a trained model as a local web page: drop an image, see its cells.

Example::

    python tools/serve.py work_dirs/maskrcnn_r50
    python tools/serve.py model.pt --port 8100
    python tools/serve.py model.pt --host 0.0.0.0 --public-url https://cells.lab.org

Then open the address that it prints. The page draws the contours, counts the cells of
each class above an adjustable score, and offers the results as files. The page is for
this machine alone unless --host says otherwise; there is no password.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from custom.errors import InputError, run_tool
from custom.inference.segmenter import Segmenter
from custom.workbench.serve import Limits, make_app

LOOPBACK = "127.0.0.1"


def parse_args() -> argparse.Namespace:
    """The command line."""
    default = Limits()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="run folder, exported file, or config")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="with a config")
    parser.add_argument("--device", help="default: the GPU if there is one")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="address of this machine to listen at; anyone who reaches it may use the "
        f"page ({LOOPBACK})",
    )
    parser.add_argument("--port", type=int, default=8000, help="0: any (8000)")
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="where browsers reach the page, such as https://cells.example.org, if a "
        "proxy or a container stands between; permits --host 0.0.0.0",
    )
    parser.add_argument(
        "--max-mib",
        type=float,
        default=default.upload_bytes / (1 << 20),
        help="largest file in MiB (%(default)g)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=default.pixels / 1e6,
        help="largest image in megapixels (%(default)g)",
    )
    return parser.parse_args()


def main() -> None:
    """Load the model, listen, serve until interrupted."""
    args = parse_args()
    public = args.public_url and public_origin(args.public_url)
    with listen(args.host, args.port, everywhere=bool(public)) as listening:
        segmenter = Segmenter(
            args.model, args.checkpoint, device=args.device, score_thr=None
        )
        limits = Limits(
            upload_bytes=int(args.max_mib * (1 << 20)),
            pixels=int(args.max_megapixels * 1e6),
        )
        address, port = listening.getsockname()
        kind = ipaddress.ip_address(address)
        hosts = {args.host, address} if not kind.is_unspecified else {LOOPBACK}
        if kind.is_loopback or kind.is_unspecified:
            hosts.add("localhost")
        if not kind.is_loopback:
            print(
                f"warning: everyone who reaches {args.host}:{port} can use this page "
                "and its model; there is no password and no encryption",
                file=sys.stderr,
            )
        origins = [origin_of("http", host, port) for host in sorted(hosts)]
        app = make_app(
            segmenter,
            args.model.resolve().name,
            [*origins, *([public] if public else [])],
            limits,
        )
        print(f"{public or f'http://{args.host}:{port}'}/  (Ctrl+C ends)", flush=True)
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """An origin as browsers write it: without the scheme's usual port."""
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")


def public_origin(url: str) -> str:
    """Scheme, host and port of a URL.

    Raises:
        InputError: The URL is not the address of a page.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is not a number
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise InputError(
            f"--public-url {url}",
            "not the address of a page",
            "Give it as browsers have it: https://cells.example.org or "
            "http://127.0.0.1:9000",
        )
    return origin_of(parts.scheme, host, port)


def listen(host: str, port: int, everywhere: bool = False) -> socket.socket:
    """Listen at one address of this machine.

    Args:
        host: Address or name.
        port: 0 takes any.
        everywhere: Allow the address of every network. Without the public address any
            name in a request would have to be accepted there.

    Raises:
        InputError: The address does not exist, is that of every network without
            permission, or the port is taken.
    """
    try:
        address = socket.gethostbyname(host)
        if ipaddress.ip_address(address).is_unspecified and not everywhere:
            raise InputError(
                f"--host {host}",
                "this is every network of the machine",
                "Give the one address, or name, at which others reach it, or "
                "--public-url with the address that browsers have",
            )
        return socket.create_server((address, port))
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise InputError(
            f"--port {port}" if taken else f"--host {host}",
            error.strerror,
            "Choose another port" if taken else "Give an IPv4 address of this machine",
        ) from None


if __name__ == "__main__":
    run_tool(main)
