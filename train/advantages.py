"""What a logged rollout was worth beside its group: the number that offline GRPO multiplies gradients with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantages:
    """Advantage per row, None for rows whose group teaches nothing, and the count of groups of either sort."""

    per_row: tuple[float | None, ...]
    groups_used: int
    groups_flat: int
    """Groups of a single rollout, or all of whose rollouts got the same reward."""


def centred(rewards: Sequence[float], groups: Sequence[str], rollouts: Sequence[str]) -> Advantages:
    """Reward minus the mean of its group's rollouts; a rollout counts once however many rows it has.

    Otherwise failures, which take more calls, would weigh more in the baseline than successes. Centred only: dividing
    by the standard deviation over-weights groups that are nearly solved (Dr. GRPO, arXiv 2503.20783).
    """
    of_group: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for reward, group, rollout in zip(rewards, groups, rollouts, strict=True):
        of_group[group][rollout].append(reward)
    baseline: dict[str, float] = {}
    for group, by_rollout in of_group.items():
        means = [fmean(found) for found in by_rollout.values()]
        if max(means) - min(means) > 1e-9:
            baseline[group] = fmean(means)
    return Advantages(
        per_row=tuple(
            reward - baseline[group] if group in baseline else None
            for reward, group in zip(rewards, groups, strict=True)
        ),
        groups_used=len(baseline),
        groups_flat=len(of_group) - len(baseline),
    )
