"""Forgetting: what was asked to go is in no byte of the lake or the landing folder, and does not come back."""

import base64
import json
from collections.abc import Iterator, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import logged_case
import pytest
from on_disk import content

from tracemill.app import settings
from tracemill.errors import ConfigError
from tracemill.optimize.artifact import with_demonstrations
from tracemill.optimize.ladder import Mark, SingleStep
from tracemill.optimize.replay import Budget, CachedModel, Ledger
from tracemill.pipelines import forgetting, ingesting, labelling
from tracemill.pipelines.night import Night, rows
from tracemill.records import Artifact, ChatRequest, Completion
from tracemill.schema import TABLES
from tracemill.warehouse import Lake, ReplayCache

DAY = 86_400_000_000_000
NOW = 1_790_000_000_000_000_000
ALICE, BOB = "alice-4711", "bob-0815"
TRACES = {"alice": "a" * 32, "bob": "b" * 32}


def request(who: str, user: str, said: str, answer: str, at: int = NOW, session: str | None = None) -> str:
    messages = [
        {"role": "system", "parts": [{"type": "text", "content": "You are the desk of a shop."}]},
        {"role": "user", "parts": [{"type": "text", "content": said}]},
    ]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "user.id": user,
        "session.id": session or f"session-of-{who}",
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]),
    }
    span = {
        "traceId": TRACES[who],
        "spanId": who.encode().hex().rjust(16, "0"),
        "name": f"chat of {who}",
        "startTimeUnixNano": str(at),
        "endTimeUnixNano": str(at + 1),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}) + "\n"


def alice(at: int = NOW) -> str:
    return request("alice", ALICE, "my xylophone is broken", "send the xylophone back", at)


def bob(at: int = NOW) -> str:
    return request("bob", BOB, "my parcel is late", "it comes tomorrow", at)


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    (tmp_path / "tracemill.toml").write_text("[redaction]\nkeep_landing = true\n")
    config = settings.load(tmp_path)
    with Lake.create(config.lake_path) as lake:
        yield Night(night_id="n", config=config, lake=lake, clock=lambda: NOW + DAY)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / ".tracemill" / "landing"
    folder.mkdir(parents=True)
    return folder


def found(night: Night, landing: Path, *words: str) -> list[str]:
    """The words that stand in any file of the lake or the landing folder, in any spelling of their bytes."""
    night.lake.close()
    held = b"".join(content(path) for root in (night.lake.root, landing) for path in root.rglob("*") if path.is_file())
    spelled = {word: (word.encode(), base64.b64encode(word.encode())[:-4], word.encode("utf-16-le")) for word in words}
    return [word for word, spellings in spelled.items() if any(one in held for one in spellings)]


