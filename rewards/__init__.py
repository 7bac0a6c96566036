"""Rewards: what is known about how well a logged call or trajectory went. NULL is an abstention, never a zero.

`build(specs, root=…)` gives the reward models (protocols.RewardModel) of a configuration, `build_verifier(spec, root)`
a verifier (protocols.Verifier) that also judges replayed outputs. A kind is one file and one line in `registry`; those
that ask a language model share the room `llm`. `combined` makes one score per trajectory of what all of them said, by
the `label_model` where no truth is known; `report` says how far a model may be believed, `asking` which labels would
tell most; the room `credit` shares an episode's outcome among its calls.
"""

from tracemill.rewards.registry import RewardSpec, build, build_verifier

__all__ = ["RewardSpec", "build", "build_verifier"]
