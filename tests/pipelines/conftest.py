"""A toy desk: OTLP logs of an agent, reviews of its work, and a real HTTP endpoint whose answers hang on the prompt."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from json_server import JsonHandler, listening

from tracemill.app import settings
from tracemill.pipelines import ingesting, judging
from tracemill.pipelines.config import Config
from tracemill.pipelines.night import Night
from tracemill.warehouse import Lake

QUEUES = {"billing": "invoice", "shipping": "parcel", "returns": "refund", "account": "password"}
"""Queue -> the word that gives it away."""
SYSTEM = "Name the queue of the ticket."
VOCABULARY = [a + b for a in ("ba", "ko", "mi", "ru", "sel", "tor") for b in ("nan", "dem", "lis", "pok", "ver", "zum")]


@dataclass
class Endpoint:
    """What the server was asked, and how it answers; by default right only where a demonstration shows the queue."""

    url: str
    answering: Callable[[dict[str, Any]], str]
    """From a request's body to the text of the answer."""
    asked: list[list[dict[str, Any]]] = field(default_factory=list)
    fail_with: int | None = None
    key: str | None = None
    """Whoever does not give it is turned away."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Loaded into it: name and folder."""


def right_queue(text: str) -> str:
    return next(queue for queue, word in QUEUES.items() if word in text)


def answer(messages: list[dict[str, Any]]) -> str:
    shown = {turn["content"] for turn in messages if turn["role"] == "assistant"}
    wanted = right_queue(messages[-1]["content"])
    return wanted if wanted in shown else "billing"


@contextmanager
def serving(answering: Callable[[dict[str, Any]], str]) -> Iterator[Endpoint]:
    """An OpenAI-compatible server for the length of the block."""

    class Handler(JsonHandler):
        def post(self, body: Any) -> None:
            if self._stranger():
                return
            if self.path.endswith("/load_lora_adapter"):
                state.adapters[body["lora_name"]] = body["lora_path"]
                self.reply(200, {})
                return
            state.asked.append(body["messages"])
            if state.fail_with is not None:
                self.reply(state.fail_with, {"error": {"message": "told to fail"}})
                return
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": state.answering(body)},
            }
            usage = {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51}
            self.reply(
                200, {"id": "c", "object": "chat.completion", "model": "toy", "choices": [choice], "usage": usage}
            )

        def get(self) -> None:
            if not self._stranger():
                self.reply(200, {"object": "list", "data": [{"id": name} for name in ("toy", *state.adapters)]})

        def _stranger(self) -> bool:
            known = state.key is None or self.headers["authorization"] == f"Bearer {state.key}"
            if not known:
                self.reply(401, {"error": {"message": "who are you?"}})
            return not known

    with listening(Handler) as url:
        state = Endpoint(url=f"{url}/v1", answering=answering)
        yield state


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an empty lake, to copy: copies have one key, so their rows can be compared."""
    project = tmp_path_factory.mktemp("empty") / "project"
    project.mkdir()
    (project / "tracemill.toml").write_text("")
    Lake.create(project / ".tracemill" / "lake").close()
    return project


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(lambda body: answer(body["messages"])) as state:
        yield state


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict[str, Any]], str]], Endpoint]]:
    """Starts further endpoints that answer as they are told."""
    with ExitStack() as stack:
        yield lambda answering: stack.enter_context(serving(answering))


def ticket(number: int) -> tuple[str, str]:
    """Text and right queue of ticket `number`; each number is a wording of its own."""
    draw = random.Random(number)
    queue = draw.choice(list(QUEUES))
    words = draw.sample(VOCABULARY, 9)
    text = " ".join([*words[:4], QUEUES[queue], *words[4:]])
    return text, queue


def messages_of(text: str) -> list[dict[str, str]]:
    """What the toy agent sends: one demonstration, of billing."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "Why was the invoice printed twice?"},
        {"role": "assistant", "content": "billing"},
        {"role": "user", "content": f"Ticket: {text}"},
    ]


def _parts(message: dict[str, str]) -> dict[str, Any]:
    return {"role": message["role"], "parts": [{"type": "text", "content": message["content"]}]}


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def trace(number: int, day: int = 0) -> dict[str, Any]:
    """One ticket's trace as an OTLP request: the agent, its model call, its tool call."""
    text, _ = ticket(number)
    sent = messages_of(text)
    said = answer(sent)
    begin = 1_790_000_000_000_000_000 + day * 86_400_000_000_000 + number * 1_000_000_000
    common = [_attribute("gen_ai.agent.name", "desk"), _attribute("gen_ai.conversation.id", f"s{number}")]

    def span(place: int, name: str, operation: str, attributes: list[dict[str, Any]]) -> dict[str, Any]:
        made = {
            "traceId": f"{number + 1:032x}",
            "spanId": f"{number * 10 + place + 1:016x}",
            "name": name,
            "startTimeUnixNano": str(begin + place * 1_000_000),
            "endTimeUnixNano": str(begin + place * 1_000_000 + 900_000),
            "attributes": [_attribute("gen_ai.operation.name", operation), *common, *attributes],
        }
        return made if place == 0 else {**made, "parentSpanId": f"{number * 10 + 1:016x}"}

    call = [
        _attribute("gen_ai.request.model", "toy"),
        _attribute("gen_ai.response.model", "toy"),
        _attribute("gen_ai.input.messages", json.dumps([_parts(message) for message in sent])),
        _attribute(
            "gen_ai.output.messages",
            json.dumps([{**_parts({"role": "assistant", "content": said}), "finish_reason": "stop"}]),
        ),
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "50"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "1"}},
    ]
    tool = [
        _attribute("gen_ai.tool.name", "route"),
        _attribute("gen_ai.tool.call.arguments", json.dumps({"queue": said})),
    ]
    spans = [
        span(0, "invoke_agent desk", "invoke_agent", []),
        span(1, "chat toy", "chat", call),
        span(2, "execute_tool route", "execute_tool", tool),
    ]
    return {
        "resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "desk"}, "spans": spans}]}]
    }


