"""What must not get worse, whatever the reward says, and what must never be published.

Two kinds: figures that may not fall behind the baseline by more than a margin (valid format, errors, latency, length),
and things of which nothing new may appear (secrets, unbound pseudonyms, somebody's logged words). A rail that cannot
be measured has `passed=None`, which does not pass.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tracemill.promote import texts
from tracemill.records import Candidate, Guardrail, Outcome
from tracemill.stats import paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailPolicy:
    """How much worse is still the same, and what is tolerated."""

    valid_margin: float = 0.10
    """The valid-format rate may fall by at most this, with the 95 % confidence that the cases allow."""
    error_margin: float = 0.05
    """Likewise the share of calls that end in an answer and not in an error."""
    max_latency_ratio: float = 2.0
    """Median latency of the candidate over that of the baseline."""
    max_length_ratio: float = 2.0
    """Mean output length over the baseline's; shorter is no fault: a router that stops rambling is what we want."""
    length_slack_chars: int = 20
    """Growth that is never a fault: a ratio of one-word answers says nothing."""
    copy_words: int = 12
    """A run of this many words shared with a logged text is a copy …"""
    common_from: int = 3
    """… unless at least so many distinct logged texts hold it."""
    demo_min_users: int = 0
    """Least number of distinct users that the demonstrations together come from; 0: any."""
    allowed: tuple[str, ...] = ()
    """E-mail addresses and the like that may be said (a public support address)."""
    kept_pseudonyms: tuple[str, ...] = ()
    """Pseudonyms that the operator keeps in constant text by rule."""


def check(
    candidate: Candidate,
    baseline: Candidate,
    candidate_outcomes: Sequence[Outcome],
    baseline_outcomes: Sequence[Outcome],
    *,
    logged_texts: Sequence[str],
    policy: GuardrailPolicy,
    users: Mapping[str, str | None] | None = None,
) -> tuple[Guardrail, ...]:
    """Every guardrail of one candidate, each with both sides' figures.

    `logged_texts` are what users wrote in the logs that learning could see. `users` maps trajectory ids to user keys
    and is needed only where the policy asks for demonstrations of several users.
    """
    ours = [one.completion.text or "" for one in candidate_outcomes]
    theirs = [one.completion.text or "" for one in baseline_outcomes]
    return (
        _not_worse("valid_format", candidate_outcomes, baseline_outcomes, lambda one: one.valid, policy.valid_margin),
        _not_worse(
            "answered", candidate_outcomes, baseline_outcomes, lambda one: not one.completion.error, policy.error_margin
        ),
        _latency(candidate_outcomes, baseline_outcomes, policy),
        _length(candidate_outcomes, baseline_outcomes, policy),
        _secrets(candidate, baseline, ours, theirs, policy),
        _unbound(candidate, baseline, policy),
        _copied_instructions(candidate, baseline, logged_texts, policy),
        _copied_outputs(ours, theirs, logged_texts, policy),
        _demonstrations(candidate, baseline, policy, users),
    )


def _not_worse(
    name: str,
    candidate: Sequence[Outcome],
    baseline: Sequence[Outcome],
    flag: Callable[[Outcome], bool | None],
    margin: float,
) -> Guardrail:
    """Non-inferiority of a rate, paired and clustered. A candidate that never failed passes on any number of cases."""
    theirs = {one.case_id: flag(one) for one in baseline}
    rows = [
        (float(ours), float(other), one.task_group)
        for one in candidate
        if (ours := flag(one)) is not None and (other := theirs.get(one.case_id)) is not None
    ]
    difference = paired_difference([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], level=0.9)
    if difference is None:
        return Guardrail(
            name=name, passed=None, baseline=None, candidate=None, detail="no case was judged on both sides"
        )
    rate = sum(ours for ours, _, _ in rows) / len(rows)
    other_rate = sum(other for _, other, _ in rows) / len(rows)
    failures = sum(ours == 0 for ours, _, _ in rows)
    detail = f"{rate:.1%} against {other_rate:.1%} on {len(rows)} cases"
    if not failures:
        most = min(1.0, 3 / difference.n_clusters)  # the rule of three
        detail = f"no failure in {len(rows)} cases, so at most {most:.1%} with 95 % confidence"
    if failures and difference.low < -margin:
        detail += (
            f"; a fall of {-difference.low * 100:.1f} points cannot be excluded and {margin * 100:.1f} are allowed"
        )
    return Guardrail(
        name=name,
        passed=failures == 0 or difference.low >= -margin,
        baseline=other_rate,
        candidate=rate,
        detail=detail,
    )


def _latency(candidate: Sequence[Outcome], baseline: Sequence[Outcome], policy: GuardrailPolicy) -> Guardrail:
    ours, theirs = (
        [one.completion.latency_ns / 1e6 for one in side if one.completion.latency_ns is not None]
        for side in (candidate, baseline)
    )
    mine = median(ours) if ours else None
    other = median(theirs) if theirs else None
    if mine is None or other is None or other <= 0:
        return Guardrail(
            name="latency", passed=None, baseline=other, candidate=mine, detail="no latency was measured on one side"
        )
    detail = (
        f"median {mine:.0f} ms against {other:.0f} ms, {mine / other:.2f} times; {policy.max_latency_ratio:g} allowed"
    )
    return Guardrail(
        name="latency",
        passed=mine / other <= policy.max_latency_ratio,
        baseline=other,
        candidate=mine,
        detail=detail,
    )


