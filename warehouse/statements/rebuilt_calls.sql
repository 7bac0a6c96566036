-- Message ids that may state the task of a trace: the input of its first model call, in order.
CREATE OR REPLACE TEMP TABLE rebuilt_calls AS
SELECT trace_id, input_ids
FROM temp.rebuilt_spans
WHERE is_call
QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY nth) = 1
