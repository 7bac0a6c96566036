SELECT *
FROM transitions
WHERE trajectory_id IN (SELECT unnest(CAST($ids AS VARCHAR[])))
ORDER BY trajectory_id, step
