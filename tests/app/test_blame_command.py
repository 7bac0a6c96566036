"""tracemill blame: who stands behind each line of a candidate, as it is kept in the lake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from judged_lake import build, opened
from tool_desk import tool
from triage import BASE, RULE, SITE
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.optimize.artifact import instructions, with_instructions
from tracemill.optimize.components import with_component
from tracemill.pipelines import releasing, replaying
from tracemill.records import Artifact, Candidate, Support


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blame") / "project"
    build(root, 2)
    desk = replace(BASE, prompt={**BASE.prompt, "tools": [tool("track", "Tracks."), tool("charge", "Charges.")]})
    production = Candidate(
        branch="production", site_id=SITE.site_id, site_version="v1", optimizer="production", artifact=desk
    )
    written = replace(
        production,
        branch="prompt",
        optimizer="gepa",
        artifact=with_component(
            with_instructions(desk, f"{instructions(BASE)}{RULE}\nAnswer at once."),
            "tool:track",
            "Tracks.\nFor parcels only.",
        ),
        parent_id=production.candidate_id,
        lineage=("trajectory-1", "trajectory-2"),
        support=(
            Support(text=RULE, trajectories=("trajectory-1", "trajectory-2"), n_users=2),
            Support(text="tool track: For parcels only.", trajectories=("trajectory-2",), n_users=1),
            Support(
                text="my \x1b]0;owned\x07\x1b[2Jparcel → delivery",
                trajectories=("trajectory-1",),
                n_users=1,
                demonstration=True,
            ),
        ),
    )
    with opened(root) as night:
        for one in (production, written):
            replaying.write_candidate(night, one, snapshot=1)
        assert releasing.find_candidate(night, written.candidate_id) == written
        assert releasing.find_candidate(night, production.candidate_id) == production
    return root


def run(project: Path, *words: str) -> str:
    with opened(project) as night:
        (found,) = night.select("SELECT candidate_id FROM candidates WHERE optimizer = 'gepa'")[
            "candidate_id"
        ].to_pylist()
    result = CliRunner().invoke(app, ["blame", found[:10], "--project", str(project), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_added_line_has_its_users_and_episodes(project: Path) -> None:
    told = json.loads(run(project, "--json"))
    lines = {one["line"]: one for one in told["lines"]}
    assert lines[RULE]["n_users"] == 2
    assert lines[RULE]["trajectories"] == ["trajectory-1", "trajectory-2"]
    assert lines["Answer at once."]["added"]
    assert "n_users" not in lines["Answer at once."]
    assert not lines["  You sort tickets of {{company}}."]["added"]
    assert told["demonstrations"][0]["n_users"] == 1


def test_a_person_can_read_it(project: Path) -> None:
    shown = run(project)
    line = next(one for one in shown.splitlines() if RULE in one)
    assert line.split()[:4] == ["2", "trajecto", "trajecto", "+"]
    assert "not from logs" in shown
    line = next(one for one in shown.splitlines() if "For parcels only." in one)
    assert line.split() == ["1", "trajecto", "+", "tool", "track:", "For", "parcels", "only."]
    assert "tool track: Tracks." in shown
    assert "Charges." not in shown, "it is described as before"
    assert "parcel → delivery" in shown
    assert not {"\x1b", "\x07"} & set(shown), "what a log says does not steer the terminal"
    assert "]0;owned" in shown


def test_an_unknown_candidate_is_told(project: Path) -> None:
    result = CliRunner().invoke(app, ["blame", "feed", "--project", str(project)])
    assert result.exit_code != 0
    assert "no candidate begins with 'feed'" in result.output


def test_a_line_of_several_prompts_names_its_site(project: Path) -> None:
    plans = {**BASE.prompt, "site_id": "planning"}
    production = Candidate(
        branch="production",
        site_id=SITE.site_id,
        site_version="v1",
        optimizer="production",
        artifact=replace(BASE, others={"planning": plans}),
    )
    new = with_instructions(Artifact(prompt=plans), f"{instructions(BASE)}{RULE}").prompt
    written = replace(
        production,
        branch="prompt",
        artifact=replace(BASE, others={"planning": new}),
        parent_id=production.candidate_id,
        support=(Support(text=RULE, trajectories=("trajectory-1",), n_users=2, site_id="planning"),),
    )
    with opened(project) as night:
        for one in (production, written):
            replaying.write_candidate(night, one, snapshot=1)
        assert releasing.find_candidate(night, written.candidate_id) == written
    words = ["blame", written.candidate_id, "--project", str(project)]
    said = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    added = [line for line in said["lines"] if line["added"]]
    assert [(line["site_id"], line["line"], line["n_users"]) for line in added] == [("planning", RULE, 2)]
    shown = CliRunner().invoke(app, words).stdout
    assert "2 prompts" in shown
    assert shown.index("site planning") < shown.index(RULE)
