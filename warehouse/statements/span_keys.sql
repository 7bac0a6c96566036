-- One staged span per key, the newest of each, without those whose source object the ledger has already.
CREATE OR REPLACE TEMP TABLE span_keys AS
SELECT _row, trace_id, span_id, day, ingested_at
FROM staged
WHERE source_uri IS NULL
   OR source_uri NOT IN (
       SELECT source_uri
       FROM ledger
       WHERE source_uri IS NOT NULL
       GROUP BY source_uri
       -- every version of the object in this batch is known
       HAVING bool_and((source_uri, content_hash) IN (SELECT (source_uri, content_hash) FROM ingest_log))
   )
QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY ingested_at DESC NULLS LAST, _row DESC) = 1
