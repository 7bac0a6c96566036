-- One staged span per key, its latest revision, without those whose source object the lake has already.
CREATE OR REPLACE TEMP TABLE span_keys AS
SELECT _row, trace_id, span_id, day
FROM staged
WHERE source_uri IS NULL OR source_uri NOT IN (SELECT source_uri FROM known_objects)
QUALIFY row_number() OVER (
    PARTITION BY trace_id, span_id
    ORDER BY revised_ns DESC NULLS LAST, ingested_at DESC NULLS LAST, _row DESC
) = 1
