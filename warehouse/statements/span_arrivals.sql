-- As `span_changes`, where the lake knows none of these spans: everything is new, and nothing has to be compared.
CREATE OR REPLACE TEMP TABLE span_changes AS
SELECT k._row, k.trace_id, k.span_id, k.day, false AS of_parts, false AS replaces
FROM temp.span_keys k
ANTI JOIN temp.part_keys p ON p.trace_id = k.trace_id AND p.span_id = k.span_id
UNION ALL
SELECT NULL, trace_id, span_id, day, true, false FROM temp.folded
