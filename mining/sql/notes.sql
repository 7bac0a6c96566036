-- What was said of logged calls, each with the step that it concerns (NULL: the whole episode). Of what a judge said again
-- only its last word counts.
with wanted as (
    select unnest($trajectories::varchar[]) as trajectory_id
),
calls as (
    select trajectory_id, step, start_ns, seq, input_ids,
        -- Of the same site: other agents of the episode are spoken to by agents.
        lead(input_ids) over (partition by trajectory_id, site_id order by step) as later_ids
    from transitions semi join wanted using (trajectory_id)
),
judged as (
    select if(target_kind = 'step', regexp_replace(target_id, '/[0-9]+$', ''), target_id) as trajectory_id,
        case when target_kind = 'step' then try_cast(regexp_extract(target_id, '/([0-9]+)$', 1) as integer) end as step,
        source, name, value, label, evidence
    from scores
    where target_kind in ('trajectory', 'step') and source in ('human', 'user', 'llm', 'model')
        and name not in ('correction', 'combined', 'combined_low')
        and if(target_kind = 'step', regexp_replace(target_id, '/[0-9]+$', ''), target_id)
            in (select trajectory_id from wanted)
    qualify row_number() over (
        partition by target_kind, target_id, name, user_key, source order by "at" desc nulls last, score_id
    ) = 1
),
criteria as (
    select trajectory_id, step, evidence, unnest(json_keys(evidence, '$.criteria')) as criterion
    from judged
    where source in ('llm', 'model') and json_valid(evidence) and json_type(evidence, '$.criteria') = 'OBJECT'
),
missed as (
    select trajectory_id, step, criterion, json_extract(evidence, '$.criteria."' || replace(criterion, '"', '') || '"') as told
    from criteria
),
tools as (
    select s.trace_id as trajectory_id, s.span_id, coalesce(s.tool_name, s.name) as tool,
        coalesce(nullif(s.error_message, ''), s.tool_result, s.error_type, 'failed') as answer,
        max(c.step) as step
    from spans s left join calls c on c.trajectory_id = s.trace_id
        and (c.start_ns is null or s.start_ns is null or c.start_ns <= s.start_ns) and coalesce(c.seq <= s.seq, true)
    where s.kind = 'tool' and s.status = 'error' and s.trace_id in (select trajectory_id from wanted)
    group by all
),
came as (
    select trajectory_id, step,
        unnest(list_filter(later_ids, lambda one: not list_contains(input_ids, one))) as message_id
    from calls
    where list_has_all(later_ids, input_ids)  -- else it is another conversation
)
select trajectory_id, step, case source when 'human' then 'person' else 'user' end as voice, label as text
from judged
where source in ('human', 'user') and length(trim(label)) > 2
union all
select trajectory_id, step, 'judge', criterion || ' is not met' || coalesce(': ' || (told ->> '$.quote'), '')
from missed
where try_cast(told ->> '$.met' as double) < 0.5
union all
select trajectory_id, step, 'tool', coalesce(tool || ': ', '') || answer
from tools
union all
select c.trajectory_id, c.step, 'user', any_value(m.text)
from came c join messages m using (message_id)
where m.role = 'user' and length(trim(m.text)) > 0
group by c.trajectory_id, c.step, c.message_id
order by all
