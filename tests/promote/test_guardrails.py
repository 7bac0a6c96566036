"""Each guardrail passes what is fine, fails what it is there for, and says None where it could not look."""

from collections.abc import Callable
from typing import Any

import pytest

from tracemill.promote.guardrails import GuardrailPolicy, check
from tracemill.promote.texts import sensitive
from tracemill.records import Candidate, Completion, Guardrail, Outcome

Make = Callable[..., Candidate]
LOGGED = "my parcel was left with the neighbour in number nine but she says that nobody ever rang her door"


def _outcomes(
    n: int = 60,
    *,
    text: str | None = "billing",
    invalid: int = 0,
    errors: int = 0,
    latency_ms: float | None = 100.0,
    valid: bool | None = True,
) -> list[Outcome]:
    return [
        Outcome(
            case_id=f"t{i}/0",
            task_group=f"g{i}",
            completion=Completion(
                text=text,
                latency_ns=None if latency_ms is None else int(latency_ms * 1e6),
                error="timed out" if i < errors else None,
            ),
            reward=1.0,
            valid=valid and i >= invalid,
        )
        for i in range(n)
    ]


def _check(
    candidate: Candidate,
    baseline: Candidate,
    ours: list[Outcome] | None = None,
    theirs: list[Outcome] | None = None,
    *,
    logged: list[str] | None = None,
    policy: GuardrailPolicy | None = None,
    users: dict[str, str | None] | None = None,
) -> dict[str, Guardrail]:
    rails = check(
        candidate,
        baseline,
        _outcomes() if ours is None else ours,
        _outcomes() if theirs is None else theirs,
        logged_texts=logged or [],
        policy=policy or GuardrailPolicy(),
        users=users,
    )
    return {rail.name: rail for rail in rails}


def _failing(rails: dict[str, Guardrail]) -> set[str]:
    return {name for name, rail in rails.items() if rail.passed is False}


def test_a_harmless_candidate_passes_every_rail(make_candidate: Make) -> None:
    rails = _check(make_candidate("Route the ticket well."), make_candidate())
    assert all(rail.passed for rail in rails.values())
    assert "at most 5.0% with 95 % confidence" in rails["valid_format"].detail


def test_losing_the_format_fails_and_names_both_rates(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(invalid=12))
    assert _failing(rails) == {"valid_format"}
    assert rails["valid_format"].candidate == pytest.approx(0.8)
    assert rails["valid_format"].baseline == 1.0
    assert "80.0% against 100.0% on 60 cases" in rails["valid_format"].detail


def test_the_same_share_of_malformed_outputs_is_no_loss(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(invalid=6), _outcomes(invalid=6))
    assert rails["valid_format"].passed


def test_few_cases_with_a_failure_cannot_show_that_nothing_was_lost(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(12, invalid=1), _outcomes(12))
    assert rails["valid_format"].passed is False
    assert "cannot be excluded" in rails["valid_format"].detail


def test_errors_fail(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(errors=9))
    assert _failing(rails) == {"answered"}


def test_what_was_not_measured_is_none_and_not_a_pass(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(latency_ms=None, valid=None, text=None))
    assert rails["latency"].passed is None
    assert rails["valid_format"].passed is None
    assert rails["output_length"].passed is None
    empty = _check(make_candidate("a"), make_candidate("b"), [], [])
    assert empty["answered"].passed is None


def test_twice_the_latency_is_allowed_and_more_is_not(make_candidate: Make) -> None:
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(latency_ms=200))
    assert rails["latency"].passed
    rails = _check(make_candidate("a"), make_candidate("b"), _outcomes(latency_ms=210))
    assert _failing(rails) == {"latency"}
    assert "2.10 times" in rails["latency"].detail


def test_rambling_fails_and_brevity_does_not(make_candidate: Make) -> None:
    long, short = _outcomes(text="word " * 80), _outcomes(text="billing")
    assert _failing(_check(make_candidate("a"), make_candidate("b"), long, short)) == {"output_length"}
    assert not _failing(_check(make_candidate("a"), make_candidate("b"), short, long))
    assert not _failing(
        _check(make_candidate("a"), make_candidate("b"), _outcomes(text="technical"), _outcomes(text="it"))
    )


SECRETS = [
    ("e-mail address", "write to jane.doe+x@mail.example.org please"),
    ("private key", "-----BEGIN RSA PRIVATE KEY-----"),
    ("AWS key", "AKIA" + "ABCDEFGHIJKLMNOP"),
    ("API key", "sk-" + "a1B2" * 8),
    ("GitHub token", "ghp_" + "a1B2" * 9),
    ("Google key", "AIza" + "x" * 35),
    ("Slack token", "xoxb-" + "1234567890ab"),
    ("JSON web token", "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl"),
    ("bearer token", "Authorization: Bearer " + "0123456789abcdef" * 2),
    ("password in a URL", "postgres://admin:hunter22@db/prod"),
]


