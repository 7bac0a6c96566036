"""Generated logs of LLM agents as OTLP/JSON lines: what the benchmarks of ingest, storage and queries read.

    from corpus import sessions, spans, write        # scripts in bench/
    cd bench && python -m corpus FOLDER [--spans N] [--sessions N] [--seed S]

`spans(n)` is a busy product's traffic, `sessions(n)` long work whose whole history repeats in every call. Both give
lines as the OpenTelemetry Collector's file exporter writes them: one export request a line, the spans of one service
from several traces in the order in which they ended, OpenTelemetry GenAI attributes, messages as JSON text. A span of
the traffic has 1 to 4 KB, 2.5 on average. `write` puts lines into files of bounded size. The same arguments give the
same bytes on every machine; what is held in memory is what is open: some conversations and one request a service.

The words are drawn by Zipf's law from 230 English ones and 6,000 made-up ones: zstd makes two fifths of them, a little
more than of English prose. No text is drawn twice; what repeats is what agents repeat: system prompts, tool definitions
and the turns of a session that go into its next call.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from corpus.text import PLANTED, Writer
from corpus.traffic import SECOND, Session, Traffic, agents_of

__all__ = ["FIRST_NS", "PLANTED", "sessions", "spans", "write"]

FIRST_NS = 1_788_220_800_000_000_000
"""2026-09-01T00:00:00Z, when the first trace begins."""
DAY = 86_400 * SECOND


class Exporter:
    """The spans of each service in requests of `most` spans or fewer, as a batch processor cuts them."""

    _SCOPE = b'"scopeSpans":[{"scope":{"name":"opentelemetry.instrumentation.genai","version":"1.3b0"},"spans":['
    _URL = b']}],"schemaUrl":"https://opentelemetry.io/schemas/1.38.0"}]}\n'

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[bytes, list[bytes]] = {}

    def add(self, resource: bytes, span: bytes) -> bytes | None:
        """The line that is full with this span."""
        waiting = self._waiting.setdefault(resource, [])
        waiting.append(span)
        return self._line(resource) if len(waiting) >= self._most else None

    def rest(self) -> Iterator[bytes]:
        for resource in sorted(self._waiting):
            if self._waiting[resource]:
                yield self._line(resource)

    def _line(self, resource: bytes) -> bytes:
        spans, self._waiting[resource] = self._waiting[resource], []
        return b'{"resourceSpans":[{"resource":' + resource + b"," + self._SCOPE + b",".join(spans) + self._URL


def spans(n: int, *, seed: int = 0, days: int = 30, users: int = 2000, per_line: int = 50) -> Iterator[bytes]:
    """Lines with exactly `n` spans of 1 to 4 KB: five services, fifteen agents, four models, over `days`.

    Every other span is a model call; turns are short (one to four calls), one session in five goes on for
    another turn with its history. 1 % of the calls and 4 % of the tools fail; 3 % of the texts hold a key, a
    telephone number or an e-mail address; a tenth of the turns is judged (`gen_ai.evaluation.result`).
    """
    writer = Writer(seed)
    draw = writer.random
    agents = agents_of(writer, 300, 2)
    traffic = Traffic(writer=writer, tools=2, question=140, aside=60, tool=220, answer=240)
    exporter = Exporter(per_line)
    going: list[Session] = []
    names = [f"user-{writer.id(5)}" for _ in range(users)]
    step = days * DAY * 5 // max(n, 1)  # a turn has 5 spans on average
    now, given = FIRST_NS, 0
    while given < n:
        if going and draw.random() < 0.2:
            session = going.pop(draw.randrange(len(going)))
        else:
            user = names[int(users * draw.random() ** 2)]
            session = Session(agent=draw.choice(agents), key=f"conv-{writer.id(8)}", user=user, history=[])
        for span in traffic.run(session, now, draw.choice((1, 2, 2, 2, 3, 3, 4))):
            if given == n:
                break
            given += 1
            line = exporter.add(session.agent.resource, span)
            if line is not None:
                yield line
        if session.turns < 2 and len(going) < 100:
            going.append(session)
        now += int(step * draw.uniform(0.2, 1.8))
    yield from exporter.rest()


def sessions(
    n: int, *, seed: int = 0, turns: int = 8, calls: int = 6, pace_s: int = 120, per_line: int = 10
) -> Iterator[bytes]:
    """Lines of `n` long sessions (one trace a turn) whose whole history stands in every call.

    A session has `turns` turns of `calls` model calls on average, each call but the last of a turn with a tool call and
    its result: by default 48 calls, with a system prompt of 4,000 characters and 2,000 more each time; a message has
    1,000 on average (1,200 in logs of pi and of OpenHands). Four sessions are under way at any
    moment, and a turn begins every `pace_s`: a session takes about an hour.
    """
    writer = Writer(seed)
    draw = writer.random
    agents = agents_of(writer, 4000, 6)
    traffic = Traffic(writer=writer, tools=6, question=300, aside=300, tool=2000, answer=700)
    exporter = Exporter(per_line)
    going: list[tuple[Session, int]] = []
    now, begun = FIRST_NS, 0
    while begun < n or going:
        while begun < n and len(going) < 4:
            key, user = f"conv-{writer.id(8)}", f"user-{writer.id(5)}"
            session = Session(agent=draw.choice(agents), key=key, user=user, history=[])
            going.append((session, draw.randint(max(1, turns // 2), turns + turns // 2)))
            begun += 1
        place = draw.randrange(len(going))
        session, most = going[place]
        for span in traffic.run(session, now, draw.randint(max(1, calls // 2), calls + calls // 2)):
            line = exporter.add(session.agent.resource, span)
            if line is not None:
                yield line
        if session.turns >= most:
            del going[place]
        now += pace_s * SECOND
    yield from exporter.rest()


def write(lines: Iterable[bytes], folder: Path, *, name: str = "traces", max_bytes: int = 64 << 20) -> list[Path]:
    """The lines as `name-0000.jsonl`, … of at most about `max_bytes` each; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    room, file = 0, None
    try:
        for line in lines:
            if file is None or room < len(line):
                if file is not None:
                    file.close()
                paths.append(folder / f"{name}-{len(paths):04d}.jsonl")
                file, room = paths[-1].open("wb"), max_bytes
            file.write(line)
            room -= len(line)
    finally:
        if file is not None:
            file.close()
    return paths
