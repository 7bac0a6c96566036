-- Clusters of which others are left: without the erased among their examples, and without words that name them. The
-- next night counts them anew.
UPDATE clusters
SET exemplars = list_filter(exemplars, lambda one: NOT list_contains(e.gone, one)),
    terms = list_filter(terms, lambda one: NOT coalesce(regexp_matches(one, $pattern), false)),
    name = CASE WHEN coalesce(regexp_matches(name, $pattern), false) THEN NULL ELSE name END
FROM (SELECT coalesce(list(trace_id), []) AS gone FROM temp.erased_traces) e
WHERE list_has_any(coalesce(exemplars, []), e.gone)
    OR coalesce(regexp_matches(concat_ws(' ', name, array_to_string(terms, ' ')), $pattern), false)
