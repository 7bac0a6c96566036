"""Every added line names the episodes that it was made from, and none rests on too few users."""

from dataclasses import replace

from triage import BASE, RULE, TRAIN, TUNE, Writer, case_of, evaluator, make, study

from tracemill.optimize import provenance
from tracemill.optimize.artifact import instructions, with_demonstrations, with_instructions
from tracemill.optimize.portfolio import Backing, run
from tracemill.optimize.search import candidate, demonstrations
from tracemill.study import Hint


def test_lines_are_told_from_those_of_production():
    changed = with_instructions(BASE, f"{instructions(BASE)}{RULE}\n\nBe brief.")
    assert provenance.added(BASE, changed) == [RULE, "Be brief."]
    assert provenance.added(BASE, BASE) == []
    assert ("system", "  You sort tickets of {{company}}.") in provenance.lines(BASE)


def test_a_line_rests_on_what_it_was_written_from_else_on_all():
    changed = with_instructions(BASE, f"{instructions(BASE)}{RULE}\nBe brief.")
    users = [case_of(n, user=f"u{n % 2}") for n in range(4)]
    made = candidate(
        study(train=users), "gepa", changed, (1.0, 12), [one.trajectory_id for one in users], {RULE: ["t000", "t002"]}
    )
    assert [(one.text, one.trajectories, one.n_users) for one in made.support] == [
        (RULE, ("t000", "t002"), 1),
        ("Be brief.", ("t000", "t001", "t002", "t003"), 2),
    ]


def test_episodes_of_a_finding_count_no_more_users_than_it_has():
    changed = with_instructions(BASE, f"{instructions(BASE)}{RULE}")
    shown = ("h1", "h2", "h3")
    for n_users, behind in ((1, 1), (2, 2), (9, 3), (0, 3)):
        hint = Hint(finding_id="f", text="it fails", trajectories=shown, n_users=n_users)
        given = replace(study(), hints=(hint,))
        (support,) = candidate(given, "apo", changed, (1.0, 12), shown, {RULE: shown}).support
        assert support.n_users == behind
    (support,) = candidate(study(), "apo", changed, (1.0, 12), shown, {RULE: shown}).support
    assert support.n_users == 1, "nobody knows whose they are"


def test_a_demonstration_rests_on_all_who_asked_the_same_and_were_answered_alike():
    same = {"company": "ACME", "ticket": "my parcel"}
    asked = [case_of(n, values=same, logged_output="delivery", user=f"u{n}") for n in range(3)]
    other = case_of(7, values=same, logged_output="billing", user="u7")
    given = study(train=[*asked, other])
    (shown,) = demonstrations(given)
    made = candidate(given, "nearest", with_demonstrations(BASE, [shown.demo]), (1.0, 12), ["t000"])
    (support,) = made.support
    assert (support.demonstration, support.trajectories, support.n_users) == (True, ("t000", "t001", "t002"), 3)
    assert made.lineage == support.trajectories, "who erases one of them is told of the candidate"


def test_every_line_that_a_writer_adds_is_backed_by_what_it_was_shown():
    for name in ("gepa", "mipro"):
        for one in make(name).search(study()):
            for line in provenance.added(BASE, one.artifact):
                behind = next(support for support in one.support if support.text == line)
                assert set(behind.trajectories) <= set(one.lineage)
                assert behind.trajectories


def test_what_one_user_taught_is_no_candidate():
    alone = [case_of(n, user="loud") for n in range(16)]
    for train, refused in ((alone, True), (TRAIN, False)):
        race = run(
            study(evaluator(), train=train, variants=()),
            [make("gepa", Writer()), make("nearest")],
            on_candidate=lambda one: None,
            backing=Backing(line=2),
        )
        written = [one for one in race.candidates if provenance.added(BASE, one.artifact)]
        assert bool(written) is not refused
        assert (race.standings[0].refused > 0) is refused
        assert any(one.optimizer == "nearest" for one in race.candidates), "a demonstration may be one user's"
    assert len(TUNE) == 12
