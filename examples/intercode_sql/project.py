"""Writes a tracemill project for InterCode-SQL into a folder: its settings, and the environment beside them.

    python project.py --data FOLDER --to sql [--model smollm2 | --url URL --name NAME]

FOLDER holds `intercode-sql` (runs, tasks.jsonl, databases; see README.md). It is read where it lies, never copied.
"""

import argparse
import json
import shutil
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = """\
name = "intercode-sql"

[[sources]]
path = {runs}

[tasks]
path = {tasks}
key = "task_id"
format = "intercode"
group = "db"                     # a split never cuts through a database

[[rewards]]
kind = "feedback"
[[rewards]]
kind = "sql_execution"
database = {database}
skip_output = '(?i)\\bsubmit\\W*$'

[endpoint]
{endpoint}
params = {{ temperature = 0.0, max_tokens = 96 }}

[optimize]
ladder = ["lint", "executed"]
max_tune_cases = 12
max_calls = 200

[environment]
make = "sql_shell:SqlShell"
options = {{ databases = {databases}, turns = 1 }}
max_steps = 1

[train]
enabled = false
"""


def write(data: Path, to: Path, *, endpoint: str) -> None:
    """The project in the folder `to`, which is made where it is missing."""
    folder = (data / "intercode-sql").resolve()
    if not (folder / "tasks.jsonl").is_file():
        raise SystemExit(f"there is no tasks.jsonl in {folder}: --data names the folder above intercode-sql")
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "sql_shell.py", to / "sql_shell.py")
    quoted = {
        "runs": json.dumps(str(folder / "runs" / "ic_sql_multiturn_gpt-3.5-1_turns.json")),
        "tasks": json.dumps(str(folder / "tasks.jsonl")),
        "database": json.dumps(str(folder / "databases" / "{db}.sqlite")),
        "databases": json.dumps(str(folder / "databases")),
    }
    (to / "tracemill.toml").write_text(SETTINGS.format(endpoint=endpoint, **quoted), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--model", default="smollm2", help="a small model that tracemill serves itself")
    parser.add_argument("--url", help="an OpenAI-compatible server instead")
    parser.add_argument("--name", help="the model's name there")
    given = parser.parse_args()
    local = f"local = {json.dumps(given.model)}"
    remote = f"base_url = {json.dumps(given.url)}\nmodel = {json.dumps(given.name)}"
    write(given.data, given.to, endpoint=remote if given.url else local)
    print(f"cd {given.to} && tracemill init && tracemill nightly")


if __name__ == "__main__":
    main()
