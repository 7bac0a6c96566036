-- The rows to write: new keys, and known keys with other content that is not older than what the lake has.
-- Where the lake knows none of them, `span_arrivals` says the same for less.
CREATE OR REPLACE TEMP TABLE span_changes AS
WITH old AS (
    SELECT * FROM spans SEMI JOIN (FROM temp.stored_spans WHERE came) USING (trace_id, span_id) WHERE {near}
),
came AS (
    SELECT k._row, s.* EXCLUDE (_row), false AS of_parts
    FROM temp.span_keys k
    JOIN staged s USING (_row)
    ANTI JOIN temp.part_keys p ON p.trace_id = s.trace_id AND p.span_id = s.span_id
)
SELECT s._row, s.trace_id, s.span_id, s.day, s.of_parts, o.span_id IS NOT NULL AS replaces
FROM came s
LEFT JOIN old o ON o.trace_id = s.trace_id AND o.span_id = s.span_id
WHERE o.span_id IS NULL
   OR (
       CASE
           WHEN s.revised_ns <> o.revised_ns THEN s.revised_ns > o.revised_ns
           WHEN (s.revised_ns IS NULL) <> (o.revised_ns IS NULL) THEN s.revised_ns IS NOT NULL
           ELSE coalesce(s.ingested_at, 0) >= coalesce(o.ingested_at, 0)
       END
       AND row({new}) IS DISTINCT FROM row({old})
   )
UNION ALL
-- What parts make up is right as it is: the deliveries were weighed already.
SELECT NULL, s.trace_id, s.span_id, s.day, true, o.span_id IS NOT NULL
FROM temp.folded s
LEFT JOIN old o ON o.trace_id = s.trace_id AND o.span_id = s.span_id
WHERE o.span_id IS NULL OR row({new}) IS DISTINCT FROM row({old})
