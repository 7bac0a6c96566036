-- Traces of the batch that were erased before.
SELECT trace_id
FROM (SELECT trace_id FROM staged UNION SELECT trace_id FROM staged_parts)
WHERE md5(trace_id) IN (SELECT trace FROM erased)
