"""The client an agent vendors: what it renders, how it follows a channel, and that it needs nothing but Python."""

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tracemill import client
from tracemill.client import live_prompt, nearest, question, render


def _demo(user: str, answer: str, text: str | None = None) -> dict[str, Any]:
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"messages": turns, "text": user if text is None else text, "source": "t"}


POOL = [
    _demo("my card was charged twice", "billing"),
    _demo("the app crashes at start", "technical"),
    _demo("where is my parcel", "shipping"),
    _demo("the card reader crashes", "technical"),
]


def _prompt(**demonstrations: Any) -> dict[str, Any]:
    return {
        "format": "tracemill.prompt/1",
        "model": "small",
        "adapter": None,
        "messages": [
            {"role": "system", "content": ["You route tickets for ", {"slot": "company"}, "."]},
            {"demonstrations": True},
            {"role": "user", "content": ["Ticket: ", {"slot": "ticket"}]},
        ],
        "demonstrations": demonstrations or None,
        "params": {"temperature": 0.0},
    }


def test_slots_are_filled_and_constants_kept_to_the_blank() -> None:
    messages = render(_prompt(), {"company": " A&B ", "ticket": "{ticket} %s"})
    assert messages == [
        {"role": "system", "content": "You route tickets for  A&B ."},
        {"role": "user", "content": "Ticket: {ticket} %s"},
    ]


def test_a_missing_slot_is_named_with_what_was_given() -> None:
    with pytest.raises(KeyError, match=r"slot 'ticket'.*given: \['company'\]"):
        render(_prompt(), {"company": "x"})


def test_fixed_demonstrations_come_as_turns_in_pool_order() -> None:
    messages = render(_prompt(select="fixed", k=2, pool=POOL), {"company": "x", "ticket": "y"})
    assert [m["content"] for m in messages[1:-1]] == [t["content"] for d in POOL for t in d["messages"]]


def test_the_nearest_demonstration_stands_next_to_the_question() -> None:
    prompt = _prompt(select="nearest", k=2, pool=POOL)
    messages = render(prompt, {"company": "x", "ticket": "The CARD reader crashes again!"})
    assert [m["content"] for m in messages if m["role"] == "assistant"] == ["technical", "technical"]
    assert messages[-3]["content"] == "the card reader crashes"


def test_nearest_takes_the_first_of_equals_and_never_more_than_there_are() -> None:
    assert nearest(POOL, "nothing in common", 2) == [POOL[1], POOL[0]]
    assert len(nearest(POOL, "card", 9)) == 4
    assert nearest([], "card", 3) == []
    assert nearest([_demo("x", "y", text="")], "", 1) == [_demo("x", "y", text="")]


def test_a_conversation_is_continued_where_the_prompt_says() -> None:
    prompt = {"messages": [{"role": "system", "content": ["Help."]}, {"conversation": True}]}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    messages = render(prompt, {"conversation": turns})
    assert messages[1:] == turns
    messages[1]["content"] = "changed"
    assert turns[0]["content"] == "hi"
    assert question(prompt, {"conversation": turns}) == ""
    with pytest.raises(KeyError, match="pass conversation="):
        render(prompt, {})


def test_a_constant_tool_call_keeps_its_fields_and_empty_content() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    prompt = {"messages": [call, {"role": "tool", "tool_call_id": "1", "content": ["ok"]}]}
    assert render(prompt, {}) == [call, {"role": "tool", "tool_call_id": "1", "content": "ok"}]
    assert question(prompt, {}) == ""


def test_rendering_changes_neither_artifact_nor_pool() -> None:
    prompt = _prompt(select="nearest", k=2, pool=POOL)
    before = json.dumps(prompt)
    for message in render(prompt, {"company": "x", "ticket": "card"}):
        message["content"] = "changed"
    assert json.dumps(prompt) == before


# --- channels -------------------------------------------------------------------------------------------------------


def _publish(root: Path, bundle_id: str, **artifact: Any) -> None:
    folder = root / "bundles" / bundle_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompt.json").write_text(json.dumps({**_prompt(), **artifact}), encoding="utf-8")
    channel = root / "production"
    channel.mkdir(exist_ok=True)
    draft = channel / "draft"
    draft.write_text(json.dumps({"bundle_id": bundle_id, "prompt": f"../bundles/{bundle_id}/prompt.json"}))
    draft.replace(channel / "channel.json")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The published folder behind a plain web server: its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            asked.append(self.path)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_folder_is_followed_to_its_bundle(tmp_path: Path) -> None:
    _publish(tmp_path, "one")
    live = live_prompt(tmp_path / "production")
    assert (live.bundle_id, live.model, live.params) == ("one", "small", {"temperature": 0.0})
    _publish(tmp_path, "two", adapter="triage-2", params=None)
    live = live_prompt(f"{tmp_path}/production/")
    assert (live.bundle_id, live.model, live.params) == ("two", "triage-2", {})
    assert live.tools is None
    track = {"type": "function", "function": {"name": "track", "description": "For parcels.", "parameters": {}}}
    _publish(tmp_path, "three", tools=[track])
    assert live_prompt(tmp_path / "production").tools == [track]
    assert live.messages(company="x", ticket="naïve ☃")[-1]["content"] == "Ticket: naïve ☃"


def test_a_url_is_followed_with_plain_paths(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    _publish(tmp_path, "one")
    url, asked = web
    assert live_prompt(f"{url}/production").bundle_id == "one"
    assert live_prompt(f"{url}/production/").messages(company="x", ticket="y")
    # an object store takes ".." for a name
    assert asked == ["/production/channel.json", "/bundles/one/prompt.json"] * 2


def test_nothing_published_is_an_os_error(tmp_path: Path, web: tuple[str, list[str]]) -> None:
    with pytest.raises(OSError, match=r"channel\.json"):
        live_prompt(tmp_path / "production")
    with pytest.raises(OSError, match="404") as caught:
        live_prompt(f"{web[0]}/production")
    caught.value.close()  # type: ignore[attr-defined]


def test_a_reader_never_sees_half_a_move(tmp_path: Path) -> None:
    from tracemill.promote.bundle import replace_text
    from tracemill.promote.pointer import POINTER, pointer

    for name in ("one", "two"):
        _publish(tmp_path, name, model=f"model {name}", filler="x" * 20_000)
    place = tmp_path / "production" / POINTER
    replace_text(place, pointer("one", []))
    enough = threading.Event()

    def move() -> None:
        turn = 0
        while not enough.is_set():
            turn += 1
            replace_text(place, pointer(("one", "two")[turn % 2], []))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        seen: list[str | None] = []
        while len(seen) < 300 or len(set(seen)) < 2:
            live = live_prompt(tmp_path / "production")
            assert live.model == f"model {live.bundle_id}"
            seen.append(live.bundle_id)
    finally:
        enough.set()
        mover.join()
    assert sorted(path.name for path in place.parent.iterdir()) == [POINTER]


def test_it_runs_where_nothing_is_installed() -> None:
    program = (
        "import sys, runpy\n"
        f"module = runpy.run_path({client.__file__!r})\n"
        "assert module['render']({'messages': [{'role': 'user', 'content': ['hi']}]}, {})\n"
        "foreign = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'__main__'}\n"
        "print(sorted(foreign))\n"
    )
    # -I: no environment, no user site; -S: no site-packages at all
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
