"""How a candidate is scored before it is deployed: each level of the ladder tries it nearer to what would happen.

| module | level | fidelity of its outcomes |
|---|---|---|
| `lint` | 0: what is wrong with the artifact itself | `lint` |
| `single_step` | 1: logged calls with the new prompt, judged by reward models | `single_step` |
| `pairwise` | 2: the new answer against the logged one, asked in both orders | `pairwise` |
| `recorded` | 3: whole episodes with the tools' logged results | `recorded:exact`, `:equivalent`, `:divergent` |
| `chained` | 3 of several sites: all of it, with its new answers | `chained:exact`, `:substituted`, `:divergent` |
| `simulated` | 4: a model plays tools and user; no evidence for the gate | `simulated` |
| `executed` | the agent acts in an environment, which gives the reward | `executed` |

`level` holds their protocol, `Ladder`, which climbs them, and what they share; `tape` matches tool calls with the log.
All that ask a model ask the same `replay.CachedModel`: cached by content, within one budget.
"""

from tracemill.optimize.ladder.chained import Chained, Chains
from tracemill.optimize.ladder.executed import Closes, Executed
from tracemill.optimize.ladder.level import Grade, Ladder, Level, Mark, one_by_one
from tracemill.optimize.ladder.lint import Lint
from tracemill.optimize.ladder.pairwise import Pairwise
from tracemill.optimize.ladder.recorded import Episodes, Recorded
from tracemill.optimize.ladder.simulated import Simulated
from tracemill.optimize.ladder.single_step import SingleStep

__all__ = [
    "Chained",
    "Chains",
    "Closes",
    "Episodes",
    "Executed",
    "Grade",
    "Ladder",
    "Level",
    "Lint",
    "Mark",
    "Pairwise",
    "Recorded",
    "Simulated",
    "SingleStep",
    "one_by_one",
]
