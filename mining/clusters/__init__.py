"""Clusters: what callers want and how episodes fail, over all episodes, with ids that stay from night to night.

`reading` gets one text an episode; `partition` finds centres in vectors of them; `naming` says what a cluster is about;
`tracking` keeps ids and tells trends; `clustering` is one night of it.
"""
