-- What a trajectory looks like from outside, one row each: counts, errors, repeats, lengths, times, ends. The length of
-- an answer that tells the reward is left out: it would be the label.
with wanted as (
    select r.*, coalesce(r.user_key, r.session_id, r.task_group, r.trajectory_id) as owner
    from trajectories r
    where ($trajectories is null or list_contains($trajectories, r.trajectory_id))
        and not exists (
            select 1 from scores s
            where s.target_kind = 'trajectory' and s.target_id = r.trajectory_id and s.name = $name and s.version = $version
        )
),
calls as (
    select t.trajectory_id, count(*) as n_calls, count(distinct t.agent_name) as n_agents,
        count_if(t.status = 'error' or t.error_type is not null) as failed_calls,
        avg((t.finish_reason = 'length')::integer) as cut_share,
        (arg_max_null(t.finish_reason, t.step) = 'length')::integer as cut_at_the_end,
        (arg_max_null(t.finish_reason, t.step) in ('tool_calls', 'function_call'))::integer as tool_at_the_end,
        max(t.tokens_in) as longest_prompt, sum(t.tokens_out) as tokens_out, sum(t.tokens_reasoning) as tokens_reasoning,
        max(t.end_ns - t.start_ns) / 1e9 as slowest_s, sum(t.end_ns - t.start_ns) / 1e9 as busy_s,
        max(len(t.input_ids)) as prompt_messages, arg_max(t.output_ids, t.step) as last_ids
    from transitions t semi join wanted using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
    group by t.trajectory_id
),
tools as (
    select s.trace_id as trajectory_id, coalesce(s.tool_name, s.name) as tool, s.tool_args, case when not coalesce(regexp_matches(s.tool_result, $tells), false) then length(s.tool_result) end as chars,
        coalesce(s.status = 'error' or s.error_type is not null
            or (s.status is distinct from 'ok' and regexp_matches(left(ltrim(s.tool_result), 60), $error)), false) as failed,
        coalesce(ltrim(s.tool_args) like '{%' and not json_valid(s.tool_args), false) as malformed,
        row_number() over (partition by s.trace_id order by s.start_ns desc nulls last, s.seq desc, s.span_id desc) as back
    from spans s semi join wanted w on w.trajectory_id = s.trace_id
    where s.kind = 'tool'
),
used as (
    select trajectory_id, count(*) as n_tools, count(distinct tool) as distinct_tools,
        count_if(failed) as failed_tools, avg(failed::integer) as failed_share, count_if(malformed) as malformed_tools,
        bool_or(failed and back = 1)::integer as last_failed,
        count(*) - count(distinct (tool, tool_args)) as repeated_tools,
        count_if(failed) - count(distinct case when failed then (tool, tool_args) end) as repeated_errors,
        avg(chars) as result_chars, max(chars) as longest_result, avg((chars = 0)::integer) as empty_share
    from tools
    group by trajectory_id
),
said as (
    select c.trajectory_id, sum(m.n_chars) as answer_chars, bool_or(regexp_matches(m.text, $refuses))::integer as gives_up,
        bool_or(contains(m.text, '?'))::integer as ends_with_question
    from (select trajectory_id, unnest(last_ids) as message_id from calls) c
    join (
        select message_id, any_value(n_chars) as n_chars, any_value(text) as text from messages
        where message_id in (select unnest(last_ids) from calls)
        group by message_id
    ) m using (message_id)
    group by c.trajectory_id
)
select w.trajectory_id, w.owner, w.start_ns, w.n_errors, (w.outcome = 'error')::integer as root_failed, w.tokens_in, w.cost_usd,
    (w.end_ns - w.start_ns) / 1e9 as seconds, c.* exclude (trajectory_id, last_ids), u.* exclude (trajectory_id),
    s.* exclude (trajectory_id)
from wanted w
left join calls c using (trajectory_id)
left join used u using (trajectory_id)
left join said s using (trajectory_id)
order by w.trajectory_id
