-- Snapshots older than $before that nobody asked to keep: not in $keep, not named by a release, not the newest.
SELECT snapshot_id
FROM lake.snapshots()
WHERE snapshot_time < $before
  AND NOT list_contains($keep, snapshot_id)
  AND snapshot_id NOT IN (SELECT snapshot_id FROM releases WHERE snapshot_id IS NOT NULL)
  AND snapshot_id <> (SELECT max(snapshot_id) FROM lake.snapshots())
ORDER BY snapshot_id
