-- Objects of the batch of which a part was taken in before: up to where, and the account of it.
SELECT source_uri, content_hash, position, n_items, n_spans, n_merged, n_duplicates, n_scores, n_quarantined
FROM ingest_progress
SEMI JOIN objects USING (source_uri)
