"""What every reward model and every verifier must do. A new one is one line in CASES or VERIFIER_CASES."""

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_server import Shown, honest, judge_server
from logged_case import case

from tracemill.errors import ConfigError
from tracemill.optimize.endpoint import HttpChatModel
from tracemill.protocols import RewardModel
from tracemill.rewards import RewardSpec, build, build_verifier, code
from tracemill.rewards.llm.asking import AsksModel
from tracemill.rewards.registry import MODELS, VERIFIERS
from tracemill.schema import SCORES

CASES = {
    "feedback": RewardSpec(kind="feedback", name="feedback"),
    "signals": RewardSpec(kind="signals", name="signals"),
    "tools": RewardSpec(kind="tools", name="tools"),
    "judge": RewardSpec(kind="judge", name="judge"),
    "ranker": RewardSpec(kind="ranker", name="ranker"),
    "learned": RewardSpec(kind="learned", name="learned"),
    "preference": RewardSpec(kind="preference", name="preference", options={"base_model": "models/tiny"}),
    "tool_steps": RewardSpec(kind="tool_steps", name="tool_steps"),
    "sql_expression": RewardSpec(
        kind="sql_expression", name="short", options={"view": "transitions", "expression": "step < 1"}
    ),
    "exact_match": RewardSpec(kind="exact_match", name="exact"),
    "json_schema": RewardSpec(kind="json_schema", name="json", options={"schema": {"type": "object"}}),
    "numeric": RewardSpec(kind="numeric", name="numeric", options={"attribute": "n"}),
    "python": RewardSpec(kind="python", name="python", options={"callable": "contract_checks:short"}),
    "regex": RewardSpec(kind="regex", name="one_word", options={"pattern": r"\w+", "whole": True}),
    "sql_execution": RewardSpec(kind="sql_execution", name="sql", options={"database": "{db}.sqlite"}),
}
VERIFIER_CASES = {  # kind -> right output, wrong output, of the case below
    "exact_match": ("Billing", "shipping"),
    "json_schema": ('{"team": "billing"}', "billing"),
    "numeric": ("It is 12.0.", "It is 13."),
    "python": ("billing", "billing, I think"),
    "regex": ("billing", "billing, I think"),
    "sql_execution": ("SELECT name FROM singer", "SELECT 1"),
}
OTHER = {
    "feedback": {"env_names": ["score"]},
    "signals": {"languages": ["en"]},
    "tools": {},
    "judge": {"criteria": {"polite": "Is it polite?"}},
    "ranker": {"size": 3},
    "learned": {"bags": 1},
    "preference": {"steps": 3},
    "tool_steps": {"values": {"error": 0.5}},
    "sql_expression": {"fold": "max"},
    "exact_match": {"casefold": False},
}
OTHER |= {"json_schema": {"whole": True}, "numeric": {"abs_tol": 1.0}, "python": {"callable": "contract_checks:never"}}
OTHER |= {"regex": {"pattern": "x"}, "sql_execution": {"timeout_s": 1.0}}


LOCKED = {"judge", "ranker", "preference"}
"""Whoever is paid, or trained, for an answer is asked anew where the question changes, not where the code does."""

PYTHON = """
def short(output, case):
    return len(output) < 10


def never(output, case):
    return False
"""


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    def says(shown: Shown) -> str:
        return honest(shown) if "rubric" in shown.sections else '{"ranking": ["A", "B"]}'

    with judge_server(says) as server:
        yield server.url


@pytest.fixture
def build_model(model_url: str, root: Path) -> Callable[[RewardSpec], RewardModel]:
    """A model as a night runs it: those that ask somebody have somebody to ask."""

    def made(spec: RewardSpec) -> RewardModel:
        (model,) = build([spec], root=root)
        return model.asking(HttpChatModel(model_url), "m") if isinstance(model, AsksModel) else model

    return made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    con = sqlite3.connect(tmp_path / "d.sqlite")
    con.execute("create table singer (name text)")
    con.execute("insert into singer values ('Ann'), ('Bea')")
    con.commit()
    con.close()
    (tmp_path / "contract_checks.py").write_text(PYTHON)
    monkeypatch.delitem(sys.modules, "contract_checks", raising=False)
    return tmp_path


@pytest.fixture
def filled(lake: Any) -> Any:
    lake.add(
        "tasks",
        {"task_key": "k", "attributes": '{"db": "d", "n": 12, "gold": "SELECT name FROM singer ORDER BY name DESC"}'},
    )
    lake.trajectory("good", "SELECT name FROM singer", task_key="k", session_id="s1")
    lake.trajectory("bad", "SELECT 'nobody'", "billing", task_key="k", session_id="s2")
    lake.trajectory("quiet", session_id="s3")
    lake.tool("good", "ok", "unset")
    lake.tool("bad", "ok", "error")
    lake.add("spans", {"trace_id": "good", "span_id": "copied", "kind": "event", "name": "answer.copied"})
    lake.score("good", "thumbs", 1.0, source="user")
    lake.score("bad", "correction", label="Shipping", source="human", propensity=0.5)
    lake.score("bad", "reward", 0.0, source="env")
    return lake


def test_every_registered_kind_is_in_this_suite() -> None:
    assert set(CASES) == {*MODELS, *VERIFIERS}
    assert set(VERIFIER_CASES) == set(VERIFIERS)


