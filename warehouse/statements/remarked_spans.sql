-- Spans of the lake whose marks are others now, as they were told.
CREATE OR REPLACE TEMP TABLE remarked_spans AS
SELECT {as_told}
FROM (SELECT * FROM spans WHERE {remarked_near}) o
SEMI JOIN (FROM temp.span_marks WHERE NOT came) USING (trace_id, span_id)
