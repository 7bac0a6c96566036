-- The newest recovery of a call site wins; transitions that already have it are left alone.
UPDATE transitions
SET site_id = a.site_id, site_version = a.site_version
FROM (
    SELECT trajectory_id, step, site_id, site_version
    FROM assigned
    QUALIFY row_number() OVER (PARTITION BY trajectory_id, step ORDER BY _row DESC) = 1
) a
WHERE transitions.trajectory_id = a.trajectory_id
  AND transitions.step = a.step
  AND (transitions.site_id IS DISTINCT FROM a.site_id OR transitions.site_version IS DISTINCT FROM a.site_version)
