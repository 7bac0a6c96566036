-- Episodes whose last answer claims what nothing in them shows: tests that pass where no test was run, things done
-- where no tool call went well. What claims it in which language: words.claims.
with last_calls as (
    select e.u, e.trajectory_id, arg_max(t.output_ids, t.step) as output_ids
    from transitions t
    join mined_episodes e using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
    group by e.u, e.trajectory_id
),
claiming as (
    select message_id, claimed(any_value(text), $tests, $denied) as tests, claimed(any_value(text), $done, $denied) as done
    from messages
    where role = 'assistant' and regexp_matches(text, $told)
    group by message_id
),
claims as (
    select l.u, l.trajectory_id, bool_or(c.tests) as tests, bool_or(c.done) as done
    from (select u, trajectory_id, unnest(output_ids) as message_id from last_calls) l
    join claiming c using (message_id)
    where c.tests or c.done
    group by l.u, l.trajectory_id
),
shown as (
    select c.u,
        bool_or(not tool_failed(s.status, s.error_type, s.tool_result)) as worked,
        bool_or(regexp_matches(concat_ws(' ', s.tool_name, left(s.tool_args, 2000), left(s.tool_result, 20000)),
            '(?i)\btests?\b|pytest|\b\d+ (passed|passing|failed)\b|jest|vitest|go test|cargo test|unittest')) as tested
    from claims c
    join spans s on s.trace_id = c.trajectory_id
    where s.kind in ('tool', 'retriever')
    group by c.u
)
select c.u, 'tests' as claim from claims c left join shown s using (u) where c.tests and not coalesce(s.tested, false)
union all
-- Of an agent without tools nobody knows what it did.
select c.u, 'done' from claims c join shown s using (u) where c.done and not s.worked
