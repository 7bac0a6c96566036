"""gepa and mipro through the settings: a model that writes instructions answers on an endpoint of its own."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toy_settings import SETTINGS
from typer.testing import CliRunner

from tracemill.app import settings
from tracemill.app.cli import app
from tracemill.pipelines import branches, flows, learning
from tracemill.pipelines.endpoint import open_endpoint
from tracemill.warehouse import Lake

pytestmark = [
    pytest.mark.skipif(find_spec("dspy") is None, reason="dspy is not installed"),
    pytest.mark.usefixtures("orchestrator"),
    pytest.mark.skipif(find_spec("prefect") is None, reason="prefect is not installed"),
]

RULE = "Read what the ticket is about, then name billing, shipping, returns or account."
QUEUES = {"invoice": "billing", "parcel": "shipping", "refund": "returns", "password": "account"}
OPTIONS: dict[str, dict[str, int]] = {"gepa": {"metric_calls": 60}, "mipro": {"trials": 4, "candidates": 3}}
FIELDS = {
    "new_instruction": RULE,
    "proposed_instruction": RULE,
    "observations": "Short tickets.",
    "summary": "Tickets and their queues.",
}


def agent(body: dict[str, Any]) -> str:
    """The toy agent: right with the rule in its system text, else it says what it always says."""
    messages = body["messages"]
    assert messages[-1]["content"].startswith("Ticket: "), "a writer's prompt came to the agent's model"
    if RULE not in messages[0]["content"]:
        return "billing"
    return next(queue for word, queue in QUEUES.items() if word in messages[-1]["content"])


def write(body: dict[str, Any]) -> str:
    """A capable model that knows the rule, whatever field it is asked to write."""
    assert body["model"] == "big"
    last = body["messages"][-1]["content"]
    (field, *_) = [name for name in FIELDS if name in last[-400:]]
    if body.get("response_format") or "JSON" in last[-400:]:
        return json.dumps({field: FIELDS[field]})
    return f"[[ ## {field} ## ]]\n{FIELDS[field]}\n\n[[ ## completed ## ]]"


searching = pytest.mark.parametrize("name", ["gepa", pytest.param("mipro", marks=pytest.mark.slow)])
both = pytest.mark.parametrize("name", sorted(OPTIONS))


def toml(name: str, endpoint: Any, writer: Any | None, **optimize: Any) -> str:
    """The toy desk's settings, with one optimizer that writes."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in optimize.items()]
    if writer is not None:
        lines += ['reflection_model = "big"', f'reflection_url = "{writer.url}"']
    knobs = "\n".join(f"{key} = {value}" for key, value in OPTIONS[name].items())
    written = "\n".join(lines)
    chosen = f'optimizers = ["{name}"]\n{written}'
    base = SETTINGS.format(url=endpoint.url).replace('optimizers = ["labeled_few_shot"]', chosen)
    return f"{base}[optimize.options.{name}]\n{knobs}\n"


def configured(desk: Any, text: str) -> Any:
    """The desk with these settings, read as every command reads them."""
    (desk.config.root / settings.SETTINGS_FILE).write_text(text)
    return replace(desk, config=settings.load(desk.config.root))


def stage(desk: Any, stage: str) -> dict[str, Any]:
    (row,) = desk.night("look").select("SELECT detail FROM runs WHERE stage = ?", stage).to_pylist()
    found: dict[str, Any] = json.loads(row["detail"])
    return found


@searching
def test_a_written_prompt_beats_production_and_its_writer_is_paid_from_the_same_budget(
    desk: Any, endpoint: Any, serve: Any, name: str
) -> None:
    endpoint.answering = agent
    writer = serve(write)
    written = configured(desk, toml(name, endpoint, writer))
    report = flows.nightly(written.night())

    scores = {one.branch: one.tune_score for one in report.candidates if one.optimizer in ("production", name)}
    assert scores["prompt"] == 1.0
    assert scores["production"] < 0.6
    (decision,) = report.decisions
    assert decision.verdict == "PROMOTE", decision.reason
    (promoted,) = [one for one in report.candidates if one.candidate_id == decision.candidate_id]
    assert promoted.optimizer == name
    assert RULE in promoted.artifact.to_json()

    assert writer.asked
    (gated,) = (
        written.night("look")
        .select("SELECT count(*) AS n FROM evaluations WHERE purpose <> 'tune' AND NOT cached")
        .to_pylist()
    )
    assert stage(desk, "optimize")["calls"] == len(writer.asked) + len(endpoint.asked) - gated["n"]


@searching
def test_the_budget_ends_a_search_and_counts_both_models(mined: Any, endpoint: Any, serve: Any, name: str) -> None:
    endpoint.answering = agent
    writer = serve(write)
    limit = {"gepa": 25, "mipro": 45}[name]  # both end after the writer was asked, and before the search is over
    night = configured(mined, toml(name, endpoint, writer, max_calls=limit, max_tune_cases=20)).night()
    (lesson,), _ = learning.choose(night)
    with open_endpoint(night) as served:
        _, detail = branches.search_prompts(night, lesson, served)
    assert "BudgetError" in detail["failed"][name]
    assert writer.asked
    assert detail["calls"] == len(writer.asked) + len(endpoint.asked) <= limit


@both
@pytest.mark.parametrize("command", ["nightly", "optimize"])
def test_without_a_writer_a_night_is_refused_before_it_begins(
    desk: Any, endpoint: Any, tmp_path: Path, name: str, command: str
) -> None:
    desk.lake.close()
    (tmp_path / settings.SETTINGS_FILE).write_text(toml(name, endpoint, None))
    refused = CliRunner().invoke(app, [command, "--project", str(tmp_path)])
    assert refused.exit_code == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("Error: ")
    assert name in line
    assert "reflection_model" in line
    with Lake.open(desk.config.lake_path) as lake, lake.reader() as con:
        assert con.execute("SELECT count(*) FROM spans").fetchone() == (0,)
        assert con.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert endpoint.asked == []


@both
def test_the_doctor_names_the_optimizer_that_has_no_writer(desk: Any, endpoint: Any, tmp_path: Path, name: str) -> None:
    desk.lake.close()
    (tmp_path / settings.SETTINGS_FILE).write_text(toml(name, endpoint, None))
    result = CliRunner().invoke(app, ["doctor", "--json", "--project", str(tmp_path)])
    assert result.exit_code == 2
    (check,) = [one for one in json.loads(result.stdout)["checks"] if one["name"] == "optimizers"]
    assert check["health"] == "fail"
    assert name in check["detail"]
    assert "reflection_model" in check["detail"]
    assert "tonight would fail: " in result.stderr
    assert "optimizers" in result.stderr


def test_a_writer_without_an_address_or_key_is_refused_too(desk: Any, endpoint: Any, tmp_path: Path) -> None:
    desk.lake.close()
    for name, more, says in (
        ("gepa", {"reflection_model": "big"}, "reflection_url"),
        (
            "mipro",
            {"reflection_model": "big", "reflection_url": "http://127.0.0.1:9/v1", "tool_descriptions": True},
            "none of the optimizers writes any; apo and gepa do",
        ),
        (
            "gepa",
            {"reflection_model": "big", "reflection_url": "http://127.0.0.1:9/v1", "reflection_key_env": "NO_SUCH_KEY"},
            "NO_SUCH_KEY",
        ),
    ):
        (tmp_path / settings.SETTINGS_FILE).write_text(toml(name, endpoint, None, **more))
        refused = CliRunner().invoke(app, ["nightly", "--project", str(tmp_path)])
        assert refused.exit_code == 2
        assert says in refused.stderr
