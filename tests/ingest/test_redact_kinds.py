"""Every kind of secret and personal data: found wherever it stands, told from its like, named consistently."""

import importlib.util
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tracemill.app import settings
from tracemill.errors import ConfigError, MissingExtraError
from tracemill.ids import PSEUDONYM
from tracemill.ingest.redact import KINDS, Redaction, Redactor, Ruleset
from tracemill.ingest.redact.rules import Rule, compiled, spans

KEY = b"k" * 32


def load() -> ModuleType:
    """The benchmark makes the values that are planted here too."""
    path = Path(__file__).parents[2] / "bench" / "redact.py"
    spec = importlib.util.spec_from_file_location("bench_redact", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = load()


def kinds_in(text: str) -> list[str]:
    return [match[1] for match in PSEUDONYM.finditer(text)]


@pytest.mark.parametrize("name", [*bench.SECRETS, *bench.PERSONAL])
def test_nothing_of_a_planted_value_is_left_in_any_place(name: str) -> None:
    r, redactor = random.Random(name), Redactor(KEY)
    make = {**bench.SECRETS, **bench.PERSONAL}[name]
    for place in bench.PLACES * 3:
        value = make(r)
        out = redactor.text(place(value))
        assert not bench.left(value, out), (value, place(value), out)
        assert redactor.text(out) == out


@pytest.mark.parametrize("name", bench.NAMED)
def test_nothing_of_a_value_with_a_telling_name_is_left(name: str) -> None:
    r, redactor = random.Random(name), Redactor(KEY)
    before, make, after = bench.NAMED[name]
    for wrap in (*bench.WRAPS, str) * 5:
        value = make(r)
        out = redactor.text(wrap(before + value + after))
        assert not bench.left(value, out), (value, out)
        assert redactor.text(out) == out


def test_harmless_text_that_looks_private_stays_as_it_is() -> None:
    redactor = Redactor(KEY)
    for text in islice(bench.harmless(random.Random(7)), 3000):
        assert redactor.text(text) == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("4111 1111 1111 1111", "CARD"),
        ("GB29 NWBK 6016 1331 9268 19", "IBAN"),
        ("ada@example.org", "EMAIL"),
        ("219-09-9999", "ID"),
        ("QQ123456C".replace("QQ", "AB"), "ID"),
        ("+49 30 1234567", "PHONE"),
        ("203.0.113.9", "IP"),
        ("2001:db8::8a2e:370:7334", "IP"),
        ("ghp_" + "a1B2" * 9, "SECRET"),
        ("glpat-QwErTyUiOpAsDfGhJkLz", "SECRET"),
        ("RSSMRA85T10A562S", "ID"),
        ("1 85 05 78 006 084 91", "ID"),
        ("756.9217.0769.85", "ID"),
        ("11010519491231002X", "ID"),
        ("131052-308T", "ID"),
        ("850101-1231234", "ID"),
        ("ABCPE1234F", "ID"),
    ],
)
def test_a_pseudonym_says_its_kind(text: str, kind: str) -> None:
    out = Redactor(KEY).text(f"It is {text} here")
    assert kinds_in(out) == [kind]
    assert PSEUDONYM.sub("", out) == "It is  here"


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # a wrong check digit
        "hf_ModelForSequenceClassificationHeads",
        "app --password PASSWORD --token string --secret-key <key>",
        "mysql -u root -p app",
        "is_pass: 12345, tests_pass = 3121",
        "0.4111111111111111",  # a fraction
        "GB29 NWBK 6016 1331 9268 18",
        "000-12-3456",
        "bob@localhost",
        "999.1.1.1",
        "Firefox/120.0.0.1 and nginx/1.25.3.1",
        "see section 3.1.4.1",
        "10:20:30:40",
        "00:1b:63:84:45:e6",
        "2024-01-02 030405",
    ],
)
def test_what_fails_its_check_stays(text: str) -> None:
    assert Redactor(KEY).text(text) == text


