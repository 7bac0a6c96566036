"""Patterns over all episodes of the learn pool: steps as integers, graphs, signals, contrasts, and their confirmation.

`journeys` reads the lake once into arrays of integers; `graph`, `signals` and `items` say what an episode has;
`contrast` tests what goes with failure; `confirming` believes it only when later data say so, too. Nothing here reads
the gate pool.
"""