def judge(night: Night) -> None:
    """Rows that were made from the trajectories of both."""
    made: dict[str, list[dict[str, Any]]] = {
        "evaluations": [], "candidates": [], "releases": [], "replays": [], "replay_sources": [], "findings": [],
        "credits": [], "scores": [],
        "reward_models": [], "clusters": [], "cluster_members": [],
        # An agent of which nobody was erased, and a tool that is called like what names the user.
        "process_edges": [
            {"edge_id": "e-theirs", "to_act": "read"}, {"edge_id": "e-other", "agent_name": "other", "to_act": "read"},
            {"edge_id": "e-named", "agent_name": "other", "to_act": f"call {ALICE}"},
        ],
        "process_variants": [
            {"variant_id": "v-theirs", "acts": ["read"]}, {"variant_id": "v-other", "agent_name": "other", "acts": []},
            {"variant_id": "v-named", "agent_name": "other", "acts": ["read", f"call {ALICE}"]},
        ],
    }  # fmt: skip
    for who, word in (("alice", "xylophone"), ("bob", "parcel")):
        trace = TRACES[who]
        case = f"{trace}/0"
        output = f"the {word} again"
        made["evaluations"].append({"evaluation_id": f"e-{who}", "case_id": case, "output": output, "purpose": "tune"})
        made["replays"].append({"replay_key": f"r-{who}", "completion": json.dumps({"text": output})})
        made["replay_sources"].append({"replay_key": f"r-{who}", "trace": md5(trace.encode()).hexdigest()})
        made["findings"].append({"finding_id": f"f-{who}", "what": word, "exemplars": [case]})
        made["cluster_members"].append({"trajectory_id": trace, "kind": "intent", "cluster_id": "c-both"})
        made["cluster_members"].append({"trajectory_id": trace, "kind": "failure", "cluster_id": f"c-{who}"})
        made["clusters"].append({"cluster_id": f"c-{who}", "terms": [word], "name": word, "exemplars": [trace]})
        made["credits"].append({"trajectory_id": trace, "step": 0, "method": "mc", "version": "1"})
        fitted = {"version": who, "state": "{}", "lineage": ["c" * 32, trace]}
        made["reward_models"].append({"name": "learned", **fitted})
        head = {"0/0": {"folder": f".tracemill/work/preference/{who}/head", "hash": who}}
        heads = {**fitted, "state": json.dumps({"heads": head})}
        made["reward_models"].append({"name": "preference", "kind": "preference", **heads})
        shown = json.dumps({"demonstrations": {"pool": [{"source": trace, "text": f"my {word}"}]}})
        for name, artifact in (("shows", shown), ("learned", "{}")):
            candidate = f"{name}-{who}"
            made["candidates"].append({"candidate_id": candidate, "artifact": artifact, "lineage": [trace]})
            made["releases"].append(
                {
                    "release_id": f"of-{candidate}",
                    "candidate_id": candidate,
                    "channel": "production",
                    "bundle_id": candidate,
                }
            )
        for kind, target in (("step", case), ("trajectory", trace), ("session", f"session-of-{who}")):
            made["scores"].append(
                {"score_id": f"{kind}-{who}", "target_kind": kind, "target_id": target, "label": word}
            )
    # As an earlier version kept it: nobody knows who asked.
    made["replays"].append(
        {"replay_key": "r-old", "completion": json.dumps({"text": None, "tool_calls": ["xylophone"]})}
    )
    both = {"name": f"{ALICE}, parcel", "terms": [ALICE, "parcel"], "exemplars": [TRACES["alice"], TRACES["bob"]]}
    made["clusters"].append({"cluster_id": "c-both", **both})
    with night.lake.transaction("judged") as tx:
        for name, values in made.items():
            tx.insert(name, rows(name, values))


def counted(night: Night) -> dict[str, int]:
    return {name: night.select(f"SELECT * FROM {name}").num_rows for name in TABLES}


def test_a_forgotten_user_is_in_no_byte_and_everybody_else_still_is(night: Night, landing: Path) -> None:
    (landing / "one.traces.jsonl").write_text(alice())
    (landing / "two.traces.jsonl").write_text(bob())
    ingesting.take_in(night, [landing])
    judge(night)
    words = ("xylophone", TRACES["alice"], "session-of-alice", "chat of alice")
    assert found(night, landing, *words, ALICE) == [*words, ALICE]  # the raw id stands in the landing file only

    rehearsed = forgetting.forget(night, user=ALICE, landing=landing, dry_run=True)
    assert (rehearsed.traces, rehearsed.counts["spans"], rehearsed.counts["messages"]) == (1, 1, 2)
    assert found(night, landing, *words) == list(words)

    done = forgetting.forget(night, user=ALICE, landing=landing)
    assert done.counts == rehearsed.counts
    assert done.landing == [str(landing / "one.traces.jsonl")]
    assert [row["release_id"] for row in done.releases] == ["of-learned-alice", "of-shows-alice"]
    assert done.candidates == ["learned-alice"]
    assert found(night, landing, "xylophone", ALICE, "session-of-alice", "chat of alice") == []
    assert found(night, landing, "parcel", TRACES["bob"], "session-of-bob") == [
        "parcel",
        TRACES["bob"],
        "session-of-bob",
    ]
    left = counted(night)
    assert {name: left[name] for name in done.counts if name not in ("quarantine", "sites")} == {
        "replays": 1, "replay_sources": 1, "evaluations": 1,
        "findings": 1, "candidates": 3, "scores": 3, "credits": 1, "task_groups": 1,
        "reward_models": 2, "cluster_members": 2, "clusters": 2, "process_edges": 1, "process_variants": 1,
        "transitions": 1, "trajectories": 1, "span_parts": 0, "spans": 1, "trace_days": 1, "messages": 3,
    }  # fmt: skip
    (both,) = night.select("SELECT * FROM clusters WHERE cluster_id = 'c-both'").to_pylist()
    assert (both["name"], both["terms"], both["exemplars"]) == (None, ["parcel"], [TRACES["bob"]])
    (receipt,) = night.select("SELECT * FROM receipts").to_pylist()
    assert receipt["receipt_id"] == done.receipt_id
    assert json.loads(receipt["counts"])["spans"] == 1
    assert ALICE not in json.dumps(receipt)


