"""No secret and no e-mail address survives, in any column, however it was escaped; pseudonyms are consistent."""

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.ids import PSEUDONYM
from tracemill.ingest.redact import Redactor

KEY = b"k" * 32
Make = Callable[..., dict[str, Any]]
ALNUM = string.ascii_letters + string.digits


def of(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=least, max_size=most)


SECRETS: dict[str, st.SearchStrategy[str]] = {
    "openai": of(ALNUM, 30, 40).map(lambda s: f"sk-proj-1{s}"),
    "anthropic": of(ALNUM, 30, 40).map(lambda s: f"sk-ant-api03-{s}"),
    "aws": of(string.ascii_uppercase + string.digits, 16, 16).map(lambda s: f"AKIA{s}"),
    "github": of(ALNUM, 36, 36).map(lambda s: f"ghp_{s}"),
    "slack": of(string.digits, 11, 12).map(lambda s: f"xoxb-{s}-{s}"),
    "google": of(ALNUM, 35, 35).map(lambda s: f"AIza{s}"),
    "huggingface": of(ALNUM, 30, 34).map(lambda s: f"hf_{s}"),
    "jwt": of(ALNUM, 20, 30).map(lambda s: f"eyJ{s}.eyJ{s}.{s}"),
    "email": st.builds(
        lambda a, b, c: f"{a}.{b}@{c}.example.org",
        of(string.ascii_lowercase, 3, 8),
        of(string.ascii_lowercase + string.digits, 3, 8),
        of(string.ascii_lowercase, 3, 8),
    ),
}
IN_CONTEXT: dict[str, tuple[str, str]] = {
    "password": ("password=", " and more"),
    "json password": ('{"password": "', '"}'),
    "yaml key": ("api_key: ", "\n"),
    "environment": ("export AWS_SECRET_ACCESS_KEY=", "\n"),
    "bearer": ("Authorization: Bearer ", "\n"),
    "url": ("postgres://bob:", "@db.internal/x"),
}
PLANTED = st.one_of(*SECRETS.values()) | st.builds(
    lambda context, word: (context[0] + word + context[1], word),
    st.sampled_from(sorted(IN_CONTEXT.values())),
    of(ALNUM, 14, 30),
)


def escaped(text: str, how: str) -> str:
    if how == "plain":
        return text
    if how == "unicode":
        return "".join(f"\\u{ord(c):04x}" if c in "@-_.:/=" else c for c in text)
    if how == "json":
        return json.dumps({"inner": f"line\n{text}\nline"})
    if how == "json in json":
        return json.dumps(json.dumps([text, "\n" + text]))
    return json.dumps({"url": text}).replace("/", "\\/")


HOW = st.sampled_from(("plain", "unicode", "json", "json in json", "slashes"))


@settings(max_examples=150, deadline=None)
@given(
    planted=PLANTED,
    how=HOW,
    before=st.sampled_from(("", " ", "\n", '"', "(", "see: ")),
    after=st.sampled_from(("", " ", "\n", '"', ",")),
)
def test_no_planted_secret_survives_in_a_text(planted: Any, how: str, before: str, after: str) -> None:
    text, secret = planted if isinstance(planted, tuple) else (planted, planted)
    found = Redactor(KEY).text(escaped(before + text + after, how))
    assert secret not in found
    assert PSEUDONYM.search(found)
    for _ in range(3):  # nor when the JSON in it is decoded
        try:
            found = json.loads(found)
        except (ValueError, TypeError):
            break
        assert secret not in json.dumps(found)


@settings(max_examples=100, deadline=None)
@given(
    value=st.recursive(
        st.text() | st.integers() | st.none(),
        lambda i: st.lists(i, max_size=3) | st.dictionaries(st.text(), i, max_size=3),
    ),
    planted=PLANTED,
)
def test_redacting_twice_is_redacting_once_and_json_stays_json(value: Any, planted: Any) -> None:
    text = planted[0] if isinstance(planted, tuple) else planted
    redactor = Redactor(KEY)
    once = redactor.text(json.dumps([value, text, {"x": f"a\n{text}"}]))
    assert redactor.text(once) == once
    assert isinstance(json.loads(once), list)


