-- Spans of the lake that are written anew.
DELETE FROM spans
WHERE {near}
  AND (trace_id, span_id) IN (
      SELECT (trace_id, span_id) FROM temp.span_changes WHERE replaces
      UNION ALL
      SELECT (trace_id, span_id) FROM temp.span_marks WHERE NOT came
  )
