-- Objects of the batch of which something was refused before: of themselves, or of a folder that they lie in.
SELECT o.source_uri
FROM objects o
SEMI JOIN quarantine q ON q.source_uri = o.source_uri
UNION
SELECT o.source_uri
FROM objects o
JOIN (FROM quarantine WHERE content_hash IS NULL) q ON starts_with(o.source_uri, q.source_uri || '/')
