"""Show a trained model as a local web page: drop an image, see its cells.

Example::

    python tools/serve.py work_dirs/maskrcnn_r50
    python tools/serve.py model.pt --port 8100

Then open the address that it prints. The page draws the contours, counts the cells of
each class above a score that one may move, and gives the results as files. The page is
for this machine alone unless --host says otherwise; there is no password.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import socket
import sys
from pathlib import Path

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
        "--max-mib",
        type=float,
        default=default.upload_bytes / (1 << 20),
        help="largest image file that is taken (%(default)g)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=default.pixels / 1e6,
        help="largest image that is taken (%(default)g)",
    )
    return parser.parse_args()


def main() -> None:
    """Load the model, listen, serve until interrupted."""
    args = parse_args()
    with listen(args.host, args.port) as listening:
        segmenter = Segmenter(
            args.model, args.checkpoint, device=args.device, score_thr=None
        )
        limits = Limits(
            upload_bytes=int(args.max_mib * (1 << 20)),
            pixels=int(args.max_megapixels * 1e6),
        )
        address, port = listening.getsockname()
        hosts = [args.host, address]
        if ipaddress.ip_address(address).is_loopback:
            hosts.append("localhost")
        else:
            print(
                f"warning: everyone who reaches {args.host} can use this page and its "
                "model; there is no password and no encryption",
                file=sys.stderr,
            )
        app = make_app(segmenter, args.model.resolve().name, hosts, limits)
        print(f"http://{args.host}:{port}/  (Ctrl+C ends)", flush=True)
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Listen at one address of this machine.

    Raises:
        InputError: There is no such address, the port is taken, or it is the address
            of every network: then any name in a request would have to be accepted.
    """
    try:
        address = socket.gethostbyname(host)
        if ipaddress.ip_address(address).is_unspecified:
            raise InputError(
                f"--host {host}",
                "this is every network of the machine",
                "Give the one address, or name, at which others reach it",
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
