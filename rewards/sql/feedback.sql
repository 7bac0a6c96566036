-- What people said of a trajectory, and the reward that its environment gave it: two rows, by source.
with latest as (
    -- Not what this model made of others itself: its rows name their evidence.
    select * from scores
    where coalesce(evidence, '') not like '{"score_ids":%'
        and ((name = 'correction' and label is not null) or source in ('human', 'user')
            or (source = 'env' and list_contains($env_names, name)))
    qualify row_number() over (
        partition by target_kind, target_id, name, source, user_key order by "at" desc nulls last, score_id
    ) = 1
),
spans_once as (
    select span_id, any_value(trace_id) as trajectory_id from spans group by span_id having count(distinct trace_id) = 1
),
sessions as (
    select session_id, count(*) as n from trajectories where session_id is not null group by session_id
),
placed as (
    select s.*, s.target_id as trajectory_id, null::integer as step, null::varchar as span_id
    from latest s where s.target_kind = 'trajectory'
    union all
    select s.*, regexp_replace(s.target_id, '/[0-9]+$', ''), try_cast(regexp_extract(s.target_id, '([0-9]+)$') as integer), null
    from latest s where s.target_kind = 'step'
    union all
    select s.*, o.trajectory_id, null, s.target_id
    from latest s join spans_once o on o.span_id = s.target_id where s.target_kind = 'span'
    union all
    -- A correction of a session with several trajectories does not say which of them it corrects.
    select s.*, r.trajectory_id, null, null
    from latest s join trajectories r on r.session_id = s.target_id join sessions n on n.session_id = s.target_id
    where s.target_kind = 'session' and (s.name <> 'correction' or n.n = 1)
),
corrected as (
    select distinct trajectory_id from placed where name = 'correction'
),
said as (
    select t.trajectory_id, t.step, t.span_id,
        lower(trim(regexp_replace(string_agg(m.text, chr(10) order by u.place), '\s+', ' ', 'g'))) as text
    from transitions t join corrected using (trajectory_id),
        lateral (select unnest(t.output_ids) as message_id, generate_subscripts(t.output_ids, 1) as place) u
    join (select message_id, any_value(text) as text from messages group by message_id) m
        on m.message_id = u.message_id
    where m.text <> ''
    group by all
),
checked as (
    -- Right where any call of the trajectory said it: it may route first and chat afterwards.
    select p.score_id, bool_or(d.text = lower(trim(regexp_replace(p.label, '\s+', ' ', 'g')))) as hit
    from placed p join said d on d.trajectory_id = p.trajectory_id
        and (p.step is null or p.step = d.step) and (p.span_id is null or p.span_id = d.span_id)
    where p.name = 'correction'
    group by p.score_id
),
scaled as (
    select p.*, p.name = 'correction' as is_correction,
        case
            when p.name = 'correction' then c.hit::double
            when p.value is null then case
                when lower(p.label) in ('up', 'thumbs_up', 'like', 'good', 'correct', 'right', 'pass', 'yes', 'positive') then 1.0
                when lower(p.label) in ('down', 'thumbs_down', 'dislike', 'bad', 'incorrect', 'wrong', 'fail', 'no', 'negative') then 0.0
            end
            when list_contains($scaled, p.name) then
                (p.value - $lows[list_position($scaled, p.name)])
                / ($highs[list_position($scaled, p.name)] - $lows[list_position($scaled, p.name)])
            when regexp_matches(lower(p.name), 'star|rating') and p.value between 1 and 5 then (p.value - 1) / 4
            when min(p.value) over (partition by p.name) < 0 and p.value between -1 and 1 then (p.value + 1) / 2
            else p.value
        end as unit
    from placed p left join checked c using (score_id)
),
honest as (
    -- A value on a scale that nobody declared is no judgement.
    select *, case when unit between 0 and 1 then unit end as judged from scaled
),
people as (
    select trajectory_id as target_id,
        coalesce(arg_max(judged, coalesce("at", 0)) filter (is_correction), avg(judged) filter (not is_correction)) as value,
        case when bool_or(source = 'human') then 'human' else 'user' end as source,
        case when count(judged) filter (is_correction) > 0 then 1.0 when bool_or(source = 'human') then 0.9 else 0.6 end
            as confidence,
        coalesce(min(propensity) filter (is_correction), min(propensity)) as propensity,
        list_sort(list(score_id)) as score_ids
    from honest where coalesce(source, 'human') <> 'env'
    group by trajectory_id
),
environment as (
    select trajectory_id as target_id, avg(judged) as value, 'env' as source, 1.0 as confidence,
        null::double as propensity, list_sort(list(score_id)) as score_ids
    from honest where source = 'env' and not is_correction
    group by trajectory_id
),
found as (
    select *, to_json({'score_ids': score_ids})::varchar as evidence
    from (from people union all by name from environment)
)
select target_id, value, source, confidence, propensity, evidence
from found f
where not exists (
    select 1 from scores s
    where s.target_kind = 'trajectory' and s.target_id = f.target_id and s.name = $name and s.version = $version
        and s.source = f.source and s.evidence = f.evidence
)
order by target_id, source
