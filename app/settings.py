"""From `tracemill.toml` and the environment to a Config. The only reader of the environment, beside the clock."""

import os
import re
import secrets
import time
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tracemill.errors import ConfigError
from tracemill.pipelines import rungs
from tracemill.pipelines.config import Config, RewardConfig

SETTINGS_FILE = "tracemill.toml"

TEMPLATE = """\
# tracemill: what happens every night. Every key is optional; `tracemill doctor` says what would fail tonight.
name = "{name}"
seed = 0

# The logs to take in: files, folders, globs or URLs. `tracemill collect` writes to .tracemill/landing.
[[sources]]
path = ".tracemill/landing"

# [[sources]]
# path = "logs/**/*.jsonl"

# [[formats]]          # rows that only you have: say which of their columns is what; `match` tells them from others
# name = "desk-calls"
# match = ["conversation", "reply"]
# columns = {{ trace_id = "conversation", time = "at", input = "prompt", output = "reply", tokens_in = "usage.in" }}
# constants = {{ agent_name = "desk" }}
# scores = {{ csat = "rating" }}

# [redaction]          # secrets and personal data are taken out before anything is written; every kind is on
# keep = ["support@example.com"]
# [redaction.extra]    # what else must go: a name and a pattern
# order = "ORD-[0-9]{{8}}"

# How good was it? The first of: human corrections and ratings, rewards in the logs, verifiers, tool errors.
[[rewards]]
kind = "feedback"

[[rewards]]
kind = "tools"

[[rewards]]            # a replayed output is right when it equals the corrected (or fully rewarded) one
kind = "exact_match"

# [[rewards]]          # what users did without being asked: asked again, said that it was wrong, copied the answer
# kind = "signals"

# [[rewards]]          # a language model answers a rubric and quotes the log; needs the extra prompts
# kind = "judge"
# base_url = "http://127.0.0.1:8000/v1"
# model = "qwen3-32b"  # better not the model that is judged

# [[rewards]]          # or a function of yours: checks.py beside this file, def judge(output, case)
# kind = "python"
# callable = "checks:judge"

# [[rewards]]          # or run a SQL answer against a database
# kind = "sql_execution"
# database = "databases/{{db}}.sqlite"
# gold = "gold"

# [tasks]              # where logs name benchmark tasks: their gold answers, and what a split must not cut through
# path = "tasks.jsonl"
# key = "task_id"
# format = "intercode"
# group = "db"

[split]
gate_share = 0.4       # task groups that learning never sees

# The model that replays logged calls with candidate prompts: an OpenAI-compatible server …
[endpoint]
# base_url = "http://127.0.0.1:8000/v1"
# api_key_env = "OPENAI_API_KEY"
# … or a small model that tracemill serves itself while it needs it.
# local = "smollm2"

[optimize]
optimizers = ["labeled_few_shot", "nearest", "random_search"]
# reflection_model = "gpt-5.2"           # a capable model lets "gepa" and "mipro" write instructions
# reflection_url = "https://api.openai.com/v1"
# reflection_key_env = "OPENAI_API_KEY"
max_calls = 2000

[train]
# base_model = "smollm2"                # or a folder with a transformers model; without one only prompts are learned

[gate]
channel = "production" # one bundle at a time; several agents need "production.{{agent}}"
alpha = 0.05           # expected share of false promotions, over the whole life of the deployment
wanted_effect = 0.08
# valid_output = "billing|shipping|returns"

# [bind.AGENT]         # what redacted constants of an agent's prompt stand for; nothing unbound is published
# email_1 = "help@example.com"

[[publish]]
kind = "folder"
path = "published"
"""


def clock() -> int:
    """Now, in UTC nanoseconds since the epoch."""
    return time.time_ns()


def environment() -> Mapping[str, str]:
    return os.environ


def quiet_ray(address: str | None) -> None:
    """Ray tells nobody that it is used. A cluster of its own listens on every address of the machine while it runs:
    only who knows a token that is made here can use it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def find_project(given: Path | None) -> Path:
    """The project's folder: the one given, else the nearest with a tracemill.toml upward, else the current one."""
    if given is not None:
        return given.resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    return here


def load(root: Path) -> Config:
    """The project's Config. ConfigError names file, key and reason; unknown keys are refused, not ignored."""
    path = root / SETTINGS_FILE
    raw: dict[str, Any] = {}
    if path.is_file():
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse(raw, root=root, where=str(path))


def parse(raw: Mapping[str, Any], *, root: Path, where: str) -> Config:
    """A Config of already decoded TOML."""
    values = dict(raw)
    rewards = values.get("rewards")
    if isinstance(rewards, list):
        values["rewards"] = [_reward(item) if isinstance(item, Mapping) else item for item in rewards]
    _refuse_unknown(values, Config, where=where, at="")
    try:
        config = _ADAPTER.validate_python({**values, "root": root})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: '{key}': {_plainly(first['msg'])}") from error
    if (lacking := rungs.lacking(config)) is not None:
        raise ConfigError(f"{where}: {lacking}")
    return config


def _plainly(message: str) -> str:
    """Pydantic's sentence in the words of TOML."""
    message = re.sub(r"a dictionary or an instance of \w+", "a table", message)
    return (message[:1].lower() + message[1:]).replace("a valid tuple", "a list").replace("value error, ", "")


def _refuse_unknown(values: Mapping[str, Any], kind: type, *, where: str, at: str) -> None:
    """A misspelt key is an error, never a setting that silently does nothing."""
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name != "root"]
    for key, value in values.items():
        if key not in known:
            section = f" in [{at}]" if at else ""
            raise ConfigError(f"{where}: unknown key '{key}'{section}; known: {', '.join(known)}")
        for inner in (hints[key], *get_args(hints[key])):
            if is_dataclass(inner) and isinstance(inner, type):
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, Mapping):
                        _refuse_unknown(item, inner, where=where, at=f"{at}.{key}".lstrip("."))


def _reward(item: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of `[[rewards]]` that is not a field of its own is an option of that kind of reward."""
    own = {field.name for field in fields(RewardConfig)} - {"options"}
    known = {key: value for key, value in item.items() if key in own}
    options = {key: value for key, value in item.items() if key not in own}
    return {**known, "options": options}


_ADAPTER: TypeAdapter[Config] = TypeAdapter(Config)
