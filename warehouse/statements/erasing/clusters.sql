-- What nobody else is in would tell of the erased alone. (After the members.)
cluster_id NOT IN (SELECT cluster_id FROM cluster_members WHERE cluster_id IS NOT NULL)
