-- The day index of the traces just written.
INSERT INTO trace_days (trace_id, day)
SELECT DISTINCT c.trace_id, c.day
FROM temp.span_tree c
WHERE NOT EXISTS (
    SELECT 1 FROM temp.known_days t WHERE t.trace_id = c.trace_id AND t.day IS NOT DISTINCT FROM c.day
)
ORDER BY c.trace_id, c.day
