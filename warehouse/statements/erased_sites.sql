-- Call sites of erased calls, and whether calls of others are left there.
CREATE OR REPLACE TEMP TABLE erased_sites AS
SELECT site_id, site_version, bool_and(t.trace_id IS NOT NULL) AS alone
FROM transitions
LEFT JOIN temp.erased_traces t ON t.trace_id = transitions.trajectory_id
WHERE site_id IS NOT NULL
GROUP BY site_id, site_version
HAVING bool_or(t.trace_id IS NOT NULL)
