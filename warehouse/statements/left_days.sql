-- Days on which the lake had spans of the changed traces and has none any more.
SELECT *
FROM temp.known_days k
SEMI JOIN temp.span_tree t ON t.trace_id = k.trace_id
ANTI JOIN temp.span_tree c ON c.trace_id = k.trace_id AND c.day IS NOT DISTINCT FROM k.day
