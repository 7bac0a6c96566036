-- A message stands in the lake once for each day that says it.
SELECT message_id, any_value(role) AS role, any_value(name) AS name, any_value(parts) AS parts
FROM messages
WHERE message_id IN (SELECT unnest(CAST($ids AS VARCHAR[])))
  AND (day IS NULL OR day BETWEEN CAST($first AS DATE) AND CAST($last AS DATE))
GROUP BY message_id
