-- Which of the spans that came in the lake knows.
CREATE OR REPLACE TEMP TABLE known_spans AS
SELECT trace_id, span_id
FROM (SELECT trace_id, span_id FROM spans WHERE {near})
SEMI JOIN (
    SELECT trace_id, span_id FROM temp.span_keys
    UNION ALL
    SELECT trace_id, span_id FROM temp.folded
) USING (trace_id, span_id)