@pytest.mark.parametrize(
    "text",
    [
        "The task-management-system-for-people is a risk-assessment-framework.",
        "max_tokens=100, total_tokens: 12, the token is good, keyboard: qwerty",
        "SELECT email FROM users WHERE id = 5 -- @todo",
        "https://example.org/a/b?x=1#y and git@",
        "def password_reset(user): ...",
        "AKIASHORT ghp_short sk-short eyJhbGciOi",
        "x" * 5000,
        "C:\\new\\table and \\u00e9 and \\/",
    ],
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert Redactor(KEY).text(text) == text


def test_equal_values_have_equal_pseudonyms_and_another_key_gives_others() -> None:
    redactor = Redactor(KEY)
    one, two = redactor.text("mail bob@example.org"), redactor.text('{"to": "Bob@Example.org"}')
    assert one.split()[-1] == json.loads(two)["to"]
    assert Redactor(b"other").text("mail bob@example.org") != one
    assert redactor.text("password=hunter22 x") == redactor.text("password=hunter22 x")


def test_a_private_key_goes_as_a_whole_even_when_its_end_is_cut_off() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAAAA\n-----END RSA PRIVATE KEY-----"
    assert PSEUDONYM.fullmatch(Redactor(KEY).text(key))
    assert PSEUDONYM.fullmatch(Redactor(KEY).text(key[:50]))
    assert "MIIEow" not in Redactor(KEY).text(json.dumps({"k": key}))


def test_values_under_telling_names_go_whatever_they_look_like() -> None:
    found = Redactor(KEY).value({"db": {"password": "tiger cat", "api_key": "abcd"}, "token": "Hello", "max_tokens": 5})
    assert PSEUDONYM.fullmatch(found["db"]["password"])
    assert PSEUDONYM.fullmatch(found["db"]["api_key"])
    assert (found["token"], found["max_tokens"]) == ("Hello", 5)


MAIL = "carol.jones@example.org"
TOKEN = "ghp_" + "a1B2" * 9


def everywhere(otlp: Make, request_of: Make) -> dict[str, Any]:
    """A request with an address and a key in every place that a string can stand in."""
    said = [{"role": "user", "name": MAIL, "parts": [{"type": "text", "content": f"I am {MAIL}, {TOKEN}"}]}]
    asked = [{"type": "tool_call", "id": TOKEN, "name": "mail", "arguments": {"to": MAIL, MAIL: TOKEN}}]
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": MAIL,
        "gen_ai.agent.name": MAIL,
        "gen_ai.request.model": TOKEN,
        "gen_ai.request.stop": MAIL,
        "gen_ai.input.messages": json.dumps(said).replace("@", "\\u0040"),
        "gen_ai.output.messages": [{"role": "assistant", "parts": asked}],
        "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "f", "description": MAIL}]),
        "gen_ai.prompt.variable.who": MAIL,
        "gen_ai.response.finish_reasons": [MAIL],
        "tracemill.task_key": MAIL,
        "error.type": TOKEN,
        "user.id": MAIL,
        "blob": json.dumps(json.dumps({"deep": MAIL})).replace("@", "\\\\u0040"),
        "list": [MAIL, {"k": TOKEN}],
        "prompt_token_ids": [1, 2],
        "response_token_ids": [3],
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": MAIL,
        "gen_ai.tool.call.arguments": json.dumps({"a": MAIL}),
        "gen_ai.tool.call.result": MAIL,
    }
    spans = [
        otlp("a", attributes=attributes, events=[("note", {"m": MAIL})], status={"code": 2, "message": MAIL}),
        otlp("b", attributes=tool) | {"name": MAIL},
        otlp("c", spanId=MAIL),
    ]
    return request_of(*spans, resource={"service.name": MAIL, "host": TOKEN})


def test_nothing_survives_in_any_column_of_any_table(take: Any, otlp: Make, request_of: Make) -> None:
    feedback = {
        "session_id": MAIL,
        "label": MAIL,
        "correction": f"ask {MAIL}",
        "comment": TOKEN,
        "user": MAIL,
        "name": MAIL,
    }
    runs = {"task_id": MAIL, "reward": 1, "traj": [{"role": "user", "content": MAIL}], "info": {MAIL: TOKEN}}
    for taken in (
        take(everywhere(otlp, request_of)),
        take(lines=[feedback, f'{{"session_id": "{MAIL}'], name="f.jsonl"),
        take([runs]),
        take(f"prose {MAIL} {TOKEN}\n" * 9),
        take({"x": MAIL}),
    ):
        text = taken.everything()
        for planted in (MAIL, TOKEN, "carol.jones", TOKEN[:20]):
            assert planted not in text
        assert MAIL.encode().hex() not in text
    assert taken.quarantine


def test_a_redacted_span_is_flagged_and_keeps_no_tokens_of_what_was_redacted(
    take: Any, otlp: Make, request_of: Make
) -> None:
    call, tool = take(everywhere(otlp, request_of)).spans
    assert "redacted" in call["flags"]
    assert "redacted" in tool["flags"]
    assert (call["input_token_ids"], call["output_token_ids"]) == (None, None)
    clean = take(request_of(otlp(attributes={"x": "y", "prompt_token_ids": [1]}))).span
    assert (clean["flags"], clean["input_token_ids"]) == ([], [1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(planted=PLANTED, how=HOW)
def test_no_planted_secret_survives_a_log(take: Any, planted: Any, how: str) -> None:
    text, secret = planted if isinstance(planted, tuple) else (planted, planted)
    text = escaped(text, how)
    messages = [
        {"role": "system", "content": text},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": text}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": text},
    ]
    call = {
        "messages": messages,
        "response": {"choices": [{"message": {"role": "assistant", "content": text}}]},
        "note": text,
    }
    taken = take(lines=[call, "{torn " + text.replace("\n", " ")])
    found = taken.everything()
    for _ in range(4):
        assert secret not in found
        found = found.replace("\\\\", "\\").replace('\\"', '"')
