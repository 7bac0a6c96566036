-- Layout 1 kept no record of which flags came from other spans; these did.
UPDATE spans
SET marks = list_filter(flags, lambda f: f IN ('orphan', 'wrapper'))
WHERE list_has_any(flags, ['orphan', 'wrapper'])
