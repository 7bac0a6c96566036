"""Prompts of several sites in one bundle: found by the agent's name, verified, and looked at by every guardrail."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tracemill.client import live_prompt
from tracemill.errors import PublishError
from tracemill.promote import bundle, publishers
from tracemill.promote.guardrails import GuardrailPolicy, check
from tracemill.records import Artifact, Candidate, Completion, Outcome, Site

Make = Callable[..., Candidate]
LOGGED = "my parcel was left with the neighbour in number nine but she says that nobody ever rang her door"


def with_planner(one: Candidate, instruction: str, pool: list[dict[str, Any]] | None = None) -> Candidate:
    prompt = {
        **one.artifact.prompt,
        "site_id": "plans",
        "messages": [{"role": "system", "content": [instruction]}, {"role": "user", "content": [{"slot": "ticket"}]}],
        "demonstrations": {"select": "fixed", "k": 4, "pool": pool or []},
    }
    return replace(one, artifact=Artifact(prompt=one.artifact.prompt, others={"plans": prompt}))


def build(candidate: Candidate, site: Site, out: Path, *, agent: str | None = "the planner/eu") -> bundle.Bundle:
    others = [replace(site, site_id="plans", agent_name=agent)]
    given: dict[str, Any] = {"evaluations": None, "lineage": [], "snapshot_id": 1, "out": out, "now_ns": 1}
    return bundle.build(candidate, None, site=site, others=others, **given)


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_each_agent_finds_its_own_prompt_and_nobody_gets_another_ones(
    kind: str, tmp_path: Path, site: Site, make_candidate: Make
) -> None:
    both = build(with_planner(make_candidate(), "Plan."), site, tmp_path / "built")
    where = tmp_path / "published"
    place = publishers.build("folder", root=where) if kind == "folder" else publishers.build("url", url="memory://p")
    channel = place.publish(both.path, both.bundle_id, "production")
    if kind == "url":
        import fsspec

        fsspec.filesystem("memory").get("/p", str(where), recursive=True)
        channel = str(where / "production")
    plans, routes = (live_prompt(channel, agent=name) for name in ("the planner/eu", "triage"))
    assert plans.messages(ticket="t")[0]["content"] == "Plan."
    assert routes.messages(ticket="t")[0]["content"] == "Route the ticket."
    assert plans.bundle_id == routes.bundle_id == both.bundle_id
    assert live_prompt(channel, agent="plans").artifact == plans.artifact, "a site is found by its id, too"
    for unknown in (None, "critic"):
        with pytest.raises(KeyError, match="several agents"):
            live_prompt(channel, agent=unknown)


def test_sites_of_one_agent_are_told_apart_by_their_ids(tmp_path: Path, site: Site, make_candidate: Make) -> None:
    one = build(with_planner(make_candidate(), "Plan."), site, tmp_path, agent="triage")
    files = json.loads((one.path / "agents.json").read_text())
    assert files == {"site": "prompt.json", "plans": "prompts/plans.json"}


def test_a_bundle_of_one_site_is_what_it_was_and_its_agent_may_say_its_name(
    tmp_path: Path, make_bundle: Callable[..., bundle.Bundle]
) -> None:
    one = make_bundle()
    assert not (one.path / "agents.json").exists()
    channel = publishers.build("folder", root=tmp_path / "p").publish(one.path, one.bundle_id, "production")
    assert set(json.loads((Path(channel) / "channel.json").read_text())) == {"bundle_id", "prompt", "adapter"}
    assert live_prompt(channel, agent="triage") == live_prompt(channel)


def test_all_prompts_make_the_bundle_and_none_can_be_touched(tmp_path: Path, site: Site, make_candidate: Make) -> None:
    one = build(with_planner(make_candidate(), "Plan."), site, tmp_path)
    assert build(with_planner(make_candidate(), "Plan!"), site, tmp_path).bundle_id != one.bundle_id
    (one.path / "prompts" / "plans.json").write_text("{}")
    with pytest.raises(PublishError, match=r"prompts/plans\.json was changed"):
        bundle.verify(one.path)
    with pytest.raises(PublishError, match="stands for redacted"):
        build(with_planner(make_candidate(), "Write to [EMAIL_3f2a91bc]."), site, tmp_path)
    with pytest.raises(PublishError, match="not known"):
        bundle.build(
            with_planner(make_candidate(), "Plan."), None, site=site, evaluations=None, lineage=[], snapshot_id=1,
            out=tmp_path, now_ns=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("rail", "instruction", "source"),
    [
        ("secrets", "Write to ana@example.org.", "t1"),
        ("unbound_pseudonyms", "Write to [EMAIL_3f2a91bc].", "t1"),
        ("copied_instructions", f"Plan. {LOGGED}", "t1"),
        ("demonstrations", "Plan.", "elsewhere"),
        (None, "Plan well.", "t1"),
    ],
)
def test_guardrails_look_at_every_prompt(rail: str | None, instruction: str, source: str, make_candidate: Make) -> None:
    shown = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    pool = [{"messages": shown, "text": "q", "source": source}]
    ran = with_planner(make_candidate(), "Plan.")
    tried = with_planner(make_candidate(lineage=("t1",)), instruction, pool)
    done = Completion(text="billing", latency_ns=1_000_000)
    outcomes = [
        Outcome(case_id=f"t{n}/0", task_group=f"g{n}", completion=done, reward=1.0, valid=True) for n in range(30)
    ]
    rails = check(tried, ran, outcomes, outcomes, logged_texts=[LOGGED], policy=GuardrailPolicy())
    assert [one.name for one in rails if one.passed is not True] == ([] if rail is None else [rail])