def _length(candidate: Sequence[Outcome], baseline: Sequence[Outcome], policy: GuardrailPolicy) -> Guardrail:
    ours, theirs = (
        [len(one.completion.text) for one in side if one.completion.text is not None] for side in (candidate, baseline)
    )
    if not ours or not theirs:
        return Guardrail(
            name="output_length", passed=None, baseline=None, candidate=None, detail="one side gave no text at all"
        )
    mine, other = sum(ours) / len(ours), sum(theirs) / len(theirs)
    limit = max(policy.max_length_ratio * other, other + policy.length_slack_chars)
    return Guardrail(
        name="output_length",
        passed=mine <= limit,
        baseline=other,
        candidate=mine,
        detail=f"mean {mine:.0f} characters against {other:.0f}; {limit:.0f} allowed",
    )


def _secrets(
    candidate: Candidate, baseline: Candidate, ours: Sequence[str], theirs: Sequence[str], policy: GuardrailPolicy
) -> Guardrail:
    def found(side: Candidate, outputs: Sequence[str]) -> dict[str, str]:
        every = [*texts.strings(side.artifact.prompts), *outputs]
        return {value: kind for text in every for value, kind in texts.sensitive(text).items()}

    mine, other = found(candidate, ours), found(baseline, theirs)
    new = {value: kind for value, kind in mine.items() if value not in other and value not in policy.allowed}
    return Guardrail(
        name="secrets",
        passed=not new,
        baseline=float(len(other)),
        candidate=float(len(mine)),
        # The kinds only: this sentence is stored, printed and published.
        detail=f"new in prompt or outputs: {_counted(new.values())}" if new else "nothing that production does not say",
    )


def _unbound(candidate: Candidate, baseline: Candidate, policy: GuardrailPolicy) -> Guardrail:
    mine, other = (
        texts.pseudonyms(side.artifact.prompts, kept=policy.kept_pseudonyms) for side in (candidate, baseline)
    )
    return Guardrail(
        name="unbound_pseudonyms",
        passed=not mine,
        baseline=float(len(other)),
        candidate=float(len(mine)),
        detail=f"bind or keep {', '.join(mine)}" if mine else "the prompt's constant text holds none",
    )


def _copied_instructions(
    candidate: Candidate, baseline: Candidate, logged_texts: Sequence[str], policy: GuardrailPolicy
) -> Guardrail:
    ours, theirs = (
        [text for prompt in side.artifact.prompts for text in texts.instructions(prompt)]
        for side in (candidate, baseline)
    )
    return _copies("copied_instructions", ours, theirs, logged_texts, policy)


def _copied_outputs(
    ours: Sequence[str], theirs: Sequence[str], logged_texts: Sequence[str], policy: GuardrailPolicy
) -> Guardrail:
    return _copies("copied_outputs", ours, theirs, logged_texts, policy)


def _copies(
    name: str, ours: Sequence[str], theirs: Sequence[str], logged_texts: Sequence[str], policy: GuardrailPolicy
) -> Guardrail:
    """Runs of words that the candidate has from one logged text and that the baseline does not say."""
    mine, other = (
        {run for text in side for run in texts.word_runs(text, policy.copy_words)} for side in (ours, theirs)
    )
    runs = texts.copied(mine | other, logged_texts, length=policy.copy_words, common_from=policy.common_from)
    new = runs & (mine - other)
    return Guardrail(
        name=name,
        passed=not new,
        baseline=float(len(runs & other)),
        candidate=float(len(runs & mine)),
        detail=(
            f"{len(new)} runs of {policy.copy_words} words come from fewer than {policy.common_from} logged texts"
            if new
            else f"no run of {policy.copy_words} words is taken from fewer than {policy.common_from} logged texts"
        ),
    )


def _demonstrations(
    candidate: Candidate,
    baseline: Candidate,
    policy: GuardrailPolicy,
    users: Mapping[str, str | None] | None,
) -> Guardrail:
    """Demonstrations are declared copies: each names a source in the lineage, or is one that production carries."""
    carried, shown = (
        [demo for prompt in side.artifact.prompts for demo in texts.demonstrations(prompt)]
        for side in (baseline, candidate)
    )
    new = [demo for demo in shown if demo not in carried]
    undeclared = sum(demo.get("source") not in candidate.lineage for demo in new)
    passed: bool | None = undeclared == 0
    detail = f"{len(new)} new, every source in the lineage"
    if undeclared:
        detail = f"{undeclared} of {len(new)} new ones name no source in the candidate's lineage"
    elif new and policy.demo_min_users > 0:
        keys = {(users or {}).get(str(demo["source"])) for demo in new} - {None}
        passed = True if len(keys) >= policy.demo_min_users else None if not keys else False
        detail = f"from {len(keys)} known users; the policy asks for {policy.demo_min_users}"
    return Guardrail(
        name="demonstrations",
        passed=passed,
        baseline=float(len(carried)),
        candidate=float(len(shown)),
        detail=detail,
    )


def _counted(kinds: Collection[str]) -> str:
    return ", ".join(f"{list(kinds).count(kind)} × {kind}" for kind in sorted(set(kinds)))
