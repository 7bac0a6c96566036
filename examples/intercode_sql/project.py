"""Writes a tracemill project for InterCode-SQL into a folder: its settings, and the environment beside them.

    python project.py --data FOLDER --to sql [--model smollm2 | --url URL --name NAME [--writer NAME]]

With `--writer` a capable model at the same URL writes prompts from what went wrong. FOLDER holds `intercode-sql` (runs,
tasks.jsonl, databases; see README.md). It is read where it lies, never copied.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = """\
name = "intercode-sql"

{sources}

[tasks]
path = {tasks}
key = "task_id"
format = "intercode"
{group}

[[rewards]]
kind = "feedback"
[[rewards]]
kind = "sql_execution"
database = {database}
skip_output = '(?i)\\bsubmit\\W*$'

[endpoint]
{endpoint}

[optimize]
ladder = ["lint", "executed"]
max_tune_cases = {tune}
max_calls = {calls}
{writing}
[environment]
make = "sql_shell:SqlShell"
options = {{ databases = {databases}, turns = 1, looks = {looks} }}
max_steps = {steps}

[train]
enabled = false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is not the same in every project. By default what a small local model can do within minutes."""

    endpoint: str
    """Lines of `[endpoint]`: `local(…)` or `remote(…)`."""
    writing: str = ""
    """Lines of `[optimize]`: who writes prompts, and which optimizers have them written."""
    runs: tuple[str, ...] = ("ic_sql_multiturn_gpt-3.5-1_turns.json",)
    """Logs to learn from: by default those of questions without the tables."""
    tune: int = 12
    calls: int = 200
    group: str | None = "db"
    """What of a task a split never cuts through: by default a database; None: only what is nearly the same question."""
    looks: int = 2
    """How often an agent may ask how the tables are made before its one query."""


def local(model: str) -> str:
    return f"local = {json.dumps(model)}\nparams = {{ temperature = 0.0, max_tokens = 96 }}"


def remote(url: str, name: str) -> str:
    lines = f"base_url = {json.dumps(url)}\nmodel = {json.dumps(name)}"
    return f"{lines}\nparams = {{ temperature = 0.0, max_tokens = 256 }}"


def writing(url: str, name: str) -> str:
    """Lines of `[optimize]` for a model that writes prompts."""
    return (
        f"reflection_model = {json.dumps(name)}\nreflection_url = {json.dumps(url)}\n"
        'optimizers = ["logged", "labeled_few_shot", "nearest", "gepa", "apo", "playbook"]\n'
    )


def write(data: Path, to: Path, options: Options) -> None:
    """The project in the folder `to`, which is made where it is missing."""
    folder = (data / "intercode-sql").resolve()
    if not (folder / "tasks.jsonl").is_file():
        raise SystemExit(f"there is no tasks.jsonl in {folder}: --data names the folder above intercode-sql")
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "sql_shell.py", to / "sql_shell.py")
    sources = [f"[[sources]]\npath = {json.dumps(str(folder / 'runs' / name))}" for name in options.runs]
    quoted = {
        "sources": "\n".join(sources),
        "tasks": json.dumps(str(folder / "tasks.jsonl")),
        "database": json.dumps(str(folder / "databases" / "{db}.sqlite")),
        "databases": json.dumps(str(folder / "databases")),
    }
    settings = SETTINGS.format(
        endpoint=options.endpoint,
        writing=options.writing,
        group="" if options.group is None else f"group = {json.dumps(options.group)}",
        tune=options.tune,
        calls=options.calls,
        looks=options.looks,
        steps=1 + options.looks,
        **quoted,
    )
    (to / "tracemill.toml").write_text(settings, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--model", default="smollm2", help="a small model that tracemill serves itself")
    parser.add_argument("--url", help="an OpenAI-compatible server instead")
    parser.add_argument("--name", help="the model's name there")
    parser.add_argument("--writer", help="a model there that writes prompts")
    parser.add_argument("--calls", type=int, default=200, help="what the search may spend on both models")
    given = parser.parse_args()
    if (given.name is None or given.url is None) and (given.name or given.url or given.writer):
        parser.error("--url and --name go together, and --writer needs both")
    options = Options(
        endpoint=remote(given.url, given.name) if given.url else local(given.model),
        writing=writing(given.url, given.writer) if given.writer else "",
        calls=given.calls,
    )
    write(given.data, given.to, options)
    print(f"cd {given.to} && tracemill init && tracemill nightly")


if __name__ == "__main__":
    main()