@pytest.mark.parametrize(
    "writings",
    [
        ("Ada@Example.org", "ada@example.org", "ada%40example.org", "ada%40example%2Eorg"),
        ("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4111\u00a01111\u00a01111\u00a01111"),
        ("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "de89 3704 0044 0532 0130 00"),
        ("+49 30 1234567", "+49-30-1234567", "+49 (30) 1234567", "+49.30.1234567", "+49\u202f30\u202f1234567"),
        ("(415) 555-2671", "415-555-2671", "415.555.2671"),
        ("2001:DB8:0:0:8a2e:370:7334:1", "2001:db8:0:0:8A2E:370:7334:1"),
    ],
)
def test_all_writings_of_a_value_have_one_pseudonym(writings: tuple[str, ...]) -> None:
    redactor = Redactor(KEY)
    found = {PSEUDONYM.search(redactor.text(f"x {writing} y"))[0] for writing in writings}  # type: ignore[index]
    assert len(found) == 1
    assert found != {PSEUDONYM.search(Redactor(b"other").text(f"x {writings[0]} y"))[0]}  # type: ignore[index]


def test_a_number_in_json_becomes_a_string_so_that_json_stays_json() -> None:
    redactor = Redactor(KEY)
    given = {"card": 4111111111111111, "rows": [1, 4111111111111111, 2], "n": 17}
    for text in (json.dumps(given), json.dumps(json.dumps(given)), json.dumps(given, separators=(",", ":"))):
        out = redactor.text(text)
        assert "4111111111111111" not in out
        while isinstance(found := json.loads(out), str):
            out = found
        assert kinds_in(found["card"]) == kinds_in(found["rows"][1]) == ["CARD"]
    assert redactor.value(given)["n"] == 17
    assert kinds_in(redactor.value(given)["card"]) == ["CARD"]


def test_names_of_members_tell_what_their_values_are() -> None:
    given = {
        "phone": "5552671", "mobile_number": 4155552671, "ssn": "219099999", "cardNumber": "4111111111111112",
        "dbPassword": "tiger cat", "pin": 1234, "X-Api-Key": "abcd-efgh", "set-cookie": "a=b; c=d",
        "wandb_key": "0a1b2c3d4e5f60718293", "Authorization": "Bearer abcdef",
    }  # fmt: skip
    out = Redactor(KEY).value(given)
    assert [kinds_in(str(value)) for value in out.values()] == [
        ["PHONE"], ["PHONE"], ["ID"], ["CARD"], ["SECRET"], ["SECRET"], ["SECRET"], ["SECRET"], ["SECRET"], ["SECRET"],
    ]  # fmt: skip
    assert out["Authorization"].startswith("Bearer [")
    kept = {
        "cache_key": "0a1b2c3d4e5f60718293",
        "token": "Hello",
        "max_tokens": 12345678,
        "password": None,
        "pin": True,
    }
    assert Redactor(KEY).value(kept) == kept


def test_two_findings_that_overlap_are_one() -> None:
    token = "ghp_" + "a1B2" * 9
    out = Redactor(KEY).text(f"https://bot:{token}@github.com/x password='{token}'")
    assert kinds_in(out) == ["SECRET", "SECRET"]
    assert len(set(PSEUDONYM.findall(out))) == 1
    assert "@github.com/x" in out
    assert Redactor(KEY).text(f'{{"password": "x {token} y"}}').count("[") == 1


def test_kinds_can_be_switched_off() -> None:
    text = "ada@example.org +49 30 1234567 203.0.113.9"
    assert kinds_in(Redactor(KEY, Ruleset(Redaction(kinds=("email",)))).text(text)) == ["EMAIL"]
    off = Redactor(KEY, Ruleset(Redaction(kinds=())))
    assert off.text(text) == text
    assert off.value({"password": "tiger"}) == {"password": "tiger"}
    assert set(KINDS) == {"secret", "iban", "card", "email", "national_id", "phone", "ip"}


def test_patterns_of_ones_own_are_taken_too() -> None:
    rules = Ruleset(Redaction(extra={"order": r"\bORD-[0-9]{4}\b", "ward": "Ward (é[0-9])", "any-id": "Z9"}))
    out = Redactor(KEY, rules).text("ORD-1234 is in Ward é7, ORD-12345 is not, Z9")
    assert kinds_in(out) == ["X_ORDER", "X_WARD", "X_ANY_ID"]
    assert "Ward [X_WARD_" in out
    assert "ORD-12345" in out


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ({"extra": {"order": "("}}, r"order = '\(': missing \).*RE2"),
        ({"extra": {"order": "(?<=a)b"}}, "no look-around"),
        ({"extra": {"order": "a*"}}, "matches the empty text"),
        ({"extra": {"no name": "a"}}, "a name is 1 to 24"),
        ({"kinds": ["email", "phones"]}, "unknown phones; known: secret, iban"),
        ({"kind": []}, r"unknown key 'kind' in \[redaction\]"),
        ({"keep": "x"}, "redaction.*keep"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(toml: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        settings.parse({"redaction": toml}, root=tmp_path, where="tracemill.toml")
    assert str(caught.value).startswith("tracemill.toml: ")


def test_settings_of_redaction_and_limits_are_read(tmp_path: Path) -> None:
    raw = {"redaction": {"kinds": ["email"], "extra": {"o": "ORD"}}, "limits": {"record_mib": 1}}
    config = settings.parse(raw, root=tmp_path, where="tracemill.toml")
    assert config.redaction == Redaction(kinds=("email",), extra={"o": "ORD"})
    assert (config.limits.record_bytes, config.limits.text_mib) == (1 << 20, 32)
    with pytest.raises(ConfigError, match="ratio must be at least 1"):
        settings.parse({"limits": {"ratio": 0}}, root=tmp_path, where="tracemill.toml")


def test_what_is_kept_stays() -> None:
    redactor = Redactor(KEY, Ruleset(Redaction(keep=("Help@Example.org", "203.0.113.9"))))
    out = redactor.text("help@example.org, ada@example.org, 203.0.113.9, 203.0.113.10")
    assert kinds_in(out) == ["EMAIL", "IP"]
    assert out.startswith("help@example.org, [")


def test_the_version_names_the_rules() -> None:
    versions = [
        Ruleset(redaction).version
        for redaction in (
            Redaction(),
            Redaction(kinds=("email",)),
            Redaction(extra={"a": "b"}),
            Redaction(extra={"a": "c"}),
            Redaction(keep=("x",)),
        )
    ]
    assert len(set(versions)) == len(versions)
    assert Ruleset().version == versions[0] == Redactor(KEY).version
    assert Ruleset(Redaction(kinds=tuple(reversed(KINDS)))).version == versions[0]


def test_the_version_stands_with_each_file(take: Any) -> None:
    call = {"messages": [{"role": "user", "content": "ORD-1"}], "response": "x"}
    rules = Ruleset(Redaction(extra={"order": "ORD-[0-9]"}))
    assert [row["redaction"] for row in take(lines=[call], rules=rules).ledger] == [rules.version]
    assert [row["redaction"] for row in take(lines=[call]).ledger] == [Ruleset().version]
    assert "ORD-1" not in take(lines=[call], rules=rules).everything()


DETECTOR = '''
class Staff:
    """Finds the names it is told."""

    def __init__(self, names=("Ada Lovelace",), kind="NAME"):
        self.names, self.kind = names, kind
        self.version = "staff " + " ".join(names)

    def find(self, text):
        for name in self.names:
            at = text.find(name)
            while at >= 0:
                yield at, at + len(name), self.kind
                at = text.find(name, at + 1)


class Nothing:
    pass
'''


@pytest.fixture
def staff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "desk_staff.py").write_text(DETECTOR)
    monkeypatch.syspath_prepend(tmp_path)
    return "desk_staff:Staff"


def test_a_detector_finds_names(staff: str) -> None:
    rules = Ruleset(Redaction(names=staff, names_options={"names": ["Ada Lovelace", "Zoë Ô"]}))
    redactor = Redactor(KEY, rules)
    out = redactor.text("Grüße an Zoë Ô und Ada Lovelace (ada@example.org), Ada Lovelace!")
    assert kinds_in(out) == ["NAME", "NAME", "EMAIL", "NAME"]
    assert PSEUDONYM.sub("_", out) == "Grüße an _ und _ (_), _!"
    assert redactor.text(out) == out
    assert rules.version != Ruleset().version


@pytest.mark.parametrize(
    ("names", "options", "error", "said"),
    [
        ("spacy", {}, ConfigError, "known: presidio, gliner"),
        ("desk_staff:Missing", {}, ConfigError, "cannot be imported"),
        ("desk_staff:Staff", {"nickname": 1}, ConfigError, "cannot be made with"),
        ("desk_staff:Nothing", {}, ConfigError, "`version` and a method"),
        ("presidio", {}, MissingExtraError, r"pip install .tracemill\[names\]"),
        ("gliner", {}, ConfigError, "pip install gliner"),
    ],
)
@pytest.mark.usefixtures("staff")
def test_a_detector_that_cannot_be_used_says_why(
    names: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    if names in ("presidio", "gliner"):
        package = {"presidio": "presidio_analyzer", "gliner": "gliner"}[names]
        if importlib.util.find_spec(package) is not None:
            pytest.skip(f"{package} is installed here")
    with pytest.raises(error, match=said):
        Ruleset(Redaction(names=names, names_options=options))


def test_presidio_downloads_no_model_by_itself() -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `names` is not installed")
    with pytest.raises(ConfigError, match="python -m spacy download xx_no_such_model"):
        Ruleset(Redaction(names="presidio", names_options={"model": "xx_no_such_model"}))


def test_a_detector_with_an_unknown_kind_is_an_error(staff: str) -> None:
    rules = Ruleset(Redaction(names=staff, names_options={"kind": "person"}))
    with pytest.raises(ConfigError, match="names a kind 'person'"):
        Redactor(KEY, rules).text("by Ada Lovelace")


class Counted:
    """A pattern that counts how often it is asked, and over how many bytes it was moved."""

    def __init__(self, pattern: Any) -> None:
        self._pattern = pattern
        self.groups = pattern.groups
        self.searches = 0

    def search(self, data: bytes, at: int) -> Any:
        self.searches += 1
        return self._pattern.search(data, at)

    def finditer(self, data: bytes) -> Any:
        return self._pattern.finditer(data)


@pytest.mark.parametrize("name", bench.adversarial())
def test_no_text_makes_a_rule_search_more_often_than_it_has_bytes(name: str) -> None:
    data = bench.adversarial()[name][:20_000].encode()
    for rules in KINDS.values():
        for rule in rules:
            pattern = Counted(compiled(rule.pattern))
            ends = [end for _, end in spans(rule, pattern, data)]
            assert ends == sorted(ends)
            assert pattern.searches <= len(data) + 1


def test_a_long_refused_candidate_is_passed_as_a_whole() -> None:
    """Otherwise a megabyte of one would be read a million times."""
    rule = Rule(kind="SECRET", pattern="(?:sk-)+", check=lambda data, start, end: None)
    pattern = Counted(compiled(rule.pattern))
    assert list(spans(rule, pattern, b"sk-" * 100_000)) == []
    assert pattern.searches <= 2


@pytest.mark.parametrize("name", bench.adversarial())
@pytest.mark.parametrize("size", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_megabyte_of_anything_comes_back(name: str, size: int) -> None:
    text = bench.adversarial()[name]
    out = Redactor(KEY).text((text * (size // len(text) + 1))[:size])
    assert isinstance(out, str)


def test_a_set_that_ran_out_of_memory_makes_every_rule_look() -> None:
    class Exhausted:
        def Match(self, data: bytes) -> list[int]:  # noqa: N802
            return []

    rules = Ruleset()
    rules._set = Exhausted()
    assert kinds_in(Redactor(KEY, rules).text("ada@example.org +49 30 1234567")) == ["EMAIL", "PHONE"]


def test_a_text_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than the limit of 10"):
        Redactor(KEY, max_text=10).text("x" * 11)


def test_ids_that_hold_something_private_become_ids_that_nothing_else_has() -> None:
    redactor = Redactor(KEY)
    assert redactor.identifier("0af7651916cd43dd8448eb211c80319c") == "0af7651916cd43dd8448eb211c80319c"
    hidden = redactor.identifier("session of ada@example.org")
    assert len(hidden) == 32
    assert redactor.identifier("session of ada@example.org") == hidden
    assert redactor.target("step", "session of ada@example.org/3") == f"{hidden}/3"
    assert redactor.target("trajectory", "session of ada@example.org") == hidden
    assert kinds_in(redactor.target("session", "ada@example.org")) == ["EMAIL"]


@pytest.mark.parametrize(
    ("uri", "written"),
    [
        ("/logs/a.jsonl", "/logs/a.jsonl"),
        ("s3://bucket/a.jsonl", "s3://bucket/a.jsonl"),
        ("https://h.example/a?X-Amz-Signature=0a1b&X-Amz-Date=2&part=3", "https://h.example/a?part=3"),
        ("https://h.example/a?sv=1&se=2&sig=abc%3D", "https://h.example/a"),
    ],
)
def test_a_uri_is_written_without_what_signs_it(uri: str, written: str) -> None:
    assert Redactor(KEY).uri(uri) == written


def test_a_uri_with_an_address_or_a_password_is_redacted() -> None:
    out = Redactor(KEY).uri("https://bob:hunter22x@h.example/ada@example.org.jsonl")
    assert kinds_in(out) == ["SECRET", "EMAIL"]
