-- Models of others whose judgements came with the logs (or stand there of a judge that is not configured any more): by
-- name the version of the newest, those who said most.
with voters as (
    select name, coalesce(version, '') as version, count(*) as n
    from scores
    where target_kind = 'trajectory' and source = 'llm' and value between 0 and 1 and not list_contains($known, name)
    group by name, coalesce(version, '')
    qualify row_number() over (partition by name order by max("at") desc nulls last, coalesce(version, '')) = 1
)
select name, version from (from voters order by n desc, name limit $most) order by name
