"""What the ledger calls an object, asked before anything of it is read."""

from tracemill.ingest.building import Building
from tracemill.ingest.redact import Ruleset
from tracemill.ingest.source import SourceObject


class Names:
    """URIs and fingerprints as batches with the same key and rules write them."""

    def __init__(self, key: bytes, rules: Ruleset | None = None) -> None:
        self._building = Building(key=key, now_ns=0, rules=rules)

    def written(self, source: SourceObject) -> str:
        """The object's URI as the lake holds it: without what signs it, redacted like any text."""
        return self._building.written(source.uri)

    def fingerprint(self, source: SourceObject) -> str | None:
        """Names the object in its present state; None where its store does not tell states apart."""
        return self._building.fingerprint(source)
