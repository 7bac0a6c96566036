"""The report of a night: true to the lake, and one file that needs nothing beside itself."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tracemill.app.report import facts, page, terminal
from tracemill.optimize import choosing
from tracemill.pipelines import branches, gating, ingesting, judging, learning, releasing
from tracemill.pipelines.endpoint import open_endpoint

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def night(mined_project: Path, attended: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A night by hand, stage by stage, up to the release."""
    root = tmp_path_factory.mktemp("report") / "project"
    shutil.copytree(mined_project, root)
    night = attended(root).night()
    (lesson,), _ = learning.choose(night)
    with open_endpoint(night) as endpoint, night.stage("optimize"):
        found, _ = branches.search_prompts(night, lesson, endpoint)
        (decision,) = gating.judge(night, lesson, choosing.winner(found), endpoint)
        assert decision.verdict == "PROMOTE", decision.reason
        releasing.release(night, choosing.winner(found)[0], channel="production", actor="test")
    return night


def test_a_report_is_one_page_with_the_outcome_the_verdict_and_the_answers(night: Any, tmp_path: Path) -> None:
    found = facts.gather(night.lake, title="A night", versions={})
    assert [arm.name for arm in found.gate] == ["production", "best prompt"]
    by_name = {arm.name: arm for arm in found.gate}
    assert by_name["production"].mean is not None
    assert by_name["best prompt"].mean is not None
    assert by_name["best prompt"].mean > by_name["production"].mean
    assert "+" in found.diff
    assert all("error" not in answer.table.column_names for answer in found.answers if answer.table.num_rows)

    html = page.write(found, tmp_path / "report.html").read_text()
    assert "PROMOTE" in html
    assert html.count("<svg") == 2
    assert not re.search(r"""(src|href)=["']?(http|//)""", html)
    assert "<script" not in html
    for answer in found.answers:
        assert answer.question.split(",")[0] in html

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the process
    console.print(terminal.render(found))
    console.file.close()
    shown = console.export_text()
    assert "PROMOTE" in shown
    assert "best prompt" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_logged_text_cannot_break_out_of_the_page(night: Any) -> None:
    found = facts.gather(night.lake, title="<script>alert(1)</script>", versions={})
    assert "<script>" not in page.render(found)


def test_a_trajectory_of_several_calls_counts_once(desk: Any, tmp_path: Path) -> None:
    path = next((tmp_path / "logs").glob("traces-*.jsonl"))
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    for number, request in enumerate(requests):
        spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
        for span in spans:
            span["attributes"].append({"key": "gen_ai.agent.version", "value": {"stringValue": "new"}})
        if number == 0:  # one ticket took nine calls, of a hundred tokens more
            for more in range(8):
                call = json.loads(json.dumps(spans[1]))
                call["spanId"] = f"{999_000 + more:016x}"
                for attribute in call["attributes"]:
                    if attribute["key"] == "gen_ai.usage.input_tokens":
                        attribute["value"]["intValue"] = "162"
                spans.append(call)
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    night = desk.night()
    with replace(night, clock=lambda: 1).stage("before"):
        pass
    ingesting.take_in_configured(night)
    judging.score(night)
    (arm,) = facts.gather(desk.lake, title="", versions={"new": "new"}).live
    assert arm.n == 100
    assert arm.tokens_in == pytest.approx((99 * 50 + (50 + 8 * 162) / 9) / 100)
