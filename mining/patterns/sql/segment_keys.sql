-- Where the log may say who is calling: the keys of metadata of the episodes' root spans, some of which are looked at.
-- A key that names, numbers or dates something, that a machine wrote for itself, or that tells how an episode ended is
-- none, unless it was asked for ($named); nor is one of more values than an agent has kinds of users.
with roots as materialized (
    select e.agent_no, s.attributes as told
    from spans s
    join mined_episodes e on e.trajectory_id = s.trace_id
    where s.parent_span_id is null and s.attributes is not null and hash(s.trace_id) % $every = 0
),
found as (
    select r.agent_no, p.place, p.place || '."' || j.key || '"' as path, j.key, j.atom as value, j.type
    from (
        select agent_no, unnest($places) as place, unnest(json_extract(told, $places)) as object from roots
    ) r, lateral (select r.place as place) p, json_each(r.object) j
    where json_type(r.object) = 'OBJECT'
    union all
    select r.agent_no, '$', '$."' || j.key || '"', regexp_replace(j.key, $prefix, ''), j.atom, j.type
    from roots r, json_each(r.told) j
    where regexp_matches(j.key, $prefix || '.') or regexp_matches(j.key, $plain) or list_contains($named, j.key)
)
select path, any_value(key) as key
from found
where type not in ('OBJECT', 'ARRAY', 'NULL', 'DOUBLE')
    and regexp_full_match(key, '[A-Za-z][\w.-]{0,39}')
    and not list_contains($without, key)
    and (list_contains($named, key) or not regexp_matches(key, $no_segment))
group by path
-- Of what is on every episode another value there are more, the more are looked at.
having count(distinct value) <= $most
order by path
