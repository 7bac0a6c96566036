-- An object that is taken in whole stands for itself: what was said of it when it could not be opened, or when other
-- readers refused it, goes. Refusals of its earlier batches stay. What was refused of a file goes when it has grown: a torn
-- line may be whole now, and what still is none is refused of the grown file.
DELETE FROM quarantine
WHERE (source_uri, coalesce(content_hash, '')) IN (SELECT (source_uri, content_hash) FROM settled)
   -- a folder that could not be looked into
   OR content_hash IS NULL AND EXISTS (
       SELECT 1 FROM settled s WHERE starts_with(s.source_uri, quarantine.source_uri || '/')
   )
