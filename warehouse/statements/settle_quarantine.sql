-- An object that is taken in whole stands for itself: what was said of it when it could not be opened, or when other
-- readers refused it, goes. Refusals of its earlier batches stay.
DELETE FROM quarantine
WHERE (source_uri, coalesce(content_hash, '')) IN (SELECT (source_uri, content_hash) FROM settled)