def test_heads_that_learned_from_it_and_labels_that_ask_for_it_go_along(night: Night, landing: Path) -> None:
    (landing / "one.traces.jsonl").write_text(alice() + bob())
    ingesting.take_in(night, [landing])
    judge(night)
    work = night.config.work_path / "preference"
    for who in ("alice", "bob", "interrupted"):
        (work / who / "head").mkdir(parents=True)
        (work / who / "head" / "weights").write_text(who)
    (work / "interrupted.parquet").write_text("what alice said")
    drawn = night.config.path(".tracemill/labels.json")
    drawn.write_text(json.dumps([{"target_id": trace, "propensity": 0.5} for trace in TRACES.values()]))
    rehearsed = forgetting.forget(night, user=ALICE, landing=landing, dry_run=True)
    assert rehearsed.heads == []
    assert len(list(work.iterdir())) == 4
    done = forgetting.forget(night, user=ALICE, landing=landing)
    assert done.heads == [str(work / name) for name in ("alice", "interrupted", "interrupted.parquet")]
    assert (work / "bob" / "head" / "weights").read_text() == "bob"
    assert [one["target_id"] for one in json.loads(drawn.read_text())] == [TRACES["bob"]]
    assert labelling.queue(night, 5, draw=False)[0].propensity == 0.5


