"""Findings as a person meets them: mined from a real lake, reported, listed, opened, and gone with what they show."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_lines import spans, texts
from rich.console import Console
from typer.testing import CliRunner

from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.app.commands import findings as commands
from tracemill.mining.findings import Found
from tracemill.mining.patterns.graph import GRAPH, VARIANTS
from tracemill.pipelines import forgetting, ingesting
from tracemill.pipelines.night import Night, rows
from tracemill.schema import FINDINGS
from tracemill.warehouse import Lake

START = 1_790_000_000_000_000_000
MINUTE = 60 * 10**9
USERS = ("alice-4711", "bob-0815", "carol-1234")


def episode(number: int, cancels: bool) -> Iterator[dict[str, Any]]:
    def span(place: int, name: str, wrong: bool = False, **attributes: Any) -> dict[str, Any]:
        found: dict[str, Any] = {
            "traceId": f"{number + 1:032x}",
            "spanId": f"{(number + 1) * 100 + place:016x}",
            "name": name,
            "startTimeUnixNano": str(START + number * 7 * MINUTE + place * 10**9),
            "endTimeUnixNano": str(START + number * 7 * MINUTE + place * 10**9 + 10**8),
            "attributes": texts(**attributes, user__id=USERS[number % 3], gen_ai__agent__name="desk"),
        }
        if wrong:
            found["status"] = {"code": 2, "message": f"order {number} is locked"}
        return found

    tools = ["cancel_order" if cancels else "read_order", *(["read_order"] if number % 2 else [])]
    for place, tool in enumerate(tools):
        yield span(
            place, f"execute_tool {tool}", cancels and place == 0, gen_ai__operation__name="execute_tool",
            gen_ai__tool__name=tool, gen_ai__tool__call__arguments=json.dumps({"id": number}),
        )  # fmt: skip
    said = [{"role": "assistant", "parts": [{"type": "text", "content": f"that is all of {number}"}]}]
    yield span(
        9, "chat m", gen_ai__operation__name="chat", gen_ai__request__model="m",
        gen_ai__output__messages=json.dumps(said), metadata__plan="free" if cancels else "pro",
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose agent mostly fails where cancelling an order fails."""
    project = tmp_path_factory.mktemp("desk")
    # All episodes are one task group, which the lake's own key would put into the gate pool now and then.
    told = '[split]\ngate_share = 1e-9\n[mining]\nno_segments = ["plan"]\n'  # the plan says the same as the tool
    (project / "tracemill.toml").write_text(told)
    log, rng = project / "log.jsonl", random.Random(0)
    cancels = [rng.random() < 0.4 for _ in range(500)]
    log.write_text("".join(spans(*episode(number, one)) for number, one in enumerate(cancels)))
    config = settings.load(project)
    with Lake.create(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: START)
        ingesting.take_in(night, [log])
        judged = [
            {
                "score_id": f"c{number}", "target_kind": "trajectory", "target_id": f"{number + 1:032x}", "at": START,
                "name": "combined", "value": float(rng.random() > (0.85 if one else 0.1)), "source": "code",
            }
            for number, one in enumerate(cancels)
        ]  # fmt: skip
        with lake.transaction("judged") as tx:
            tx.insert("scores", rows("scores", judged))
    return project


def run(*arguments: str, project: Path, width: int = 80) -> Any:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(app, [*arguments, "--project", str(project)])


def answer(*arguments: str, project: Path) -> dict[str, Any]:
    result = run(*arguments, "--json", project=project)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def mined(made: Path) -> dict[str, Any]:
    """What `tracemill mine` reported of it."""
    assert answer("findings", project=made)["findings"] == []
    assert "nothing was found" in run("findings", project=made).stdout
    return answer("mine", project=made)