@pytest.mark.parametrize("kind", CASES)
def test_rows_are_scores_and_values_are_rewards_or_null(
    kind: str, filled: Any, build_model: Callable[[RewardSpec], RewardModel]
) -> None:
    model = build_model(CASES[kind])
    rows = model.score(filled.con, now_ns=77)
    assert rows.schema == SCORES
    assert len(rows) > 0
    for row in rows.to_pylist():
        assert row["value"] is None or 0 <= row["value"] <= 1
        assert (row["name"], row["version"], row["target_kind"], row["at"]) == (
            model.name,
            model.version,
            model.level,
            77,
        )
        assert row["target_id"] in {"good", "bad", "quiet", "s1", "s2", "good/0", "bad/0", "bad/1"}
        assert row["source"] is not None
    assert len(set(rows["score_id"].to_pylist())) == len(rows)


@pytest.mark.parametrize("kind", CASES)
def test_nothing_is_judged_twice_by_one_version(
    kind: str, filled: Any, build_model: Callable[[RewardSpec], RewardModel]
) -> None:
    model = build_model(CASES[kind])
    assert filled.run(model, now=1)
    assert filled.run(model, now=2) == {}


@pytest.mark.parametrize("kind", CASES)
def test_the_version_follows_the_options_and_nothing_else(kind: str, root: Path) -> None:
    spec = CASES[kind]
    (one,), (same,) = build([spec], root=root), build([spec], root=root)
    changed = RewardSpec(
        kind=kind, name=spec.name if OTHER[kind] else "renamed", options={**spec.options, **OTHER[kind]}
    )
    (other,) = build([changed], root=root)
    assert one.version == same.version != other.version


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Makes every file of the room of this suffix read as if this stood at its end."""
    unedited = code._read

    def edit(suffix: str, more: str) -> None:
        monkeypatch.setattr(code, "_read", lambda path: unedited(path) + (more if path.endswith(suffix) else ""))
        code.code.cache_clear()

    yield edit
    code.code.cache_clear()


@pytest.mark.parametrize("kind", CASES)
def test_the_version_follows_the_code_and_no_comment(kind: str, root: Path, edited: Callable[[str, str], None]) -> None:
    def version() -> str:
        (model,) = build([CASES[kind]], root=root)
        return model.version

    before = version()
    edited(".py", '\n\n# a remark\n"""Another."""\n')
    assert version() == before
    edited(".sql", "\n  -- a remark\n /* and\nanother */ ")
    assert version() == before
    edited(".py", "\n_ANOTHER = 1\n")
    assert (version() == before) == (kind in LOCKED)
    edited(".sql", "\nlimit 7")
    assert (version() == before) == (kind in {*LOCKED, "sql_expression"})  # whose query is its option


def test_what_is_not_of_a_model_does_not_change_its_version(root: Path, edited: Callable[[str, str], None]) -> None:
    (regex, signals) = build([CASES["regex"], CASES["signals"]], root=root)
    before = regex.version, signals.version
    edited("/signals.sql", "\nlimit 7")
    assert regex.version == before[0]
    assert signals.version != before[1]


@pytest.mark.parametrize("kind", CASES)
def test_an_empty_lake_gives_no_rows(kind: str, lake: Any, build_model: Callable[[RewardSpec], RewardModel]) -> None:
    model = build_model(CASES[kind])
    rows = model.score(lake.con, now_ns=1)
    assert (rows.schema, len(rows)) == (SCORES, 0)


@pytest.mark.parametrize("kind", VERIFIER_CASES)
def test_a_verifier_tells_right_from_wrong_and_is_stable(kind: str, root: Path) -> None:
    verifier = build_verifier(CASES[kind], root)
    right, wrong = VERIFIER_CASES[kind]
    known = case(
        correction=None if kind == "numeric" else "billing",
        task={"db": "d", "n": 12, "gold": "SELECT name FROM singer"},
    )
    assert [verifier.verify(known, text) for text in (right, wrong, right)] == [1.0, 0.0, 1.0]
    assert verifier.name == CASES[kind].name


@pytest.mark.parametrize("kind", ["exact_match", "numeric", "sql_execution"])
def test_a_verifier_abstains_where_the_right_answer_is_not_known(kind: str, root: Path) -> None:
    assert build_verifier(CASES[kind], root).verify(case(), "billing") is None


def test_an_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'magic'; known: exact_match, feedback, json_schema"):
        build([RewardSpec(kind="magic", name="m")], root=tmp_path)


def test_an_unknown_or_missing_option_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind regex has no option patern; known: forbid, pattern, whole"):
        build([RewardSpec(kind="regex", name="m", options={"patern": "x"})], root=tmp_path)
    with pytest.raises(ConfigError, match="pattern"):
        build([RewardSpec(kind="regex", name="m")], root=tmp_path)
    with pytest.raises(ConfigError, match="no regular expression"):
        build([RewardSpec(kind="regex", name="m", options={"pattern": "("})], root=tmp_path)


def test_two_rewards_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="several rewards are named a"):
        build([RewardSpec(kind="tools", name="a"), RewardSpec(kind="feedback", name="a")], root=tmp_path)


def test_what_judges_logs_only_cannot_verify_a_replay(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot verify a replayed output"):
        build_verifier(CASES["sql_expression"], tmp_path)
