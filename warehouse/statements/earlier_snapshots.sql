-- All snapshots but the newest.
SELECT snapshot_id
FROM lake.snapshots()
WHERE snapshot_id <> (SELECT max(snapshot_id) FROM lake.snapshots())
ORDER BY snapshot_id