def test_mining_reports_what_goes_with_failure_and_findings_opens_it(made: Path, mined: dict[str, Any]) -> None:
    report = mined
    assert report["confirmed"] == 1
    (finding,) = [row for row in report["findings"] if row["status"] == "confirmed"]
    assert finding["what"] == 'The tool "cancel_order" fails.'
    assert (finding["agent_name"], finding["n_users"]) == ("desk", 3)
    assert any(row["from"].startswith("cancel_order") for row in report["bottlenecks"])
    assert report["variants"][0]["acts"][-1] == "model", "of a single site the number tells nothing"
    edges = [edge for edge in report["graph"] if edge["from"] == "cancel_order (fails)"]
    assert sum(edge["n_failure"] for edge in edges) > sum(edge["n_success"] for edge in edges)
    assert {edge["agent_name"] for edge in edges} == {"desk"}
    sql = "SELECT from_act, to_act, n, n_failure FROM process_edges ORDER BY ALL"
    asked = answer("sql", sql, project=made)
    told = sorted([row["from"], row["to"], row["n"], row["n_failure"]] for row in report["graph"])
    assert asked["rows"] == told
    listed = answer("findings", project=made)["findings"]
    assert finding["finding_id"] in {row["finding_id"] for row in listed}
    opened = answer("findings", "show", finding["finding_id"][:8], project=made)
    assert opened["finding_id"] == finding["finding_id"]
    assert {step["trajectory_id"] for step in opened["steps"]} == {finding["exemplars"][0]}
    assert next(step["name"] for step in opened["steps"] if step["kind"] == "tool") == "cancel_order"
    assert "is locked" in opened["steps"][0]["error"]


def test_where_nobody_judged_it_is_not_said_that_nothing_goes_with_failure(capsys: pytest.CaptureFixture[str]) -> None:
    empty = {"findings": FINDINGS, "graph": GRAPH, "variants": VARIANTS}
    found = Found(**{name: schema.empty_table() for name, schema in empty.items()}, acts=[], episodes=3)
    Console().print(commands.report(found))
    said = capsys.readouterr().out
    assert "No episode was judged" in said
    assert "Nothing goes with failure" not in said


@pytest.mark.usefixtures("mined")
@pytest.mark.parametrize("width", [80, 120])
def test_what_is_shown_fits_the_screen(made: Path, width: int) -> None:
    shown = run("mine", project=made, width=width).stdout
    assert "What goes with failure" in shown
    assert "Where time goes" in shown
    finding = answer("findings", project=made)["findings"][0]["finding_id"]
    for text in (
        shown,
        *(run(*one, project=made, width=width).stdout for one in (["findings"], ["findings", "show", finding])),
    ):
        assert max(map(len, text.splitlines())) <= width
        assert 'The tool "cancel_order" fails.' in text


@pytest.mark.usefixtures("mined")
def test_a_finding_that_is_not_there_says_so(made: Path) -> None:
    for words, told in ((["show", "zz"], "no finding"), (["show"], "findings show"), (["open", "x"], "findings show")):
        result = run("findings", *words, project=made)
        assert result.exit_code == 2
        assert told in result.output


@pytest.mark.usefixtures("mined")
def test_a_finding_goes_with_a_user_who_is_among_its_examples_or_in_its_words(made: Path, tmp_path: Path) -> None:
    config = settings.load(made)
    with Lake.open(config.lake_path) as lake:
        night = Night(night_id="n", config=config, lake=lake, clock=lambda: START)
        (finding,) = night.select("SELECT * FROM findings WHERE status = 'confirmed'").to_pylist()
        named = {
            "finding_id": "named", "kind": "contrast", "what": f"The document is of {USERS[0]}.", "exemplars": ["none"],
        }  # fmt: skip
        with lake.transaction("named") as tx:
            tx.insert("findings", rows("findings", [named, {**named, "finding_id": "other", "what": "another"}]))
        shown = {*finding["exemplars"], *finding["counter_exemplars"]}
        users = night.select("SELECT DISTINCT trace_id, user_key FROM spans").to_pylist()
        assert {row["user_key"] for row in users if row["trace_id"] in shown} >= {users[0]["user_key"]}
        forgetting.forget(night, user=USERS[0], landing=tmp_path)
        left = {row["finding_id"] for row in night.select("SELECT finding_id FROM findings").to_pylist()}
        assert left == {"other"}
