"""The reference pages are complete and true: every setting with its default, every view with its columns."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tracemill.optimize.optimizers import OPTIMIZERS
from tracemill.pipelines.config import Config
from tracemill.schema import TABLES
from tracemill.train.registry import TRAINERS
from tracemill.warehouse import Lake, sql


def sections(page: str, level: str) -> dict[str, str]:
    """Text by the first code word of its heading; what has none stands under the empty name."""
    found: dict[str, str] = {}
    for part in re.split(rf"^{level} ", page, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        name = re.match(r"`([^`]+)`", heading)
        found[name.group(1).strip("[]") if name else ""] = found.get(name.group(1) if name else "", "") + text
    return found


def settings(kind: type, section: str = "") -> Iterator[tuple[str, str, Any]]:
    """Section, key and default of everything that a tracemill.toml may hold."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if field.name == "root":
            continue
        inner = next(
            (
                one
                for one in (hints[field.name], *get_args(hints[field.name]))
                if isinstance(one, type) and is_dataclass(one)
            ),
            None,
        )
        if inner is not None:
            yield from settings(inner, field.name)
        else:
            yield section, field.name, field.default


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake.create(tmp_path_factory.mktemp("lake") / "lake")


def test_every_setting_is_explained_with_its_default(root: Path) -> None:
    page = sections((root / "docs/settings.md").read_text(), "##")
    seen = 0
    for section, key, default in settings(Config):
        rows = re.findall(rf"^\| `{key}` \| (.*?) \| (.+?) \|$", page[section], re.MULTILINE)
        assert len(rows) == 1, f"[{section}] {key}"
        if default is not MISSING and default is not None:
            shown = str(list(default) if isinstance(default, tuple) else default).replace("'", '"')
            quoted = f'"{default}"' if isinstance(default, str) else shown
            assert rows[0][0] == f"`{quoted.lower() if isinstance(default, bool) else quoted}`", f"[{section}] {key}"
        seen += 1
    assert seen > 40


def test_every_knob_is_named_with_its_default(root: Path) -> None:
    page = " ".join((root / "docs/settings.md").read_text().split())
    for name, kind in {**OPTIMIZERS, **TRAINERS}.items():
        (text,) = re.findall(rf"`{name}` ((?:`\w+ = [^`]+`(?:, )?)+)", page)
        knobs = {
            field.name: list(field.default) if isinstance(field.default, tuple) else field.default
            for field in fields(kind)  # type: ignore[arg-type]
            if field.name not in ("seed", "init_adapter", "reflection", "prompt_model")
        }
        assert {key: json.loads(value) for key, value in re.findall(r"`(\w+) = ([^`]+)`", text)} == knobs, name


def test_no_setting_is_explained_that_is_none(root: Path) -> None:
    page = sections((root / "docs/settings.md").read_text(), "##")
    known = {(section, key) for section, key, _ in settings(Config)}
    kinds = {"feedback", "tools", "sql_expression", "exact_match", "regex", "sql_execution"}
    for section, text in page.items():
        for key in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE):
            assert (section, key) in known or (section == "rewards" and key in kinds), f"[{section}] {key}"


def test_every_example_query_runs_on_an_empty_lake(root: Path, lake: Lake) -> None:
    queries = re.findall(r"```sql\n(.*?)```", (root / "docs/sql.md").read_text(), re.DOTALL)
    assert len(queries) == 8
    for query in queries:
        assert sql.query(lake, query).num_rows == 0, query


def test_every_view_and_every_column_of_it_is_listed(root: Path, lake: Lake) -> None:
    page = sections((root / "docs/sql.md").read_text().partition("## Tables")[0], "###")
    views = {path.stem for path in (root / "warehouse/views").glob("*.sql")}
    assert set(page) == views
    for view, text in page.items():
        names = sql.query(lake, f"SELECT * FROM {view} LIMIT 0").column_names
        assert re.findall(r"`(\w+)`", text) == names, view


def test_every_table_is_listed(root: Path) -> None:
    text = (root / "docs/sql.md").read_text().partition("## Tables")[2].partition("## Eight")[0]
    rows = "".join(line for line in text.splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(TABLES)
