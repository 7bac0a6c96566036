"""tracemill label: what is drawn, asked, answered and kept; nothing is lost when somebody leaves."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_lake import build, opened
from typer.testing import CliRunner

from tracemill.app.cli import app
from tracemill.pipelines import labelling


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels") / "project"
    build(root, 30)
    return root


@pytest.fixture
def project(lake: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(lake, tmp_path / "project"))


def run(project: Path, *arguments: str, said: str | None = None) -> Any:
    result = CliRunner().invoke(app, ["label", "--project", str(project), *arguments], input=said)
    assert result.exit_code == 0, result.output
    return result


def labels(project: Path) -> list[dict[str, Any]]:
    with opened(project) as night:
        rows: list[dict[str, Any]] = night.select(
            "SELECT target_id, name, value, label, propensity, user_key, family FROM scores "
            "WHERE source = 'human' AND name IN ('label', 'correction') ORDER BY \"at\""
        ).to_pylist()
        return rows


def test_answers_are_kept_with_the_probability_that_they_were_asked_for(project: Path) -> None:
    queue = json.loads(run(project, "--json", "-n", "8").stdout)["queue"]
    assert len(queue) == 8
    assert all(0 < one["propensity"] <= 1 for one in queue)
    assert queue[0]["episode"][-1]["text"] == "Here."
    said = "maybe\ny\nn\n0.25\ns\nc Look at the shelf, ask bob@example.org\nq\n"
    shown = run(project, "--as", "ana", "-n", "8", said=said).stdout
    assert "give y, n, s (skip), a number from 0 to 1" in shown
    assert "5 answers kept" in shown
    found = labels(project)
    assert [one["value"] for one in found] == [1.0, 0.0, 0.25, None, None]
    assert [one["target_id"] for one in found] == [one["target_id"] for one in queue[:5]]
    assert [one["propensity"] for one in found] == [one["propensity"] for one in queue[:5]]
    assert found[3]["label"] == "skipped"
    assert found[4]["name"] == "correction"
    assert "bob@example.org" not in found[4]["label"]
    assert found[4]["label"].startswith("Look at the shelf")
    assert len({one["user_key"] for one in found}) == 1
    assert "ana" not in found[0]["user_key"]


def test_a_round_goes_on_where_it_was_left_and_then_a_new_one_is_drawn(project: Path) -> None:
    first = json.loads(run(project, "--json", "-n", "6").stdout)["queue"]
    run(project, said="y\n")
    rest = json.loads(run(project, "--json", "-n", "6").stdout)["queue"]
    assert [one["target_id"] for one in rest] == [one["target_id"] for one in first[1:]]
    assert [one["propensity"] for one in rest] == [one["propensity"] for one in first[1:]]
    run(project, said="y\n" * len(rest))
    new = json.loads(run(project, "--json", "-n", "6").stdout)["queue"]
    assert not {one["target_id"] for one in new} & {one["target_id"] for one in first}


def test_answers_come_from_a_file_whole_or_not_at_all(project: Path, tmp_path: Path) -> None:
    queue = json.loads(run(project, "--json", "-n", "10").stdout)["queue"]
    drawn = queue[0]["target_id"]
    other = next(f"r{n}" for n in range(30) if f"r{n}" not in {one["target_id"] for one in queue})
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"target_id": "{drawn}", "answer": "y"}}\n\n{{"target_id": "{other}", "answer": false}}\n')
    facts = json.loads(run(project, "--from", str(path), "--json", "--dry-run").stdout)
    assert facts == {"answers": 2, "drawn": 1, "volunteered": 1}
    assert labels(project) == []
    assert json.loads(run(project, "--from", str(path), "--json").stdout)["stored"] == 2
    found = {one["target_id"]: one for one in labels(project)}
    assert (found[drawn]["value"], found[drawn]["propensity"]) == (1.0, queue[0]["propensity"])
    assert (found[other]["value"], found[other]["propensity"]) == (0.0, None)
    for text, says in (
        ('{"target_id": "r1", "answer": "y"}\n{"target_id": "r2", "answer": 7}', "line 2: answer '7'"),
        ('{"target_id": "nobody", "answer": "y"}', "no trajectory 'nobody' in the lake"),
        ("[]", "line 1: give a JSON object"),
    ):
        path.write_text(text)
        result = CliRunner().invoke(app, ["label", "--project", str(project), "--from", str(path)])
        assert result.exit_code != 0
        assert says in str(result.exception) + result.output
    assert len(labels(project)) == 2


def test_a_second_person_is_asked_about_what_the_first_one_labelled(project: Path) -> None:
    run(project, "--as", "ana", "-n", "6", said="y\nn\nq\n")
    shown = run(project, "--as", "ben", "--second", said="y\ny\n").stdout
    assert "2 answers kept." in shown
    found = labels(project)
    assert [one["target_id"] for one in found[2:]] == [one["target_id"] for one in found[:2]]
    assert [one["propensity"] for one in found[2:]] == [None, None]
    assert len({one["user_key"] for one in found}) == 2
    assert "nobody need be asked" in run(project, "--as", "ben", "--second").stdout


def test_what_a_log_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    root = tmp_path / "project"
    build(root, 1)
    (root / "evil.jsonl").write_text(
        json.dumps({"run": "x", "talk": "t", "q": "\x1b]0;owned\x07\x1b[2J" + "z" * 9000, "a": "[bold]a[/bold]\u202e"})
        + "\n"
    )
    from tracemill.pipelines import ingesting

    with opened(root) as night:
        ingesting.take_in(night, [root / "evil.jsonl"])
    shown = run(root, "-n", "2", said="y\ny\n").stdout
    assert "2 answers kept" in shown
    assert not any(sign in shown for sign in ("\x1b", "\x07", "\u202e"))
    assert "[bold]a[/bold]" in shown
    assert "characters …" in shown


def test_leaving_with_ctrl_c_loses_nothing(project: Path) -> None:
    """A real terminal, a real Ctrl-C in the middle of a question."""
    asked = len(json.loads(run(project, "--json", "-n", "8").stdout)["queue"])
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tracemill", "label", "--project", str(project), "--as", "ana"]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(slave)
    try:
        seen = _until(master, "good?")
        os.write(master, b"y\n")
        seen += _until(master, "good?")
        os.write(master, b"n\n")
        seen += _until(master, "good?")
        # Python takes no notice of a signal between its last look and the read that input() blocks in.
        time.sleep(1)
        os.write(master, b"\x03")
        seen += _until(master, "again to go on")
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    assert f"2 answers kept; {asked - 2} left" in " ".join(seen.split())
    assert "Traceback" not in seen
    assert [one["value"] for one in labels(project)] == [1.0, 0.0]


def _own_terminal() -> None:
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until(master: int, wanted: str) -> str:
    seen, deadline = "", time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([master], [], [], 1)[0]:
            try:
                seen += os.read(master, 4096).decode(errors="replace")
            except OSError:  # the other side has closed
                break
    assert wanted in seen, seen
    return seen


def test_every_episode_may_be_asked_for_and_the_probabilities_are_those_of_the_draw(tmp_path: Path) -> None:
    root = tmp_path / "project"
    build(root, 12)
    counts: dict[str, int] = {}
    rounds = 60
    expected: dict[str, float] = {}
    with opened(root) as night:
        for number in range(rounds):
            (root / ".tracemill" / "labels.json").unlink(missing_ok=True)
            for one in labelling.queue(replace(night, night_id=f"n{number}"), 4):
                counts[one.target_id] = counts.get(one.target_id, 0) + 1
                expected[one.target_id] = float(one.propensity or 0)
    assert len(counts) == 12, "none is never asked for"
    assert sum(counts.values()) == 4 * rounds
    for target, times in counts.items():
        assert times / rounds == pytest.approx(expected[target], abs=0.22)
