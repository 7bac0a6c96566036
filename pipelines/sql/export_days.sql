-- The days that the traces have spans on; undated spans have none.
SELECT min(day) AS first, max(day) AS last
FROM trace_days
WHERE trace_id IN (SELECT unnest(CAST($ids AS VARCHAR[])))
