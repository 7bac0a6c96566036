-- Spans of the lake that newer deliveries replace.
DELETE FROM spans
WHERE {near}
  AND (trace_id, span_id) IN (SELECT (trace_id, span_id) FROM temp.span_changes WHERE replaces)
