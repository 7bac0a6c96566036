-- Days on which the traces just written have no span any more.
DELETE FROM trace_days
WHERE trace_id IN (SELECT trace_id FROM temp.span_tree)
  AND NOT EXISTS (
      SELECT 1 FROM temp.span_tree c WHERE c.trace_id = trace_days.trace_id AND c.day IS NOT DISTINCT FROM trace_days.day
  )
