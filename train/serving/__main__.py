"""`python -m tracemill.train.serving --model smollm2 --port 0 --cache DIR`: serves a small model until told to stop."""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from tracemill.errors import ConfigError, TracemillError
from tracemill.train import models


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tracemill.train.serving", description=__doc__)
    parser.add_argument("--model", required=True, help="'smollm2', or a local model folder")
    parser.add_argument("--served-name", help="name that requests ask for; default: --model, or its folder's name")
    parser.add_argument("--cache", type=Path, required=True, help="folder for converted models")
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=PATH", help="a LoRA folder to serve")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; see --port-file")
    parser.add_argument("--port-file", type=Path, help="the port is written here once requests are answered")
    parser.add_argument("--threads", type=int, help="compute threads")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="on a CPU; a GPU takes bfloat16"
    )
    parser.add_argument("--with-parent", action="store_true", help="stop when stdin closes: with whoever started it")
    return parser.parse_args()


def _stop_with_stdin() -> None:
    """Ends this process as SIGTERM does, once nobody holds the other end of stdin."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def served_name(model: str) -> str:
    """The name a model is asked for by, unless another is given."""
    return model if model == models.EMBEDDED else Path(model).name


def main() -> None:
    """Loads, listens, and answers until SIGTERM or SIGINT."""
    # OpenMP threads that spin while they wait starve whatever else runs on the machine (and are starved by it);
    # the library reads this once, when torch loads it
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched, nothing is asked

    arguments = _arguments()
    if arguments.with_parent:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    listener = socket.create_server((arguments.host, arguments.port))
    # Its connections inherit it; asyncio would not set it, and an answer would wait 40 ms for a late ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"loading {arguments.model}", flush=True)
    folder = models.resolve(arguments.model, arguments.cache)

    import uvicorn

    from tracemill.train.serving.engine import Engine
    from tracemill.train.serving.server import app

    engine = Engine(
        folder,
        name=arguments.served_name or served_name(arguments.model),
        dtype=arguments.dtype,
        threads=arguments.threads,
    )
    for pair in arguments.adapter:
        name, equals, path = pair.partition("=")
        if not equals:
            raise ConfigError(f"--adapter {pair!r}: write NAME=PATH")
        print(f"loading adapter {name}", flush=True)
        engine.load_adapter(name, Path(path)).result()
    port = listener.getsockname()[1]
    print(f"listening on http://{arguments.host}:{port}/v1", flush=True)
    if arguments.port_file is not None:
        fresh = arguments.port_file.with_suffix(".part")
        fresh.write_text(json.dumps({"port": port, "pid": os.getpid()}))
        os.replace(fresh, arguments.port_file)
    uvicorn.Server(uvicorn.Config(app(engine, clock=time.time), log_level="warning", access_log=False)).run(
        sockets=[listener]
    )
    engine.close()


if __name__ == "__main__":
    try:
        main()
    except (TracemillError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
