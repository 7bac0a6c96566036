-- Nights that $night means, the newest first: the last one, the one of this name, else those whose names begin so.
SELECT night_id, snapshot_id
FROM nights
WHERE $night = 'last' OR night_id = $night OR starts_with(night_id, $night)
QUALIFY $night = 'last' OR (night_id = $night) = bool_or(night_id = $night) OVER ()
ORDER BY started_at DESC, night_id DESC
