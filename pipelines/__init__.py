"""The map of the system: stages as functions over a Night, and the Prefect flow that runs them.

ingesting   logs in, one batch one transaction, every trajectory in a pool
judging     reward models, verifiers, call sites
asking      whom judges ask, through the lake's cache, within their budget
validating  reports of reward models, and the combined score of those that may be believed
labelling   which episodes a person should judge, and what they said
clustering  episodes that want the same, or fail alike
finding     what goes with failure in all episodes, confirmed on later ones
fitting     what labels teach reward models, kept with what it came from
preferring  heads that learn which of two runs went better, a training job each
crediting   what of an episode's outcome each of its calls is worth
learning    what tonight is worth learning from, frozen at a snapshot
systems     several sites of one system as one lesson, their episodes split once
jointly     one search over all of them
branches    better prompts, better weights
turns       prompts and weights that go on from one another
teaching    what prompts were right about, handed over to weights
grading     who judges a replayed answer: verifiers, else the calibrated judge
laddering   which levels try a prompt of a site, on one cache and one account
replaying   outcomes as rows of the lake, production's as the logs have them
gating      verdicts on cases that learning never saw
releasing   bundles, publishers, channels, the way back
flows       the order of all that
exporting   trajectories out again, as files of other formats
forgetting  a user, a trace or what is old: out of the lake and the landing folder
"""