def review(number: int, queue: str) -> dict[str, Any]:
    _, right = ticket(number)
    said = answer(messages_of(ticket(number)[0]))
    return {
        "session_id": f"s{number}",
        "name": "review",
        "value": int(said == queue),
        "correction": queue,
        "propensity": 1.0,
        "user": "ana",
        "right": right,
    }


def write_logs(folder: Path, numbers: range, *, label: Callable[[int], str] | None = None) -> None:
    """A day's logs and reviews; `label` gives the queue that reviewers say is right, the truth by default."""
    (folder / "logs").mkdir(exist_ok=True)
    name = f"{numbers.start}-{numbers.stop}"
    (folder / "logs" / f"traces-{name}.jsonl").write_text("".join(json.dumps(trace(n)) + "\n" for n in numbers))
    reviews = [review(n, label(n) if label else ticket(n)[1]) for n in numbers]
    for row in reviews:
        del row["right"]
    (folder / "logs" / f"reviews-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reviews))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time that goes on by a millisecond whenever somebody looks."""

    ticks: list[int]

    def __call__(self) -> int:
        self.ticks[0] += 1_000_000
        return self.ticks[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A project with its lake."""

    config: Config
    lake: Lake
    clock: Clock
    endpoint: Endpoint

    def night(self, name: str = "night-1", **changes: Any) -> Night:
        return Night(night_id=name, config=self.config, lake=self.lake, clock=self.clock, **changes)

    def log(self, numbers: range) -> None:
        """Further tickets, not yet taken in."""
        write_logs(self.config.root, numbers)


SETTINGS: dict[str, Any] = {
    "sources": [{"path": "logs"}],
    "rewards": [{"kind": "feedback"}, {"kind": "exact_match"}],
    "optimize": {"optimizers": ["labeled_few_shot"]},
    # A thread that answers in milliseconds: how many of them hangs on what else the machine does.
    "gate": {"valid_output": "billing|shipping|returns|account", "latency_ratio": 1e6},
}


@contextmanager
def a_desk(root: Path, endpoint: Endpoint, **more: Any) -> Iterator[Desk]:
    """The project in `root`, with a lake if there is none yet."""
    config = settings.parse(
        {**SETTINGS, "endpoint": {"base_url": endpoint.url, "model": "toy"}, **more}, root=root, where="test"
    )
    if not config.lake_path.exists():
        # A lake keeps the key that it finds: with this one, the same tickets fall to the gate in every run.
        config.lake_path.mkdir(parents=True)
        (config.lake_path / "key").write_bytes(b"the toy desk's key, 32 bytes long"[:32])
        (config.lake_path / "key").chmod(0o600)
        Lake.create(config.lake_path).close()
    with Lake.open(config.lake_path) as lake:
        yield Desk(config=config, lake=lake, clock=Clock(ticks=[1_800_000_000_000_000_000]), endpoint=endpoint)


@pytest.fixture
def desk(tmp_path: Path, endpoint: Endpoint) -> Iterator[Desk]:
    """A project with a hundred logged tickets, not yet taken in."""
    write_logs(tmp_path, range(100))
    with a_desk(tmp_path, endpoint) as made:
        yield made


@pytest.fixture(scope="session")
def mined_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose hundred tickets are taken in, scored and mined, to copy; the model was not asked for that."""
    root = tmp_path_factory.mktemp("mined") / "project"
    root.mkdir()
    write_logs(root, range(100))
    with serving(lambda body: answer(body["messages"])) as endpoint, a_desk(root, endpoint) as made:
        night = made.night()
        with night.stage("ingest"):
            ingesting.take_in_configured(night)
        judging.score(night)
        judging.mine(night)
        assert not endpoint.asked
    return root


@pytest.fixture
def mined(mined_project: Path, tmp_path: Path, endpoint: Endpoint) -> Iterator[Desk]:
    """The desk on the evening when its tickets were taken in, scored and mined. Its logs lie where they were read."""
    shutil.copytree(mined_project, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("logs"))
    with a_desk(tmp_path, endpoint, sources=[{"path": str(mined_project / "logs")}]) as made:
        yield made


@pytest.fixture(scope="module")
def attended() -> Iterator[Callable[..., Desk]]:
    """Opens desks that several tests look at."""
    with ExitStack() as stack:

        def attend(root: Path) -> Desk:
            endpoint = stack.enter_context(serving(lambda body: answer(body["messages"])))
            return stack.enter_context(a_desk(root, endpoint))

        yield attend


@pytest.fixture(scope="session")
def toy_logs() -> Callable[..., None]:
    """Writes the logs and reviews of some tickets into a project."""
    return write_logs


@pytest.fixture(scope="session")
def orchestrator() -> Iterator[None]:
    """Prefect's temporary server: one for all tests of a process, for it takes longer to start than a night runs."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
