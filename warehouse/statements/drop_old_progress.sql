-- What was known of objects that are complete now, or have come further.
DELETE FROM ingest_progress
WHERE list_contains($complete, source_uri)
   OR list_contains($further, {'source_uri': source_uri, 'content_hash': content_hash})
