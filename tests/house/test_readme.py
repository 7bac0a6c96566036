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
def blocks(root: Path) -> dict[str, str]:
    """Language → everything in its blocks."""
    found: dict[str, str] = {}
    for language, text in BLOCK.findall((root / "README.md").read_text()):
        found[language] = found.get(language, "") + text
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lake(here: Path) -> Lake:
    """An empty lake where `tracemill init` makes it."""
    return Lake.create(here / ".tracemill/lake")


def commands(shell: str) -> list[list[str]]:
    """The words of every `tracemill …` line, without comments."""
    lines = [shlex.split(line, comments=True) for line in shell.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["tracemill"]]


def test_every_command_and_option_exists(blocks: dict[str, str]) -> None:
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


def test_its_sql_runs_in_tracemill(blocks: dict[str, str], lake: Lake) -> None:
    (query,) = [arguments[0] for name, *arguments in commands(blocks["sh"]) if name == "sql"]
    assert sql.query(lake, query).num_rows == 0


def test_its_sql_runs_in_any_duckdb_client(blocks: dict[str, str], lake: Lake) -> None:
    statements = [statement.strip() for statement in blocks["sql"].split(";") if statement.strip()]
    con = duckdb.connect(config={"autoinstall_known_extensions": False})
    # INSTALL wants the network; the same binaries come with our wheels.
    for extension in ("ducklake", "sqlite_scanner"):
        con.execute(f"LOAD '{extension_path(extension)}'")
    ran = [con.execute(one) for one in statements if not one.startswith(("INSTALL", "LOAD"))]
    assert len(ran) == 4
    con.close()


def test_its_python_renders_a_published_prompt(blocks: dict[str, str], here: Path) -> None:
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
    exec(compile(blocks["python"], "README.md", "exec"), names)
    assert names["messages"] == [{"role": "user", "content": "Route: My card was charged twice."}]
