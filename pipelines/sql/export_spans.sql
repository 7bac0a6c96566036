-- The spans of the traces in the order of each trace; the days keep the other days' files shut.
SELECT *
FROM spans
WHERE trace_id IN (SELECT unnest(CAST($ids AS VARCHAR[])))
  AND (day IS NULL OR day BETWEEN CAST($first AS DATE) AND CAST($last AS DATE))
ORDER BY trace_id, start_ns NULLS LAST, seq NULLS LAST, span_id
