-- What else names the erased traces: ids that no other trace has.
CREATE OR REPLACE TEMP TABLE erased_links AS
WITH gone AS (
    SELECT * FROM spans SEMI JOIN temp.erased_traces USING (trace_id)
),
stays AS (
    SELECT * FROM spans ANTI JOIN temp.erased_traces USING (trace_id)
)
SELECT kind, id
FROM (
    SELECT 'span' AS kind, span_id AS id FROM gone
    UNION SELECT 'span', response_id FROM gone
    UNION SELECT 'session', session_id FROM gone
    UNION SELECT 'source', source_uri FROM gone
    UNION SELECT 'source', source_uri FROM span_parts SEMI JOIN temp.erased_traces USING (trace_id)
)
WHERE id IS NOT NULL
  AND (kind <> 'span' OR id NOT IN (SELECT span_id FROM stays))
  AND (kind <> 'session' OR id NOT IN (SELECT session_id FROM stays WHERE session_id IS NOT NULL))
