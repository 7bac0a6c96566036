"""Decides whether a candidate is better, packs what was decided on, and brings it to the agents.

    gate.decide         paired, clustered evidence -> one verdict, under an error budget for the deployment's life
    wealth.Wealth       that budget, read from the past verdicts
    guardrails.check    what must not get worse, and what must never be published
    bundle.build        a content-addressed folder: artifact, evaluation, lineage
    publishers          where bundles go; a channel moves only after every publisher has the bundle
    registry            releases, rollback, history as rows

Knows no lake, no clock and no model: rows and values come in, rows and values go out.
"""
