-- What the lake knows of the source objects of a batch: whether it has them, as whole or up to where the batch has
-- them; the account of earlier batches of them; whether something of them was refused before.
WITH objects AS (
    SELECT source_uri, content_hash, NULL AS position FROM ledger
    UNION ALL
    SELECT source_uri, content_hash, position FROM progress
)
SELECT
    o.source_uri,
    o.content_hash,
    g.source_uri IS NOT NULL OR coalesce(p.position >= o.position, false) AS known,
    p.source_uri IS NOT NULL AS begun,
    p.n_items, p.n_spans, p.n_merged, p.n_duplicates, p.n_scores, p.n_quarantined,
    EXISTS (
        SELECT 1 FROM quarantine q
        WHERE q.source_uri = o.source_uri
           OR q.content_hash IS NULL AND starts_with(o.source_uri, q.source_uri || '/')
    ) AS refused
FROM objects o
LEFT JOIN ingest_log g ON g.source_uri = o.source_uri AND g.content_hash IS NOT DISTINCT FROM o.content_hash
LEFT JOIN ingest_progress p ON p.source_uri = o.source_uri AND p.content_hash IS NOT DISTINCT FROM o.content_hash
WHERE o.source_uri IS NOT NULL