def test_what_was_forgotten_does_not_come_back_with_its_file_or_a_grown_one(
    night: Night, landing: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(alice())
    ingesting.take_in(night, [log])
    done = forgetting.forget(night, trace=TRACES["alice"], landing=landing)
    assert (done.traces, done.sources) == (1, [str(log)])
    assert ingesting.take_in(night, [log]).items == 0
    log.write_text(alice() + bob())
    report = ingesting.take_in(night, [log])
    assert (report.items, report.spans, report.duplicates) == (2, 1, 1)
    assert found(night, landing, "xylophone") == []
    assert found(night, landing, "parcel") == ["parcel"]
    assert forgetting.forget(night, trace=TRACES["alice"], landing=landing).traces == 0


@pytest.mark.slow
def test_a_shared_message_stays_unless_it_names_the_forgotten(night: Night, landing: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    naming = f"as {ALICE} said"
    log.write_text(
        request("alice", ALICE, "the lift is stuck", naming) + request("bob", BOB, "the lift is stuck", naming)
    )
    ingesting.take_in(night, [log])
    forgetting.forget(night, user=ALICE, landing=landing)
    texts = night.select("SELECT text FROM messages ORDER BY text")["text"].to_pylist()
    assert texts == ["You are the desk of a shop.", "the lift is stuck"]
    assert found(night, landing, ALICE) == []


@pytest.mark.slow
def test_a_stored_key_names_a_user_too_and_unnamed_traces_of_the_session_go_along(
    night: Night, landing: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    unnamed = request("bob", "", "my parcel is late", "tomorrow", session="session-of-alice")
    log.write_text(alice() + unnamed)
    ingesting.take_in(night, [log])
    (key,) = set(night.select("SELECT user_key FROM spans WHERE user_key IS NOT NULL")["user_key"].to_pylist())
    assert forgetting.forget(night, user=key, landing=landing).traces == 2
    assert counted(night)["spans"] == counted(night)["messages"] == 0


@pytest.mark.slow
def test_what_is_old_goes_and_what_is_young_stays(night: Night, landing: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(alice(NOW - 100 * DAY) + bob())
    ingesting.take_in(night, [log])
    assert forgetting.forget(night, older_than="90d", landing=landing).traces == 1
    assert found(night, landing, "xylophone", "parcel") == ["parcel"]
    (receipt,) = night.select("SELECT * FROM receipts").to_pylist()
    assert (receipt["scope"], receipt["subject"]) == ("older_than", "90d")


class ToolCaller:
    """Answers with a tool call that says again what was said: no text is in `evaluations.output`."""

    def complete(self, requests: Sequence[ChatRequest]) -> list[Completion]:
        said = [{"function": {"name": "find", "arguments": str(one.messages[-1]["content"])}} for one in requests]
        return [Completion(text=None, tool_calls=(call,)) for call in said]


def test_answers_go_with_every_episode_that_asked_for_them(night: Night, landing: Path) -> None:
    (landing / "one.traces.jsonl").write_text(alice() + bob())
    ingesting.take_in(night, [landing])
    artifact = Artifact(prompt={"model": "m", "messages": [{"role": "user", "content": [{"slot": "said"}]}]})

    def replay(*asked: tuple[str, str]) -> None:
        # A run of its own, killed before it wrote any evaluation.
        model = CachedModel(ToolCaller(), ReplayCache(night.lake), Ledger(Budget()), now_ns=1)
        cases = [logged_case.case(trajectory_id=TRACES[who], values={"said": said}) for who, said in asked]
        level = SingleStep(
            model=model, grade=lambda answered: [Mark(reward=None) for _ in answered], valid=lambda case, output: None
        )
        assert all(one.completion.error is None for one in level(artifact, cases))

    replay(("alice", "my xylophone is broken"), ("bob", "my parcel is late"), ("bob", "hello"))
    replay(("alice", "hello"), ("bob", "thanks"), ("alice", "thanks"), ("bob", "my parcel is late"))
    demo = {
        "messages": [{"role": "user", "content": "my xylophone"}, {"role": "assistant", "content": "send it"}],
        "text": "my xylophone",
        "source": TRACES["alice"],
    }
    artifact = with_demonstrations(artifact, [demo])
    replay(("bob", "my hat is lost"))
    left = night.select("SELECT completion FROM replays")["completion"].to_pylist()
    assert len(left) == 5
    forgetting.forget(night, user=ALICE, landing=landing)
    (left,) = night.select("SELECT completion FROM replays")["completion"].to_pylist()
    assert "parcel" in left, "bob alone asked for it"
    assert found(night, landing, "xylophone") == []


def test_logs_that_the_collector_has_landed_meanwhile_are_found_too(night: Night, landing: Path) -> None:
    (landing / "one.traces.jsonl").write_text(alice() + bob())
    done = forgetting.forget(night, user=ALICE, landing=landing)
    assert (done.traces, len(done.landing)) == (1, 1)
    assert found(night, landing, "xylophone", "parcel") == ["parcel"]


def test_a_request_that_is_not_clear_is_refused(night: Night, landing: Path) -> None:
    for asked in ({}, {"user": "a", "trace": "b"}, {"older_than": "soon"}):
        with pytest.raises(ConfigError, match="90d"):
            forgetting.forget(night, landing=landing, **asked)
