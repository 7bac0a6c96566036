"""Habits of the source that no linter knows: a first sentence, a readable length, no trace of the machine."""

import ast
import re
from pathlib import Path

import pytest

# A file is read in one sitting. Longer ones are listed with the reason why they hold one noun only.
LONG: dict[str, str] = {
    "bench/redact.py": "what is planted is a long table, and a benchmark is one file",
    "src/tracemill/schema.py": "every column of every table, with what it means",
    "tests/ingest/test_redact_kinds.py": "one table of kinds with their examples",
}
MAX_LINES = 400

# Folders of somebody's machine, and package indexes other than the one of PyTorch's CPU builds.
TRACES_OF_A_MACHINE = re.compile(
    r"(?<![\w./])/(?:work|root|home/[a-z]+|Users/[A-Za-z]+|opt/pypi|opt/wheels)/"
    r"|pypi\.org|pythonhosted|artifactory|devpi|/etc/xdg/pip"
    r"|index-url[ =]+[\"']?https?://(?!download\.pytorch\.org/whl/)"
)
THIS_FILE = "tests/house/test_sources.py"

ENVIRONMENT_AND_CLOCK = {
    *("os.environ", "os.getenv", "os.putenv", "time.time", "time.time_ns", "datetime.now", "datetime.utcnow"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "date.today", "datetime.date.today"),
}
# Below `app`, what looks at them all the same, with its reason. A __main__.py is a process of its own and may.
MAY_LOOK = {
    "optimize/providers.py": "sets what LiteLLM reads once, before it loads",
    "train/worker.py": "a process of its own too: sets what torch and its friends read once, before they load",
}
BELOW_APP = {"src", "ingest", "warehouse", "mining", "rewards", "optimize", "train", "promote", "pipelines"}


@pytest.fixture(scope="module")
def texts(root: Path, files: list[Path]) -> dict[str, str]:
    """Path from the top of the checkout → text, for every text file."""
    found = {}
    for path in files:
        try:
            found[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def python(texts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if name.endswith(".py")}


def test_every_module_begins_by_saying_what_it_is_for(texts: dict[str, str]) -> None:
    silent = [name for name, text in python(texts).items() if not ast.get_docstring(ast.parse(text))]
    assert silent == []


def test_no_file_is_longer_than_one_sitting(texts: dict[str, str]) -> None:
    long = {name for name, text in texts.items() if name.endswith((".py", ".sql")) and text.count("\n") > MAX_LINES}
    assert long == set(LONG), "split it at its second noun, or list it with its reason (and unlist what got shorter)"


def test_nothing_points_to_the_machine_it_was_written_on(texts: dict[str, str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for hit in TRACES_OF_A_MACHINE.finditer(line)
        # Hand-written logs and their tests may name anybody's home.
        if name != THIS_FILE and not (name.startswith("tests/") and hit.group().startswith(("/home/", "/Users/")))
    ]
    assert found == []


def test_only_ci_knows_where_real_logs_may_lie(texts: dict[str, str]) -> None:
    assert [name for name, text in texts.items() if "../shared" in text and name != THIS_FILE] == [".ci/run"]


def test_only_app_reads_the_environment_and_the_clock(texts: dict[str, str]) -> None:
    found = set()
    for name, text in python(texts).items():
        if name.split("/")[0] not in BELOW_APP or name.endswith("/__main__.py"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ENVIRONMENT_AND_CLOCK:
                found.add(name)
    assert found == set(MAY_LOOK), "pass it in from app, or list the file with its reason"


def test_links_between_documents_lead_somewhere(root: Path, texts: dict[str, str]) -> None:
    broken = []
    for name, text in texts.items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text):
            if not (root / name).parent.joinpath(target).exists():
                broken.append(f"{name}: {target}")
    assert broken == []
