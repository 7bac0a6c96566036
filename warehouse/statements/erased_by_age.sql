-- Traces that ended before $subject; those without times by when they were taken in.
CREATE OR REPLACE TEMP TABLE erased_traces AS
SELECT trace_id
FROM spans
GROUP BY trace_id
HAVING coalesce(max(coalesce(end_ns, start_ns)), max(ingested_at)) < CAST($subject AS BIGINT)
