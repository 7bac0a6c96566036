SELECT * FROM trajectories WHERE trajectory_id IN (SELECT unnest(CAST($ids AS VARCHAR[])))
