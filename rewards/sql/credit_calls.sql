-- All calls of judged episodes in their order, with the episode's advantage and what tools answered to each call.
with latest as (
    select target_id as trajectory_id, value as reward
    from scores
    where target_kind = 'trajectory' and name = 'combined'
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
),
judged as (
    select t.trajectory_id, l.reward, t.task_group, t.agent_name, t.pool,
        coalesce(t.user_key, t.session_id, t.task_group, t.trajectory_id) as owner
    from latest l join trajectories t using (trajectory_id)
    where l.reward is not null
),
-- Episodes are what is compared: one of 40 calls weighs as much as one of 4. Never across pools.
compared as (
    select *,
        reward - case
            when task_group is not null and count(*) over (partition by pool, task_group) > 1
            then avg(reward) over (partition by pool, task_group)
            else avg(reward) over (partition by pool, agent_name)
        end as advantage
    from judged
),
calls as (
    -- A judge's own call is nothing that is rewarded.
    select t.trajectory_id, t.step, t.span_id, t.agent_name as caller, t.start_ns, t.seq,
        coalesce(t.status = 'error' or t.error_type is not null, false) as failed
    from transitions t semi join compared using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
),
tools as (
    select s.trace_id as trajectory_id, s.span_id, s.start_ns, s.seq, coalesce(s.tool_name, s.name, '') as tool,
        case when json_valid(s.tool_args) and json_type(s.tool_args) = 'OBJECT'
            then array_to_string(list_sort(json_keys(s.tool_args)), ',') else '' end as shape,
        coalesce(ltrim(s.tool_args) like '{%' and not json_valid(s.tool_args), false) as malformed,
        coalesce(s.status = 'error' or s.error_type is not null
            or (s.status is distinct from 'ok' and regexp_matches(left(ltrim(s.tool_result), 60), $error)), false) as failed,
        case
            when coalesce(s.tool_result, '') = '' then 'empty'
            when length(s.tool_result) > 120 then 'long'
            else lower(regexp_replace(regexp_replace(s.tool_result, '["''][^"'']*["'']', '@', 'g'), '[0-9]+', '#', 'g'))
        end as seen
    from spans s semi join compared c on c.trajectory_id = s.trace_id
    where s.kind = 'tool'
),
run as (
    select trajectory_id, span_id, start_ns, seq, step from calls
    union all
    select trajectory_id, span_id, start_ns, seq, null from tools
),
placed as (
    select trajectory_id, span_id, step as own, last_value(step ignore nulls) over (
        partition by trajectory_id order by start_ns nulls last, seq nulls last, span_id rows unbounded preceding
    ) as step
    from run
),
answered as (
    select p.trajectory_id, p.step,
        string_agg(t.tool || '(' || t.shape || ')', ';' order by t.seq, t.span_id) as action,
        count(*) as n_tools, count_if(t.failed) as n_failed, count_if(t.malformed) as n_malformed,
        last(t.seen order by t.seq, t.span_id) as seen
    from placed p join tools t using (trajectory_id, span_id)
    where p.own is null and p.step is not null
    group by all
),
before as (
    select trajectory_id, count(credit) as n, sum(credit) as total from credits
    where method = $method and version = $version
    group by trajectory_id
)
select c.trajectory_id, c.step, c.caller, e.reward, e.advantage, e.pool, e.task_group, e.agent_name, e.owner,
    c.failed, coalesce(a.action, 'say()') as action, coalesce(a.n_tools, 0) as n_tools,
    coalesce(a.n_failed, 0) as n_failed, coalesce(a.n_malformed, 0) as n_malformed, coalesce(a.seen, 'nothing') as seen,
    b.n is not null and b.n = count(*) over (partition by c.trajectory_id)
        and abs(b.total - e.advantage) < 1e-9 as credited
from calls c join compared e using (trajectory_id)
left join answered a using (trajectory_id, step)
left join before b using (trajectory_id)
order by c.trajectory_id, c.step
