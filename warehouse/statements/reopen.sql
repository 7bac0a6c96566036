-- What is known of source objects that are read again.
DELETE FROM {table} WHERE (source_uri, content_hash) IN (SELECT (source_uri, content_hash) FROM reopened)
