"""The triage example: an agent that owes tracemill nothing, its mail, and its reviewers."""

import ast
import itertools
import json
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tracemill import client
from tracemill.mining.groups import group_tasks
from tracemill.schema import TASK_GROUPS, TASKS

HERE = Path(__file__).parents[2] / "examples" / "triage_agent"


def _script(name: str) -> ModuleType:
    spec = spec_from_file_location(f"triage_agent_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


agent = _script("agent")
tickets = _script("tickets")
reviewer = _script("reviewer")


def _prompt(select: str = "fixed", k: int = 4) -> dict[str, Any]:
    prompt: dict[str, Any] = json.loads((HERE / "prompt.json").read_text())
    prompt["demonstrations"] |= {"select": select, "k": k}
    return prompt


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def _jaccard(left: str, right: str) -> float:
    return len(_words(left) & _words(right)) / len(_words(left) | _words(right))


# --- what the example promises about itself -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent", "tickets", "reviewer"])
def test_the_example_imports_nothing_of_tracemill(name: str) -> None:
    tree = ast.parse((HERE / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported
    assert not [module for module in imported if module.startswith("tracemill")]


def test_the_first_prompt_carries_exactly_four_demonstrations() -> None:
    turns = client.render(_prompt(), {"ticket": "Where is it?"})
    assert [turn["role"] for turn in turns] == ["system", *["user", "assistant"] * 4, "user"]
    assert {turn["content"] for turn in turns if turn["role"] == "assistant"} <= set(agent.QUEUES)


@pytest.mark.parametrize(("select", "k"), [("fixed", 4), ("nearest", 2), ("nearest", 3), ("nearest", 9)])
def test_the_agent_renders_as_tracemill_does(select: str, k: int) -> None:
    prompt = _prompt(select, k)
    draw = random.Random(3)
    texts = [wording.ticket(draw) for wording in tickets.wordings()] + ["", "The THE the, (release)!", "été 12"]
    for text in texts:
        assert agent.chat_messages(prompt, text) == client.render(prompt, {"ticket": text})


def test_the_agent_reads_a_prompt_file_and_what_a_channel_points_to(tmp_path: Path) -> None:
    bundle = tmp_path / "bundles" / "b1"
    bundle.mkdir(parents=True)
    (bundle / "prompt.json").write_text(json.dumps(_prompt("nearest", 3)))
    channel = tmp_path / "production"
    channel.mkdir()
    (channel / "channel.json").write_text(json.dumps({"prompt": "../bundles/b1/prompt.json", "bundle_id": "b1"}))
    assert agent.read_prompt(str(HERE / "prompt.json")) == _prompt()
    assert agent.read_prompt(str(channel)) == client.live_prompt(channel).artifact


# --- the mail -------------------------------------------------------------------------------------------------------


def test_there_are_at_least_160_wordings_spread_evenly_over_the_desks_queues() -> None:
    every = tickets.wordings()
    counts = Counter(wording.queue for wording in every)
    assert len({wording.template for wording in every}) >= 160
    assert set(counts) == set(agent.QUEUES)
    assert max(counts.values()) == min(counts.values())


def test_tickets_of_one_wording_are_near_duplicates_and_of_two_wordings_are_not() -> None:
    draw = random.Random(11)
    every = tickets.wordings()
    mail = [(wording.ticket(draw), wording.ticket(draw)) for wording in every]
    assert min(_jaccard(one, two) for one, two in mail) >= 0.6
    everything = [one for one, _ in mail] + [turn["content"] for turn in _demonstrated()]
    assert max(_jaccard(one, two) for one, two in itertools.combinations(everything, 2)) < 0.5
    assert max(len(one.split()) for one, _ in mail) <= 25


def test_tracemill_puts_each_wording_into_a_task_group_of_its_own() -> None:
    draw = random.Random(8)
    mail = {f"{n}/{copy}": wording.ticket(draw) for n, wording in enumerate(tickets.wordings()) for copy in range(2)}
    tasks = pa.table(
        {"trajectory_id": list(mail), "task_key": pa.nulls(len(mail), pa.string()), "task_text": list(mail.values())}
    )
    with duckdb.connect() as con:
        con.register("task_groups", TASK_GROUPS.empty_table())
        con.register("tasks", TASKS.empty_table())
        assigned = group_tasks(con, tasks, key=b"k" * 16, gate_share=0.4, now_ns=1).assigned
    wording_of = [name.split("/")[0] for name in assigned["trajectory_id"].to_pylist()]
    pairs = set(zip(wording_of, assigned["task_group"].to_pylist(), strict=True))
    assert len(pairs) == len(set(wording_of)) == len({group for _, group in pairs})


def _demonstrated() -> list[dict[str, str]]:
    return [demo["messages"][0] for demo in _prompt()["demonstrations"]["pool"]]


def _write_days(folder: Path, seed: int) -> dict[str, list[dict[str, Any]]]:
    command = [sys.executable, str(HERE / "tickets.py"), "--out", str(folder), "--seed", str(seed)]
    subprocess.run([*command, "--wordings", "60", "25", "20", "--copies", "2", "1", "3"], check=True)
    return {path.stem: _rows(path) for path in folder.glob("*.jsonl")}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_days_share_no_wording_and_the_same_seed_writes_the_same_mail(tmp_path: Path) -> None:
    written = _write_days(tmp_path / "one", 5)
    assert written == _write_days(tmp_path / "again", 5)
    assert written["day1"] != _write_days(tmp_path / "other", 6)["day1"]
    assert {name: len(rows) for name, rows in written.items()} == {"day1": 120, "day2": 25, "day3": 60, "truth": 205}
    assert all(set(row) == {"session_id", "text"} for day in ("day1", "day2", "day3") for row in written[day])
    by_day: dict[str, set[int]] = {}
    for row in written["truth"]:
        by_day.setdefault(row["session_id"].split("-")[0], set()).add(row["wording"])
    assert {day: len(found) for day, found in by_day.items()} == {"day1": 60, "day2": 25, "day3": 20}
    assert not by_day["day1"] & by_day["day2"]
    assert not (by_day["day1"] | by_day["day2"]) & by_day["day3"]


def test_more_wordings_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="301 wordings wanted, 260 there are"):
        tickets.split(tickets.wordings(), [150, 151], random.Random(0))


# --- the reviewers --------------------------------------------------------------------------------------------------


def test_reviewers_draw_right_and_wrong_routes_alike_and_note_the_chance() -> None:
    truth = {f"s{n:04d}": "billing" if n % 2 else "account" for n in range(2000)}
    desk = [{"session_id": session, "queue": "billing", "error": None} for session in truth]
    desk[5] = {"session_id": "s0005", "queue": None, "error": "no queue 'bills'"}
    rows = list(reviewer.reviews(desk, truth, rate=0.4, draw=random.Random(1)))
    by_value = Counter(row["value"] for row in rows)
    # 1,000 sessions each at 0.4: five standard deviations are 77
    assert abs(by_value[0] - 400) < 78
    assert abs(by_value[1] - 400) < 78
    assert {row["propensity"] for row in rows} == {0.4}
    assert all(row["correction"] == truth[row["session_id"]] for row in rows)
    assert all(row["value"] == (row["correction"] == "billing") for row in rows if row["session_id"] != "s0005")
    assert set(rows[0]) == {"session_id", "name", "value", "correction", "propensity", "source", "user"}


def test_who_is_reviewed_does_not_depend_on_the_order_that_workers_finished_in() -> None:
    truth = dict.fromkeys((f"s{n}" for n in range(50)), "billing")
    desk = [{"session_id": session, "queue": "billing", "error": None} for session in truth]
    one, two = (
        list(reviewer.reviews(rows, truth, rate=0.5, draw=random.Random(4))) for rows in (desk, desk[::-1])
    )  # fmt: skip
    assert one == two


def test_permuted_labels_keep_their_counts_and_lose_their_tickets() -> None:
    truth = {f"s{n}": agent.QUEUES[n % 5] for n in range(200)}
    dealt = reviewer.permuted(truth, random.Random(2))
    assert Counter(dealt.values()) == Counter(truth.values())
    assert sum(dealt[session] == queue for session, queue in truth.items()) < 80


# --- the agent at work ----------------------------------------------------------------------------------------------


@dataclass
class _Desk:
    """A model endpoint with scripted answers and an OTLP receiver, on one port."""

    answers: dict[str, str]
    requests: list[dict[str, Any]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


@pytest.fixture
def desk() -> Iterator[tuple[_Desk, str]]:
    state = _Desk(answers={})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        state.spans.extend(scope.spans)
                self._answer(b"", "application/x-protobuf")
            else:
                assert self.path == "/v1/chat/completions"
                request = json.loads(body)
                state.requests.append(request)
                answer = state.answers.get(request["messages"][-1]["content"])
                if answer is None:
                    self._answer(b'{"error": {"message": "no such model"}}', "application/json", status=404)
                else:
                    self._answer(json.dumps(_completion(answer, request["model"])).encode(), "application/json")

        def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _completion(answer: str, model: str) -> dict[str, Any]:
    logprobs = {"content": [{"token": answer, "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    message = {"role": "assistant", "content": answer}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "prompt_token_ids": [1, 2, 3],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs, "token_ids": [7]}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }  # fmt: skip


def _run(tmp_path: Path, url: str, texts: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    mail = tmp_path / "mail.jsonl"
    mail.write_text("".join(json.dumps({"session_id": key, "text": text}) + "\n" for key, text in texts.items()))
    return subprocess.run(
        [sys.executable, str(HERE / "agent.py"), "--tickets", str(mail), "--prompt", str(HERE / "prompt.json"),
         "--out", str(tmp_path / "desk.jsonl"), "--workers", "2", "--version", "shipped"],
        env={"OPENAI_BASE_URL": f"{url}/v1", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, str(kind))


def _attributes(span: Span) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in span.attributes}


def test_a_day_is_routed_and_every_session_is_an_agent_a_chat_and_a_tool_span(
    tmp_path: Path, desk: tuple[_Desk, str]
) -> None:
    state, url = desk
    state.answers = {"Where is my parcel?": "shipping\n", "Too small.": "retail returns"}
    done = _run(tmp_path, url, {"s1": "Where is my parcel?", "s2": "Too small."})
    assert (done.returncode, done.stderr) == (0, "")
    routed = {row["session_id"]: row for row in _rows(tmp_path / "desk.jsonl")}
    assert routed["s1"] == {"session_id": "s1", "queue": "shipping", "error": None}
    assert routed["s2"]["queue"] is None
    assert "'retail returns'" in routed["s2"]["error"]

    spans = {(_attributes(span)["gen_ai.conversation.id"], span.name): span for span in state.spans}
    assert set(spans) == set(
        itertools.product(("s1", "s2"), ("invoke_agent triage", "chat smollm2", "execute_tool route_ticket"))
    )
    root, chat, tool = (
        spans["s1", name] for name in ("invoke_agent triage", "chat smollm2", "execute_tool route_ticket")
    )
    assert root.parent_span_id == b""
    assert {_attributes(span)["gen_ai.agent.version"] for span in state.spans} == {"shipped"}
    assert chat.parent_span_id == tool.parent_span_id == root.span_id
    logged = _attributes(chat)
    sent = next(request for request in state.requests if request["messages"][-1]["content"] == "Where is my parcel?")
    assert [
        {"role": message["role"], "content": message["parts"][0]["content"]}
        for message in json.loads(logged["gen_ai.input.messages"])
    ] == sent["messages"]
    assert json.loads(logged["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "shipping\n"}]
    assert logged["gen_ai.response.finish_reasons"] == ["stop"]
    assert (logged["gen_ai.usage.input_tokens"], logged["gen_ai.usage.output_tokens"]) == (3, 1)
    assert logged["prompt_token_ids"] == [1, 2, 3]
    assert (logged["response_token_ids"], logged["response_logprobs"]) == ([7], [-0.5])
    assert (sent["temperature"], sent["max_tokens"]) == (logged["gen_ai.request.temperature"], 6)
    assert json.loads(_attributes(tool)["gen_ai.tool.call.result"]) == {"routed_to": "shipping"}

    failed = spans["s2", "execute_tool route_ticket"]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert _attributes(failed)["error.type"] == "UnknownQueueError"
    assert json.loads(_attributes(failed)["gen_ai.tool.call.arguments"]) == {"queue": "retail returns"}
    assert spans["s2", "invoke_agent triage"].status.code == Status.STATUS_CODE_ERROR


def test_an_endpoint_that_knows_no_such_model_ends_with_one_clear_line(tmp_path: Path, desk: tuple[_Desk, str]) -> None:
    state, url = desk
    done = _run(tmp_path, url, {"s1": "Where is my parcel?"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: no ticket could be routed")
    assert "no such model" in done.stderr
    assert _rows(tmp_path / "desk.jsonl")[0]["queue"] is None
    chat = next(span for span in state.spans if span.name == "chat smollm2")
    assert chat.status.code == Status.STATUS_CODE_ERROR
