-- What people said of a trajectory, and the reward that its environment gave it: two rows, by source. What a user says
-- weighs less the more that user says of other trajectories.
with meant as (
    -- Not what this model made of others itself: its rows name their evidence. A program that hands on what a user said
    -- gives its name away.
    select * replace (case when source in ('code', 'model') and name <> 'correction' then 'user' else source end as source)
    from scores
    where coalesce(evidence, '') not like '{"score_ids":%'
        and ((name = 'correction' and label is not null) or source in ('human', 'user')
            or (source = 'env' and list_contains($env_names, name))
            or (source in ('code', 'model')
                and list_contains($user_names, regexp_replace(lower(name), '[^a-z0-9]+', '_', 'g'))))
),
latest as (
    select * from meant
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
episodes as (
    select trajectory_id, user_key, session_id, agent_name, outcome,
        case when n_llm_calls <= 1 then 1 when n_llm_calls <= 4 then 4 else 5 end as length
    from trajectories
),
-- Whose word it is: the user that it names, else the one who had the conversation, else the conversation's.
voted as (
    select p.*, coalesce(p.user_key, e.user_key, 'session ' || e.session_id) as voter
    from placed p left join episodes e using (trajectory_id)
),
-- Which scale a name has is told by most of its voters, not by whoever finds a value that no one else would use.
names as (
    select name,
        count(distinct coalesce(voter, score_id)) filter (value < 0) as below,
        count(distinct coalesce(voter, score_id)) filter (value >= 0 and value < 1) as inside,
        count(distinct coalesce(voter, score_id)) filter (value > 1) as above
    from voted
    where value is not null
    group by name
),
scaled as (
    select p.*, p.name = 'correction' as is_correction,
        case
            when p.name = 'correction' then c.hit::double
            when p.value is null then case
                when list_contains($good, regexp_replace(lower(trim(p.label)), '[\s_-]+', ' ', 'g')) then 1.0
                when list_contains($bad, regexp_replace(lower(trim(p.label)), '[\s_-]+', ' ', 'g')) then 0.0
            end
            when list_contains($scaled, p.name) then
                (p.value - $lows[list_position($scaled, p.name)])
                / ($highs[list_position($scaled, p.name)] - $lows[list_position($scaled, p.name)])
            when regexp_matches(lower(p.name), '(^|[^a-z])nps([^a-z]|$)') and n.above > 0 then p.value / 10
            when regexp_matches(lower(p.name), 'star|rating|csat') and n.above >= n.inside and p.value between 1 and 5
                then (p.value - 1) / 4
            when n.below > n.inside and p.value between -1 and 1 then (p.value + 1) / 2
            else p.value
        end as unit
    from voted p left join names n using (name) left join checked c using (score_id)
),
honest as (
    -- A value on a scale that nobody declared is no judgement.
    select *, case when unit between 0 and 1 then unit end as judged, coalesce(source, 'human') = 'user' as is_user
    from scaled
),
-- Votes that name nobody count together as one voter's. A voter's number of votes is rounded up to a power of two, so
-- that a row is written again when it doubles, and not with each vote.
voters as (
    select coalesce(voter, '') as voter,
        pow(2, ceil(log2(count(distinct trajectory_id)))) as n,
        count(judged) filter (not is_correction) as rated,
        coalesce(sum(judged) filter (not is_correction), 0) as total,
        coalesce(var_samp(judged) filter (not is_correction), 0) as spread
    from honest
    where is_user and judged is not null
    group by 1
),
weighed as (
    select voter, rated, total, spread,
        case when $user_cap = 0 then 1 else least(1, least($user_cap, sqrt(n)) / n) end as influence
    from voters
),
-- How harsh users are, and how much they differ in it (empirical Bayes, by moments): nothing where they are few.
harshness as (
    select median(total / rated) filter (rated >= 6) as middle,
        sum(spread * (rated - 1)) filter (rated >= 6) / nullif(sum(rated - 1) filter (rated >= 6), 0) as within,
        case when count(*) filter (rated >= 6) >= 5 then greatest(0,
            var_samp(total / rated) filter (rated >= 6)
            - sum(spread * (rated - 1)) filter (rated >= 6) / nullif(sum(rated - 1) filter (rated >= 6), 0)
                * avg(1.0 / rated) filter (rated >= 6)
        ) else 0 end as between_users,
        -- Only how users compare matters: where all say much, nobody says too much.
        max(influence) as most
    from weighed
),
-- A user's other votes tell the baseline of this one, in steps of 0.05; fewer than five tell none.
said_by as (
    select h.*,
        case when h.is_user then coalesce(w.influence / b.most, 1) else 1 end as influence,
        case
            when h.is_user and not h.is_correction and h.voter is not null and w.rated >= 6 and b.between_users > 0
            then round(20 * ((w.total - h.judged) / (w.rated - 1) - b.middle)
                * b.between_users / (b.between_users + b.within / (w.rated - 1))) / 20
            else 0
        end as shift
    from honest h left join weighed w on w.voter = coalesce(h.voter, '') cross join harshness b
),
adjusted as (
    select *, case when judged is not null then greatest(0, least(1, judged - shift)) end as fair,
        case when is_correction then 1.0 when is_user then 0.6 else 0.9 end as trust
    from said_by
),
-- Who rates is not drawn at random: how often is that done in episodes like this one?
given as (
    select e.trajectory_id, avg((u.trajectory_id is not null)::integer) over () as overall,
        count(u.trajectory_id) over (partition by agent_name, outcome, length) as n_rated,
        count(*) over (partition by agent_name, outcome, length) as n
    from episodes e left join (select distinct trajectory_id from honest where is_user) u using (trajectory_id)
),
rates as (
    select trajectory_id,
        -- In half octaves, as the rest in steps.
        greatest($min_propensity, least(1, pow(2, round(2 * log2((n_rated + 10 * overall) / (n + 10))) / 2))) as rate
    from given
    where $min_propensity > 0 and n_rated > 0
),
people as (
    select trajectory_id as target_id,
        coalesce(
            arg_max(judged, {'human': not is_user, 'at': coalesce("at", 0)}) filter (is_correction),
            sum(fair * influence) filter (not is_correction) / nullif(sum(influence) filter (not is_correction and fair is not null), 0)
        ) as value,
        case when bool_or(not is_user) then 'human' else 'user' end as source,
        case when bool_or(not is_user) then 'people' else 'users' end as family,
        coalesce(max(trust * influence) filter (is_correction and judged is not null),
            max(trust * influence) filter (judged is not null), max(trust * influence)) as confidence,
        coalesce(min(propensity) filter (is_correction), min(propensity)) as propensity,
        list_sort(list(score_id)) as score_ids,
        round(max(influence), 4) as influence,
        round(coalesce(avg(shift) filter (judged is not null), 0), 3) as shift
    from adjusted where coalesce(source, 'human') <> 'env'
    group by trajectory_id
),
environment as (
    select trajectory_id as target_id, avg(judged) as value, 'env' as source, 'env' as family, 1.0 as confidence,
        null::double as propensity, list_sort(list(score_id)) as score_ids, 1 as influence, 0 as shift
    from honest where source = 'env' and not is_correction
    group by trajectory_id
),
found as (
    select f.* replace (coalesce(f.propensity, case when f.source = 'user' then r.rate end) as propensity),
        case
            when influence < 1 or shift <> 0
            then to_json({'score_ids': score_ids, 'influence': influence, 'shift': shift})::varchar
            else to_json({'score_ids': score_ids})::varchar
        end as evidence
    from (from people union all by name from environment) f left join rates r on r.trajectory_id = f.target_id
)
select target_id, value, source, family, confidence, propensity, evidence
from found f
where not exists (
    select 1 from scores s
    where s.target_kind = 'trajectory' and s.target_id = f.target_id and s.name = $name and s.version = $version
        and s.source = f.source and s.evidence = f.evidence
)
order by target_id, source
