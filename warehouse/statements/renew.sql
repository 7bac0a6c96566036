-- Source objects that were found unchanged in content: the state in which they need not be read again.
UPDATE ingest_log SET fingerprint = r.fingerprint
FROM renewed r
WHERE ingest_log.source_uri = r.source_uri AND ingest_log.content_hash = r.content_hash
