-- On which days the lake has the traces that came.
CREATE OR REPLACE TEMP TABLE known_days AS
SELECT trace_id, day
FROM trace_days
SEMI JOIN (SELECT trace_id FROM temp.span_keys UNION SELECT trace_id FROM temp.part_keys) k USING (trace_id)
