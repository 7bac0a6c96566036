-- Snapshots older than $before that nobody asked to keep: not in $keep, not the newest, and not named by a release, nor
-- by what a night since $before did.
SELECT snapshot_id
FROM lake.snapshots()
WHERE snapshot_time < $before
  AND NOT list_contains($keep, snapshot_id)
  AND snapshot_id NOT IN (SELECT snapshot_id FROM releases WHERE snapshot_id IS NOT NULL)
  AND snapshot_id NOT IN (
      SELECT snapshot_id FROM runs WHERE snapshot_id IS NOT NULL AND ended_ns >= $before_ns
      UNION ALL
      SELECT snapshot_id FROM candidates WHERE snapshot_id IS NOT NULL AND "at" >= $before_ns
      UNION ALL
      SELECT snapshot_id FROM verdicts WHERE snapshot_id IS NOT NULL AND "at" >= $before_ns
  )
  AND snapshot_id <> (SELECT max(snapshot_id) FROM lake.snapshots())
ORDER BY snapshot_id
