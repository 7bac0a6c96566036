-- Whole deliveries that a newer one replaces.
DELETE FROM span_parts
WHERE part = 'whole'
  AND (trace_id, span_id) IN (SELECT (trace_id, span_id) FROM temp.deliveries WHERE part = 'whole' AND age > 0)
