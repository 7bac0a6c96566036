"""The reference page of settings is complete and true: every setting with its default."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from tracemill.optimize.optimizers import OPTIMIZERS
from tracemill.pipelines.config import Config
from tracemill.rewards.credit import ASSIGNERS
from tracemill.rewards.registry import MODELS, VERIFIERS
from tracemill.train.registry import TRAINERS

CREDITS = {name: kind for name, kind in ASSIGNERS.items() if name != "uniform"}  # has no knob


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
    for name, kind in {**OPTIMIZERS, **TRAINERS, **CREDITS}.items():
        (text,) = re.findall(rf"`{name}` ((?:`\w+ = [^`]+`(?:, )?)+)", page)
        knobs = {
            field.name: list(field.default) if isinstance(field.default, tuple) else field.default
            for field in fields(kind)  # type: ignore[arg-type]
            if field.name not in ("seed", "init_adapter", "reflection", "prompt_model", "name", "chat", "model")
        }
        assert {key: json.loads(value) for key, value in re.findall(r"`(\w+) = ([^`]+)`", text)} == knobs, name


def test_no_setting_is_explained_that_is_none(root: Path) -> None:
    page = sections((root / "docs/settings.md").read_text(), "##")
    known = {(section, key) for section, key, _ in settings(Config)}
    kinds = {*MODELS, *VERIFIERS}
    assert kinds <= set(re.findall(r"^\| `(\w+)` \|", page["rewards"], re.MULTILINE))
    for section, text in page.items():
        for key in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE):
            assert (section, key) in known or (section == "rewards" and key in kinds), f"[{section}] {key}"
