"""JSON Schema, numbers and functions of the project as verifiers."""

import json
import sys
from pathlib import Path
from typing import Any

import logged_case
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.errors import ConfigError
from tracemill.records import Case
from tracemill.rewards import RewardSpec, build
from tracemill.rewards.json_schema import JsonSchema
from tracemill.rewards.numeric import Numeric, numbers
from tracemill.rewards.python_callable import PythonCallable
from tracemill.rewards.schemas import BadSchemaError, validator
from tracemill.rewards.verifying import Judgement

TICKET = {
    "type": "object",
    "properties": {
        "team": {"type": "string", "enum": ["billing", "shipping"]},
        "urgent": {"type": "boolean"},
        "amount": {"type": "number"},
        "count": {"type": "integer"},
    },
    "required": ["team"],
    "additionalProperties": False,
}


def case(correction: str | None = None, **task: Any) -> Case:
    return logged_case.case(correction=correction, task=task)


def test_json_of_the_right_form_is_right_also_in_a_fence(tmp_path: Path) -> None:
    form = JsonSchema(root=tmp_path, schema=TICKET)
    assert form.verify(case(), '{"team": "billing", "count": 2}') == 1.0
    assert form.verify(case(), 'Here:\n```json\n{"team": "billing"}\n```\nAnything else?') == 1.0
    assert JsonSchema(root=tmp_path, schema=TICKET, whole=True).verify(case(), '```json\n{"team": "billing"}\n```') == 0
    for wrong in ('{"team": "sales"}', "{}", '{"team": "billing", "x": 1}', "billing", '{"team": "billing"', ""):
        assert form.verify(case(), wrong) == 0.0


def test_a_schema_may_stand_in_a_file_and_its_text_is_part_of_the_version(tmp_path: Path) -> None:
    (tmp_path / "ticket.json").write_text(json.dumps(TICKET))
    one = JsonSchema(root=tmp_path, schema="ticket.json")
    assert one.verify(case(), '{"team": "billing"}') == 1.0
    (tmp_path / "ticket.json").write_text(json.dumps({**TICKET, "required": []}))
    assert JsonSchema(root=tmp_path, schema="ticket.json").version != one.version
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        JsonSchema(root=tmp_path, schema="nowhere.json")
    with pytest.raises(ConfigError, match="no JSON Schema"):
        JsonSchema(root=tmp_path, schema={"type": "objekt"})


def test_a_reference_is_never_fetched_and_leads_to_an_abstention(tmp_path: Path) -> None:
    schema = {"$ref": "http://127.0.0.1:1/schema.json"}
    with pytest.raises(BadSchemaError, match="Unresolvable"):
        validator(schema).fault("{}")
    assert JsonSchema(root=tmp_path, schema=schema).verify(case(), "{}") is None


def test_a_pattern_of_a_schema_takes_linear_time_or_forbids_nothing() -> None:
    check = validator({"type": "string", "pattern": "^(a+)+$"})
    assert check.fault(json.dumps("a" * 200_000)) is None
    assert "does not match" in str(check.fault(json.dumps("a" * 40 + "b")))
    assert validator({"type": "string", "pattern": "(?=x)y"}).fault('"z"') is None


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([1.0, 1.5, "billing", "x", "", [], {}, "1"])
)
_KEYS = st.sampled_from(["team", "urgent", "amount", "count", "other"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES), st.booleans())
def test_the_quick_way_says_what_the_library_says(value: dict[str, Any], closed: bool) -> None:
    check = validator({**TICKET, "additionalProperties": not closed})
    assert check._quick is not None
    assert check.fault(json.dumps(value)) == check.fault_of(value)


def test_numbers_are_found_in_words() -> None:
    assert numbers("It is 1,234.50 or −3, about 12 % (v2.1, 1e3, .5).") == [1234.5, -3.0, 12.0, 1000.0, 0.5]
    assert numbers("none") == []
    assert numbers("1e999") == []


