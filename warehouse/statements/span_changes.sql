-- The staged spans to write: new keys, and known keys with other content that is not older than what the lake has.
CREATE OR REPLACE TEMP TABLE span_changes AS
SELECT k._row, k.trace_id, k.span_id, k.day, o.span_id IS NOT NULL AS replaces
FROM span_keys k
JOIN staged s USING (_row)
LEFT JOIN (SELECT * FROM spans WHERE {near}) o ON o.trace_id = k.trace_id AND o.span_id = k.span_id
WHERE o.span_id IS NULL
   OR (
       coalesce(s.ingested_at, 0) >= coalesce(o.ingested_at, 0)
       AND row({new}) IS DISTINCT FROM row({old})
   )
