-- An excerpt does not say whose it is: those of the files that held the erased go, and those that name them.
UPDATE quarantine
SET excerpt = NULL
WHERE excerpt IS NOT NULL
  AND (
      source_uri IN (SELECT id FROM temp.erased_links WHERE kind = 'source')
      OR $pattern IS NOT NULL AND regexp_matches(excerpt, $pattern)
  )
