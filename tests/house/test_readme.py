"""What README.md tells a stranger to type works as written."""

import json
import re
import shlex
from pathlib import Path

import duckdb
import pytest
import typer.main

from tracemill.app.cli import app
from tracemill.warehouse import Lake, sql
from tracemill.warehouse.engine import extension_path

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def blocks(root: Path) -> dict[str, list[str]]:
    """Language → its blocks."""
    found: dict[str, list[str]] = {}
    for language, text in BLOCK.findall((root / "README.md").read_text()):
        found.setdefault(language, []).append(text)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lake(here: Path) -> Lake:
    """An empty lake where `tracemill init` makes it."""
    return Lake.create(here / ".tracemill/lake")


def commands(shell: list[str]) -> list[list[str]]:
    """The words of every `tracemill …` line, without comments."""
    lines = [shlex.split(line, comments=True) for text in shell for line in text.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["tracemill"]]


def test_every_command_and_option_exists(blocks: dict[str, list[str]]) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    typed = commands(blocks["sh"])
    assert len(typed) >= 8
    for name, *arguments in typed:
        assert name in known
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options, name


def test_every_make_target_exists(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (root / page).read_text()
        for line in re.findall(r"(?:^|`)make ([a-z -]+?)(?:`|$|\s{2,}|\s&&|=)", text, re.MULTILINE):
            assert set(line.split()) <= targets, page


def test_its_sql_runs_in_tracemill(blocks: dict[str, list[str]], lake: Lake) -> None:
    asked = [words for name, *words in commands(blocks["sh"]) if name == "sql"]
    queries = [word for words in asked for word in words if word.startswith("SELECT")]
    assert len(queries) == len(asked) == 4
    assert [sql.query(lake, query).num_rows for query in queries] == [0, 0, 0, 1]


def test_its_sql_runs_in_any_duckdb_client(blocks: dict[str, list[str]], lake: Lake) -> None:
    statements = [statement.strip() for statement in blocks["sql"][0].split(";") if statement.strip()]
    con = duckdb.connect(config={"autoinstall_known_extensions": False})
    # INSTALL wants the network; the same binaries come with our wheels.
    for extension in ("ducklake", "sqlite_scanner"):
        con.execute(f"LOAD '{extension_path(extension)}'")
    ran = [con.execute(one) for one in statements if not one.startswith(("INSTALL", "LOAD"))]
    assert len(ran) == 4
    con.close()


def test_its_python_reads_the_lake(blocks: dict[str, list[str]], lake: Lake) -> None:
    pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    names: dict[str, object] = {}
    exec(compile(blocks["python"][1], "README.md", "exec"), names)
    assert names["calls"].columns == ["day", "model", "tokens_out"]  # type: ignore[attr-defined]


def test_its_python_renders_a_published_prompt(blocks: dict[str, list[str]], here: Path) -> None:
    prompt = {
        "format": "tracemill.prompt/1",
        "model": "small",
        "messages": [{"role": "user", "content": ["Route: ", {"slot": "ticket"}]}],
    }
    channel = here / "published/production"
    channel.mkdir(parents=True)
    (here / "published/prompt.json").write_text(json.dumps(prompt))
    (channel / "channel.json").write_text(json.dumps({"bundle_id": "b1", "prompt": "../prompt.json"}))
    names: dict[str, object] = {}
    exec(compile(blocks["python"][0], "README.md", "exec"), names)
    assert names["messages"] == [{"role": "user", "content": "Route: My card was charged twice."}]
