-- Erased traces do not come back with a file that is read again.
INSERT INTO erased (trace, receipt_id)
SELECT md5(trace_id), $receipt
FROM temp.erased_traces
WHERE md5(trace_id) NOT IN (SELECT trace FROM erased)
ORDER BY 1
