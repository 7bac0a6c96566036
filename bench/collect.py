"""How many spans a second the collector acknowledges, every one of them on disk before its answer.

    python bench/collect.py [--quick]

Clients in processes of their own send OTLP requests of 1, 20 and 200 spans of about 1 KB to a collector in another,
over kept connections, protobuf plain and gzip, and JSON. Limits, in the same run:

    nothing     a Starlette application under the same server that reads the same requests and answers at once
    fsync       the same bytes appended to a file, one fsync a request, without any server

Prints one JSON object as its last line. `requests_per_s`, `spans_per_s`: acknowledged with fsync; `of_nothing`: share
of what the server does without checking and writing; `of_fsync`: acknowledged requests for each one that a single
writer syncs alone (group commit makes it more than 1); `missing`: acknowledged spans that are in no landing file (0,
or the collector is broken).
"""

import argparse
import gzip
import http.client
import json
import multiprocessing
import os
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracemill import ingest

PROTOBUF, JSON = "application/x-protobuf", "application/json"
CLIENTS, CONNECTIONS = 2, 8
"""Processes, and connections of each."""
TEXT = "You are a support agent. The customer asks where order 4711 is, and says that it was due on Monday. " * 8


def request_of(spans: int, worker: int, number: int) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resourced = request.resource_spans.add()
    service = resourced.resource.attributes.add(key="service.name")
    service.value.string_value = "desk"
    found = resourced.scope_spans.add().spans
    for place in range(spans):
        span = found.add(trace_id=os.urandom(16), name="chat m", start_time_unix_nano=10**18, end_time_unix_nano=10**18)
        span.span_id = (1 + worker).to_bytes(2, "big") + number.to_bytes(4, "big") + place.to_bytes(2, "big")
        for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "m"), ("gen_ai.prompt", TEXT)):
            attribute = span.attributes.add(key=key)
            attribute.value.string_value = value
    return request


def body_of(kind: str, request: ExportTraceServiceRequest) -> tuple[bytes, dict[str, str]]:
    if kind == "json":
        spans = [
            {
                "traceId": span.trace_id.hex(),
                "spanId": span.span_id.hex(),
                "name": span.name,
                "startTimeUnixNano": str(span.start_time_unix_nano),
                "attributes": [{"key": a.key, "value": {"stringValue": a.value.string_value}} for a in span.attributes],
            }
            for span in request.resource_spans[0].scope_spans[0].spans
        ]
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
        return body, {"content-type": JSON}
    data = request.SerializeToString()
    if kind == "gzip":
        return gzip.compress(data, 6), {"content-type": PROTOBUF, "content-encoding": "gzip"}
    return data, {"content-type": PROTOBUF}


def serve(what: str, folder: str, ready: Any) -> None:
    """A server in this process until it is ended; says its port."""
    import uvicorn

    from tracemill.app.collect import listening

    if what == "collector":
        from tracemill.app.collect import build_app

        app: Any = build_app(Path(folder))
    else:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

        async def nothing(request: Request) -> Response:
            await request.body()
            return Response(b"", media_type=PROTOBUF)

        app = Starlette(routes=[Route("/v1/traces", nothing, methods=["POST"])])
    listener = listening("127.0.0.1", 0)
    ready.put(listener.getsockname()[1])
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run(sockets=[listener])


def send(port: int, kind: str, spans: int, worker: int, seconds: float, start: Any, told: Any) -> None:
    """Sends for a while over some connections; says how many requests of which body were acknowledged."""
    bodies = [body_of(kind, request_of(spans, worker, number)) for number in range(64)]
    acknowledged: Counter[int] = Counter()
    start.wait()
    until = time.perf_counter() + seconds

    def over_one(place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < until:
            body, headers = bodies[place % len(bodies)]
            connection.request("POST", "/v1/traces", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"answered {answer.status}")
            acknowledged[place % len(bodies)] += 1
            place += CONNECTIONS
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(over_one, range(CONNECTIONS)))
    told.put((worker, dict(acknowledged), len(bodies[0][0])))


