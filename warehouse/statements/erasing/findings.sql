list_has_any(
    list_transform(
        list_concat(coalesce(exemplars, []), coalesce(counter_exemplars, [])),
        lambda one: regexp_replace(one, '/[0-9]+$', '')
    ),
    (SELECT list(trace_id) FROM temp.erased_traces)
)
-- What it quotes of logs may name whom its examples do not show.
OR coalesce(regexp_matches(concat_ws(' ', what, pattern, feedback), $pattern), false)
