"""Mining: what was going on in the logs. Reads SQL, returns Arrow and records; writes nothing.

`groups.group_tasks` puts near-duplicate inputs into one task group and each group into one pool; `sites.recover` finds
the call sites behind logged calls and their prompt templates; `sites.load` and `cases.load` hand them to learning;
`findings.find` says what goes with failure in all episodes (the room `patterns`), confirmed on later ones; `clusters`
puts every episode to those that want the same or fail alike, by what `embedding` makes of a text; `decontaminating`
says which cases to learn from are too near one that the gate judges by.
"""
