-- Objects of the batch that were taken in before, as a whole.
SELECT source_uri, content_hash
FROM ingest_log
SEMI JOIN objects USING (source_uri)