def measure(what: str, kind: str, spans: int, seconds: float) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        ready, told, start = spawn.Queue(), spawn.Queue(), spawn.Barrier(CLIENTS + 1)
        server = spawn.Process(target=serve, args=(what, folder, ready))
        server.start()
        port = ready.get(timeout=120)
        args = [(port, kind, spans, worker, seconds, start, told) for worker in range(CLIENTS)]
        clients = [spawn.Process(target=send, args=one) for one in args]
        for client in clients:
            client.start()
        start.wait()
        before_s = _cpu_s(server.pid)
        done = [told.get(timeout=seconds * 10 + 60) for _ in clients]
        for client in clients:
            client.join()
        cpu_s = _cpu_s(server.pid) - before_s
        server.terminate()
        server.join()
        requests = sum(sum(counts.values()) for _, counts, _ in done)
        found = {
            "requests_per_s": round(requests / seconds),
            "spans_per_s": round(requests * spans / seconds),
            "body_bytes": done[0][2],
            "server_cpu_us_per_request": round(1e6 * cpu_s / max(1, requests)),
        }
        if what == "collector":
            found["missing"] = _missing(Path(folder), spans, {worker: counts for worker, counts, _ in done})
        return found


def _cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _distinct(path: Path) -> set[bytes]:
    """The requests in a landing file, each once: lines, or messages led by their length."""
    data = path.read_bytes()
    if path.suffix == ".jsonl":
        return set(data.splitlines(keepends=True))
    found, at = set(), 0
    while at < len(data):
        size, begin, shift = 0, at, 0
        while True:
            byte = data[at]
            size, at, shift = size | (byte & 0x7F) << shift, at + 1, shift + 7
            if byte < 0x80:
                break
        at += size
        found.add(data[begin:at])
    return found


def _missing(folder: Path, spans: int, acknowledged: dict[int, dict[int, int]]) -> int:
    """Acknowledged spans that are in no file. A client sends its 64 requests again and again."""
    there: set[str] = set()
    with TemporaryDirectory() as distinct:
        for path in folder.iterdir():
            (Path(distinct) / path.name).write_bytes(b"".join(_distinct(path)))
        for batch in ingest.batches(ingest.find([distinct]), key=b"k" * 32, now_ns=1):
            there.update(batch.tables["spans"]["span_id"].to_pylist())
    wanted = {
        f"{1 + worker:04x}{number:08x}{place:04x}"
        for worker, counts in acknowledged.items()
        for number in counts
        for place in range(spans)
    }
    return len(wanted - there)


def fsyncs(size: int, seconds: float) -> dict[str, Any]:
    """One writer, one fsync for each request's bytes."""
    with TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        descriptor = os.open(Path(folder) / "x", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        data, done, until = os.urandom(size), 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            os.write(descriptor, data)
            os.fsync(descriptor)
            done += 1
        os.close(descriptor)
    return {"requests_per_s": round(done / seconds), "mib_per_s": round(done * size / seconds / 2**20, 1)}


def run(quick: bool) -> dict[str, Any]:
    seconds = 1.5 if quick else 10.0
    cases = [("protobuf", 20), ("json", 20)] if quick else [
        (kind, spans) for spans in (1, 20, 200) for kind in ("protobuf", "gzip", "json")
    ]  # fmt: skip
    result: dict[str, Any] = {"connections": CLIENTS * CONNECTIONS, "cases": {}}
    for kind, spans in cases:
        nothing = measure("nothing", kind, spans, seconds)
        collector = measure("collector", kind, spans, seconds)
        alone = fsyncs(nothing["body_bytes"], seconds / 2)
        case = collector | {
            "of_nothing": round(collector["requests_per_s"] / max(1, nothing["requests_per_s"]), 3),
            "nothing": nothing,
            "of_fsync": round(collector["requests_per_s"] / max(1, alone["requests_per_s"]), 2),
            "fsync": alone,
        }
        result["cases"][f"{kind}_{spans}"] = case
        print(f"{kind} of {spans} spans: {case}", file=sys.stderr, flush=True)
    result["missing"] = sum(case["missing"] for case in result["cases"].values())
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two cases, under a minute")
    parser.add_argument("--full", action="store_true", help="the runs of bench/RESULTS.md (default)")
    options = parser.parse_args()
    print(json.dumps(run(options.quick)))
