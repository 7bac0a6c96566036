"""Rewards: what is known about how well a logged call or trajectory went. NULL is an abstention, never a zero.

`build(specs, root=…)` gives the reward models (protocols.RewardModel) of a configuration, `build_verifier(spec, root)`
a verifier (protocols.Verifier) that also judges replayed outputs, `combined.combine` one score per trajectory.
"""

from tracemill.rewards.registry import RewardSpec, build, build_verifier

__all__ = ["RewardSpec", "build", "build_verifier"]