def test_a_number_is_right_within_its_tolerance() -> None:
    near = Numeric(attribute="answer", abs_tol=0.01, rel_tol=0.0)
    assert near.verify(case(answer=3), "First 7, then 3.009.") == 1.0
    assert near.verify(case(answer=3), "3.02") == 0.0
    assert near.verify(case(answer=3), "three") == 0.0
    assert near.verify(case("3 or 4"), "3") is None
    assert near.verify(case(), "3") is None
    assert near.verify(case("4", answer=3), "4") == 1.0
    assert Numeric(rel_tol=0.1).verify(case("1000"), "1,090") == 1.0
    assert Numeric(rel_tol=0.1).verify(case("1000"), "1,200") == 0.0
    assert Numeric(pick="first").verify(case("7"), "7 of 9") == 1.0
    assert Numeric(pick="only").verify(case("7"), "7 of 9") == 0.0
    with pytest.raises(ConfigError, match="unknown pick 'most'; known: last, first, only"):
        Numeric(pick="most")
    with pytest.raises(ConfigError, match="below 0"):
        Numeric(abs_tol=-1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("desk_checks", "broken_checks")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "desk_checks").mkdir()
    (tmp_path / "desk_checks" / "__init__.py").write_text("")
    (tmp_path / "desk_checks" / "limits.py").write_text("LIMIT = 5\n")
    (tmp_path / "desk_checks" / "refund.py").write_text(
        "from desk_checks.limits import LIMIT\n\n"
        "def short(output, case):\n    return len(output) <= LIMIT\n\n"
        "class Rules:\n    @staticmethod\n    def half(output, case):\n        return 0.5\n\n"
        "def fails(output, case):\n    raise KeyError('amount')\n\n"
        "def odd(output, case):\n    return 'much'\n\n"
        "def big(output, case):\n    return 7\n\n"
        "def quiet(output, case):\n    return None\n\n"
        "def unsure(output, case):\n    return 0.8, 0.6\n\n"
        "def upside_down(output, case):\n    return 0.6, 0.8\n"
    )
    return tmp_path


def judge(root: Path, function: str) -> PythonCallable:
    return PythonCallable(root=root, callable=f"desk_checks.refund:{function}")


def test_a_function_of_the_project_judges(project: Path) -> None:
    path = list(sys.path)
    assert judge(project, "short").verify(case(), "yes") == 1.0
    assert judge(project, "short").verify(case(), "certainly") == 0.0
    assert judge(project, "Rules.half").verify(case(), "x") == 0.5
    assert judge(project, "quiet").explain(case(), "x") == Judgement(value=None, low=None)
    assert judge(project, "unsure").explain(case(), "x") == Judgement(value=0.8, low=0.6)
    assert "no value and bound" in str(judge(project, "upside_down").explain(case(), "x").error)
    assert sys.path == path


def test_what_a_function_is_not_sure_of_has_a_lower_bound_in_the_logs_too(project: Path, lake: Any) -> None:
    lake.trajectory("t", "x")
    spec = RewardSpec(kind="python", name="unsure", options={"callable": "desk_checks.refund:unsure"})
    (model,) = build([spec], root=project)
    (row,) = model.score(lake.con, now_ns=1).to_pylist()
    assert (row["value"], row["confidence"]) == (0.8, pytest.approx(0.6))


def test_a_function_that_fails_abstains_and_the_log_says_why(project: Path, lake: Any) -> None:
    lake.trajectory("t", "x")
    said = {}
    for function in ("fails", "odd", "big"):
        spec = RewardSpec(kind="python", name=function, options={"callable": f"desk_checks.refund:{function}"})
        (model,) = build([spec], root=project)
        (row,) = model.score(lake.con, now_ns=1).to_pylist()
        assert row["value"] is None
        said[function] = json.loads(row["evidence"])["error"]
    assert said == {
        "fails": "KeyError: 'amount'",
        "odd": "said 'much', which is no number",
        "big": "said 7.0, which is not in [0, 1]",
    }


def test_the_version_follows_the_text_of_the_module(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = judge(project, "short").version
    assert judge(project, "short").version == before != judge(project, "quiet").version
    file = project / "desk_checks" / "refund.py"
    file.write_text(file.read_text() + "\n# stricter\n")
    assert judge(project, "short").version != before


@pytest.mark.parametrize(
    ("dotted", "says"),
    [
        ("desk_checks.refund", "not of the form package.module:function"),
        ("desk_checks.refund:1", "not of the form"),
        ("desk_checks.refund:nothing", "has no function nothing"),
        ("desk_checks.gone:short", "cannot be imported from .*No module named 'desk_checks.gone'"),
        ("broken_checks:x", "SyntaxError"),
        ("desk_checks.limits:LIMIT", "has no function LIMIT"),
    ],
)
def test_what_cannot_be_imported_is_told(project: Path, dotted: str, says: str) -> None:
    (project / "broken_checks.py").write_text("def (:\n")
    with pytest.raises(ConfigError, match=says):
        PythonCallable(root=project, callable=dotted)


def test_names_that_are_taken_are_refused(project: Path, tmp_path: Path) -> None:
    (project / "json.py").write_text("def f(output, case): return 1\n")
    with pytest.raises(ConfigError, match="json is a module of Python itself"):
        PythonCallable(root=project, callable="json:f")
    judge(project, "short")
    other = tmp_path / "other"
    (other / "desk_checks").mkdir(parents=True)
    (other / "desk_checks" / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match="another module desk_checks is loaded already"):
        PythonCallable(root=other, callable="desk_checks:f")
