-- Which episodes are of which segment: one row per episode, key and value. Redacted values, ids and dates are none.
with roots as materialized (
    select e.u, e.agent_no, s.attributes as told
    from spans s
    join mined_episodes e on e.trajectory_id = s.trace_id
    where s.parent_span_id is null and s.attributes is not null
),
told as (
    select u, agent_no, unnest($keys) as key, unnest(json_extract_string(told, $paths)) as value, false as is_tag
    from roots
    union all
    select u, agent_no, 'tag', unnest(from_json(tags, '["VARCHAR"]')), true
    from (select u, agent_no, unnest(json_extract(told, $tags)) as tags from roots)
    where json_type(tags) = 'ARRAY' and not list_contains($without, 'tag')
),
kinds as (
    select agent_no, key, count(distinct value) as n from told group by agent_no, key
),
kept as (
    select distinct t.u, t.agent_no, t.key, t.value
    from told t join kinds k using (agent_no, key)
    where (t.is_tag or k.n between 2 and $most)
        and length(t.value) between 1 and 60
        and not regexp_matches(t.value, '\[[A-Z_]+_[0-9a-f]{8}\]|^[0-9a-fA-F]{8}|[0-9]{6}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[\n\r]')
)
select cast(dense_rank() over (order by agent_no, key, value) - 1 as integer) as segment_no, u, agent_no, key, value
from kept
