"""How many false promotions a deployment suffers in a year, with this gate and with what is done elsewhere.

    python bench/gate.py [--quick]

Every night for 365 nights a new candidate is judged; one in ten is better by 5 to 8 points, the others are equal to
production. Three gates see such lives:

    tracemill      e-process over task groups, carried for up to 5 nights, levels from the lifetime budget
    nightly_z      a one-sided paired z-test at 5 % on the night's groups
    best_of_8      8 candidates scored on the same 100 rows, the best one tested on those rows with that z-test

Prints one JSON object as its last line. `lifetime_false_promotion_rate`: expected share of false ones among a life's
promotions. `power_at_8_points`: share of candidates better by 8 points that are promoted, within their nights.
"""

import argparse
import json
import time
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tracemill import stats
from tracemill.promote.gate import GatePolicy, decide
from tracemill.promote.wealth import Wealth
from tracemill.records import Artifact, Candidate, Completion, Guardrail, Outcome

NIGHTS = 365
TRUE_SHARE = 0.1
DISCORDANT = 0.25  # share of groups on which an equal candidate and production differ
BEST_OF, BEST_ROWS = 8, 100
DIFFERENCES = [1.0, -1.0, 0.0]
Z_95 = NormalDist().inv_cdf(0.95)
Z_975 = NormalDist().inv_cdf(0.975)

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def chances(effect: Floats) -> Floats:
    """Chances of +1, -1 and 0 for a mean difference of `effect`."""
    up, down = (DISCORDANT + effect) / 2, (DISCORDANT - effect) / 2
    return np.stack([up, down, 1 - up - down], axis=-1)


def moments(counts: Counts) -> tuple[Floats, Floats]:
    """Mean and its standard error."""
    n = counts.sum(axis=-1)
    mean = (counts[..., 0] - counts[..., 1]) / n
    variance = (counts[..., 0] + counts[..., 1]) / n - mean**2
    return mean, np.sqrt(np.maximum(variance, 1e-12) / n)


def tracemill(rng: np.random.Generator, effects: Floats, groups: int, policy: GatePolicy) -> npt.NDArray[np.bool_]:
    """Which candidates (life, night of birth) are promoted."""
    lives = len(effects)
    promoted = np.zeros(effects.shape, dtype=bool)
    open_ = np.ones(effects.shape, dtype=bool)
    seen = np.zeros((*effects.shape, 3), dtype=np.int64)
    rejections = np.zeros(lives, dtype=np.int64)
    level = np.vectorize(stats.e_lond_level, otypes=[float])
    reachable = np.vectorize(stats.minimum_detectable_effect, otypes=[float])
    for night in range(NIGHTS + policy.max_nights - 1):
        for born in range(max(0, night - policy.max_nights + 1), min(night, NIGHTS - 1) + 1):
            who = open_[:, born]
            if not who.any():
                continue
            seen[who, born] += rng.multinomial(groups, chances(effects[who, born]))
            counts = seen[:, born]
            levels = level(policy.alpha, born + 1, rejections)
            yes = who & (stats.e_values(DIFFERENCES, counts, margin=policy.min_effect) >= 1 / levels)
            mean, error = moments(np.where(who[:, None], counts, 1))
            harmful = stats.e_values([-d for d in DIFFERENCES], counts) >= 1 / policy.harm_alpha
            futile = mean + Z_975 * error < policy.wanted_effect
            # What `decide` calls UNDERPOWERED: no night that is left could show the wanted or the seen effect.
            n, left = counts.sum(axis=1), policy.max_nights - (night - born) - 1
            spread = np.sqrt((error**2 * n * n + 1) / (n + 1))
            hopeless = reachable(spread, n + groups * left, alpha=levels, power=policy.power) > np.maximum(
                policy.wanted_effect, mean
            )
            promoted[:, born] |= yes
            rejections += yes
            open_[:, born] &= ~(yes | harmful | futile | hopeless)
    return promoted


def nightly_z(rng: np.random.Generator, effects: Floats, groups: int) -> npt.NDArray[np.bool_]:
    mean, error = moments(rng.multinomial(groups, chances(effects)))
    result: npt.NDArray[np.bool_] = mean > Z_95 * error
    return result


