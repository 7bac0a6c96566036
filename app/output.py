"""What a command shows: one JSON object, or text with progress; progress bars on a terminal, plain lines elsewhere."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from tracemill.pipelines.progress import Tell

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor or turns its text around; a log may hold it."""
INTERRUPTED = "Interrupted. What was done is kept; run the same command again to continue.\n"


def plain(text: object) -> str:
    """Logged text without what could steer the terminal it is shown on."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(text).replace("\r\n", "\n"))


@dataclass(frozen=True, slots=True)
class _Plain:
    """Something drawn whose texts are plain: prompts, findings and rows hold what logs said."""

    drawn: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for one in console.render(self.drawn, options):
            yield one if one.control else Segment(plain(one.text), one.style)


class Output:
    """stdout carries the result alone; progress and remarks go to stderr. No text of a log steers the terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = Console(soft_wrap=False, highlight=False)
        self.stderr = Console(stderr=True, highlight=False)

    def result(self, data: Mapping[str, Any], text: RenderableType | None = None) -> None:
        """The command's answer, as JSON or as text."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, default=str, ensure_ascii=False) + "\n")
        elif isinstance(text, str):
            # Unwrapped and verbatim: a command in it can be copied, a [table] of the settings is no markup.
            self.stdout.print(plain(text), markup=False, soft_wrap=True)
        elif text is not None:
            self.stdout.print(_Plain(text), crop=False)

    def remark(self, text: str) -> None:
        """A sentence beside the answer."""
        self.stderr.print(plain(text), markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Tell]:
        """A Tell that draws: bars on a terminal, a line per step elsewhere."""
        if not self.stderr.is_terminal:
            yield _Lines(self.stderr)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[stage]:<9}"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.stderr) as bars:
            yield _Bars(bars)


class _Lines:
    """Plain lines; a counted step is told at its start, its end and every tenth between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[str, tuple[str, int]] = {}

    def __call__(self, stage: str, message: str, done: int | None = None, total: int | None = None) -> None:
        tenth = 10 * (done or 0) // total if total else 0
        if self._last.get(stage) == (message, tenth):
            return
        self._last[stage] = (message, tenth)
        count = f" {done}/{total}" if total and done is not None else ""
        self._console.print(plain(f"{stage}: {message}{count}"), markup=False, soft_wrap=True)


class _Bars:
    """One bar per stage and message."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __call__(self, stage: str, message: str, done: int | None = None, total: int | None = None) -> None:
        key = (stage, message)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(plain(message), total=total or 1, stage=stage)
        if total is None:
            self._bars.update(self._tasks[key], completed=1)
        else:
            self._bars.update(self._tasks[key], completed=done or 0, total=total)