@pytest.mark.parametrize(("kind", "text"), SECRETS, ids=[kind for kind, _ in SECRETS])
def test_secrets_in_outputs_or_prompt_fail_without_being_repeated(make_candidate: Make, kind: str, text: str) -> None:
    in_output = _check(make_candidate("a"), make_candidate("b"), _outcomes(text=text), _outcomes(text=" " * len(text)))
    in_prompt = _check(make_candidate(f"Use {text} here."), make_candidate("b"))
    for rails in (in_output, in_prompt):
        assert _failing(rails) == {"secrets"}
        assert kind in rails["secrets"].detail
        assert not set(sensitive(text)) & set(rails["secrets"].detail.split())


@pytest.mark.parametrize("text", ["see section 3@4", "sk-learn is fine", "https://host:8080/a@b", "Bearer of news"])
def test_ordinary_text_is_no_secret(text: str) -> None:
    assert sensitive(text) == {}


def test_what_production_says_already_or_the_policy_allows_is_no_leak(make_candidate: Make) -> None:
    said = "Answer as help@shop.example."
    assert not _failing(_check(make_candidate(said + " Be brief."), make_candidate(said)))
    policy = GuardrailPolicy(allowed=("help@shop.example",))
    assert not _failing(_check(make_candidate(said), make_candidate(), policy=policy))


def test_an_unbound_pseudonym_fails_until_it_is_kept_by_rule(make_candidate: Make) -> None:
    candidate = make_candidate("Sign as [EMAIL_0a1b2c3d].")
    rails = _check(candidate, make_candidate())
    assert _failing(rails) == {"unbound_pseudonyms"}
    assert "[EMAIL_0a1b2c3d]" in rails["unbound_pseudonyms"].detail
    kept = GuardrailPolicy(kept_pseudonyms=("[EMAIL_0a1b2c3d]",))
    assert not _failing(_check(candidate, make_candidate(), policy=kept))


def test_a_pseudonym_in_a_demonstration_is_unbound_too(make_candidate: Make) -> None:
    pool = [{"messages": [{"role": "user", "content": "I am [USER_0a1b2c3d]"}], "text": "", "source": "t1"}]
    rails = _check(make_candidate(pool=pool, lineage=("t1",)), make_candidate())
    assert _failing(rails) == {"unbound_pseudonyms"}


def test_somebodys_words_in_instructions_or_outputs_fail(make_candidate: Make) -> None:
    copied = "Some say: " + LOGGED.upper().replace(" ", ",  ")
    in_prompt = _check(make_candidate(copied), make_candidate(), logged=[LOGGED, "short"])
    assert _failing(in_prompt) == {"copied_instructions"}
    in_output = _check(
        make_candidate("a"), make_candidate("b"), _outcomes(text=copied), _outcomes(text="x" * 99), logged=[LOGGED]
    )
    assert _failing(in_output) == {"copied_outputs"}
    assert "neighbour" not in in_output["copied_outputs"].detail


def test_eleven_shared_words_a_common_phrase_and_what_production_says_are_no_copies(make_candidate: Make) -> None:
    eleven = " ".join(LOGGED.split()[:11])
    assert not _failing(_check(make_candidate(eleven), make_candidate(), logged=[LOGGED]))
    common = [f"{LOGGED} {i}" for i in range(3)]
    assert not _failing(_check(make_candidate(LOGGED), make_candidate(), logged=common))
    assert _failing(_check(make_candidate(LOGGED), make_candidate(), logged=[LOGGED] * 3)) == {"copied_instructions"}
    assert not _failing(_check(make_candidate(LOGGED + " Be brief."), make_candidate(LOGGED), logged=[LOGGED]))


def _demo(source: str | None) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"{LOGGED} {source}"}, {"role": "assistant", "content": "delivery"}]
    return {"messages": turns, "text": LOGGED} | ({"source": source} if source else {})


def test_demonstrations_are_declared_copies(make_candidate: Make) -> None:
    declared = make_candidate(pool=[_demo("t1"), _demo("t2")], lineage=("t1", "t2"))
    assert not _failing(_check(declared, make_candidate(), logged=[LOGGED]))
    for pool, lineage in (([_demo("t1"), _demo("t2")], ("t1",)), ([_demo(None)], ("t1",))):
        rails = _check(make_candidate(pool=pool, lineage=lineage), make_candidate(), logged=[LOGGED])
        assert _failing(rails) == {"demonstrations"}
    carried = make_candidate(pool=[_demo(None)])
    assert not _failing(_check(make_candidate("new", pool=[_demo(None)]), carried))


def test_demonstrations_of_one_user_fail_where_several_are_asked_for(make_candidate: Make) -> None:
    candidate = make_candidate(pool=[_demo("t1"), _demo("t2")], lineage=("t1", "t2"))
    policy = GuardrailPolicy(demo_min_users=2)

    def passed(users: dict[str, str | None] | None) -> bool | None:
        return _check(candidate, make_candidate(), policy=policy, users=users)["demonstrations"].passed

    assert passed({"t1": "u1", "t2": "u2"}) is True
    assert passed({"t1": "u1", "t2": "u1"}) is False
    assert passed(None) is None
