-- What each step's tool calls are worth, and how much that changes the state of the episode: rewards that add up to 0.
-- Who makes many episodes weighs less in each.
with checked as (
    select c.*, f.fault,
        case
            when f.fault like 'malformed%' then 'malformed'
            when f.fault is not null then 'invalid'
            when regexp_matches(c.args, '^\s*[{\[]') and not json_valid(c.args) then 'malformed'
            when c.failed and c.late then 'timeout'
            when c.failed then 'error'
            when c.has_run then 'ok'
        end as found
    from calls c left join faults f
        on f.definitions_id = c.definitions_id and f.tool = c.tool and f.args = coalesce(c.args, '')
),
ordered as (
    select *, row_number() over (
        partition by trajectory_id order by step, place nulls last, start_ns nulls last, seq nulls last, span_id
    ) as nth
    from checked
),
compared as (
    select *,
        count(*) filter (found <> 'ok') over (
            partition by trajectory_id, tool, args order by nth rows between unbounded preceding and 1 preceding
        ) + count(*) filter (found <> 'ok') over (
            partition by trajectory_id, tool, why order by nth rows between unbounded preceding and 1 preceding
        ) as earlier,
        lag(found) over (partition by trajectory_id, tool order by nth) as last_found
    from ordered
),
judged as (
    select *, case
            when found <> 'ok' and earlier > 0 then 'repeated'
            when found = 'ok' and last_found <> 'ok' then 'recovered'
            else found
        end as judgement
    from compared
),
valued as (
    select *, $values[list_position($kinds, judgement)] as value from judged
),
steps as (
    select trajectory_id, step, min(value) as value,
        -- Sorted afterwards: an ordered list costs ten times as much.
        list_transform(list_sort(list({'nth': nth, 'call': {
            'tool': left(tool, 100), 'span_id': span_id, 'is': judgement,
            'fault': left(case when judgement not in ('ok', 'recovered') then coalesce(fault, why) end, 200)
        }})), lambda one: one.call) as calls
    from valued
    group by trajectory_id, step
    having count(value) > 0
),
-- The state after a step is what its calls were worth; before the first it is 1. The way from there to the last state is
-- taken off again in equal parts, so that the sum of an episode is 0 whatever happened.
moved as (
    select *, value - coalesce(lag(value) over episode, 1)
        - (last_value(value) over episode_whole - 1) / count(*) over (partition by trajectory_id) as shaped
    from steps
    window
        episode as (partition by trajectory_id order by step),
        episode_whole as (
            partition by trajectory_id order by step rows between unbounded preceding and unbounded following
        )
),
-- As in feedback.sql: in powers of two, and only how users compare matters.
named as (
    select m.trajectory_id, coalesce(v.voter, '') as voter
    from (select distinct trajectory_id from steps) m left join voters v using (trajectory_id)
),
weighed as (
    select voter, case when $user_cap = 0 then 1 else least(1, least($user_cap, sqrt(n)) / n) end as influence
    from (select voter, pow(2, ceil(log2(count(*)))) as n from named group by voter)
),
compared_users as (
    select voter, round(influence / max(influence) over (), 4) as influence from weighed
)
select m.trajectory_id || '/' || m.step as target_id, m.value, w.influence as confidence,
    case
        when w.influence < 1
        then to_json({'shaped': m.shaped, 'calls': m.calls, 'influence': w.influence})::varchar
        else to_json({'shaped': m.shaped, 'calls': m.calls})::varchar
    end as evidence
from moved m join named n using (trajectory_id) join compared_users w using (voter)
order by m.trajectory_id, m.step