def best_of_8(rng: np.random.Generator, effects: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which nights promote, and which of these promote the one candidate that may be truly better."""
    field = np.zeros((*effects.shape, BEST_OF))
    field[..., 0] = effects
    counts = rng.multinomial(BEST_ROWS, chances(field))
    # Ties go to a random one, not to the first, which here is the good one.
    best = (counts[..., 0] - counts[..., 1] + rng.random(field.shape) / 2).argmax(axis=-1)
    mean, error = moments(np.take_along_axis(counts, best[..., None, None], axis=-2)[..., 0, :])
    return mean > Z_95 * error, best == 0


def summary(
    promoted: npt.NDArray[np.bool_], good: npt.NDArray[np.bool_], better: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """`good`: where a promotion is a true one; `better`: nights that had a truly better candidate."""
    false = (promoted & ~good).sum(axis=1)
    total = promoted.sum(axis=1)
    return {
        "false_share": float(np.mean(false / np.maximum(total, 1))),
        "false_a_year": float(false.mean()),
        "lives_with_a_false_one": float(np.mean(false > 0)),
        "true_a_year": float((total - false).mean()),
        "found_of_5_to_8_points": float((promoted & good).sum() / max(1, better.sum())),
    }


def agrees(rng: np.random.Generator, policy: GatePolicy, groups: int) -> None:
    """The vectorised lives above use the numbers that `gate.decide` would: checked on real decisions."""
    rails = (Guardrail(name="none", passed=True, baseline=None, candidate=None),)

    def side(name: str) -> Candidate:
        return Candidate(
            branch="prompt",
            site_id="s",
            site_version="v",
            optimizer="o",
            artifact=Artifact(prompt={"model": name, "messages": []}),
        )

    for effect in (0.0, 0.08, 0.2):
        counts = rng.multinomial(groups, chances(np.array(effect)))
        pairs = [pair for pair, n in zip(((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)), counts, strict=True) for _ in range(n)]
        ours, theirs = (
            [
                Outcome(
                    case_id=str(i), task_group=str(i), completion=Completion(text=""), reward=pair[which], valid=True
                )
                for i, pair in enumerate(pairs)
            ]
            for which in (0, 1)
        )
        decision = decide(
            side("new"),
            side("old"),
            ours,
            theirs,
            policy=policy,
            wealth=Wealth(),
            guardrails=rails,
            channel="production",
            prior=None,
        )
        e_value = float(stats.e_values(DIFFERENCES, counts, margin=policy.min_effect))
        if decision.e_value is None or not np.isclose(decision.e_value, e_value, rtol=1e-6):
            raise SystemExit(f"bench and gate disagree: {decision.e_value} and {e_value}")
        if (decision.verdict == "PROMOTE") != (e_value >= 1 / decision.alpha):
            raise SystemExit(f"bench and gate disagree on {decision}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer lives; under a minute")
    parser.add_argument("--groups", type=int, default=1000, help="task groups that reach the gate a night")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lives = 40 if args.quick else 400
    started = time.perf_counter()
    rng = np.random.default_rng(args.seed)
    policy = GatePolicy()
    agrees(rng, policy, args.groups)

    better = rng.random((lives, NIGHTS)) < TRUE_SHARE
    effects = np.where(better, rng.uniform(0.05, 0.08, better.shape), 0.0)
    at_8 = np.where(better, 0.08, 0.0)
    ours = summary(tracemill(rng, effects, args.groups, policy), better, better)
    one_night = GatePolicy(max_nights=1)
    single = summary(tracemill(rng, effects, args.groups, one_night), better, better)
    z = summary(nightly_z(rng, effects, args.groups), better, better)
    picked, good = best_of_8(rng, effects)
    best = summary(picked, good & better, better)
    nothing = np.zeros_like(effects)
    never_better = summary(tracemill(rng, nothing, args.groups, policy), ~np.ones_like(better), better)
    power = {
        "tracemill": float(tracemill(rng, at_8, args.groups, policy)[better].mean()),
        "tracemill_one_night": float(tracemill(rng, at_8, args.groups, one_night)[better].mean()),
        "nightly_z": float(nightly_z(rng, at_8, args.groups)[better].mean()),
    }
    rows = {"tracemill": ours, "tracemill_one_night": single, "nightly_z": z, "best_of_8": best}
    rows["tracemill_all_equal"] = never_better
    print(f"{lives} lives of {NIGHTS} nights, {args.groups} task groups a night, {TRUE_SHARE:.0%} truly better")
    for name, row in rows.items():
        print(f"{name:20}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    result: dict[str, Any] = {
        "lifetime_false_promotion_rate": ours["false_share"],
        "power_at_8_points": power["tracemill"],
        "power_at_8_points_by_gate": power,
        "gates": rows,
        "lives": lives,
        "groups_a_night": args.groups,
        "seconds": time.perf_counter() - started,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
