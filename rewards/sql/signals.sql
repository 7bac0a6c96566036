-- What users did after an answer, without being asked: one row per trajectory of which anything speaks.
with episodes as (
    select trajectory_id, session_id, user_key, agent_name, outcome, start_ns, end_ns,
        coalesce(user_key, 'session ' || session_id, trajectory_id) as voter,
        -- Whoever began before this one ended does not answer it: agents side by side.
        lead(trajectory_id) over session as next_id, lead(start_ns) over session as next_ns
    from trajectories
    where session_id is not null and start_ns is not null
    window session as (partition by session_id order by start_ns, trajectory_id)
    union all by name
    select trajectory_id, session_id, user_key, agent_name, outcome, start_ns, end_ns,
        coalesce(user_key, 'session ' || session_id, trajectory_id) as voter
    from trajectories
    where session_id is null or start_ns is null
),
spans_of as (
    select trajectory_id, min(step) as first_step, max(step) as last_step,
        arg_max(step, {'n': coalesce(len(input_ids), 0), 'step': step}) as longest_step
    from transitions
    where untrainable_reason is distinct from 'judge'
    group by trajectory_id
),
-- Numbered: their ids are long, and are compared often.
users as materialized (
    select row_number() over () as said_id, message_id, any_value(text) as text from messages
    where role = 'user' and text <> '' and not regexp_matches(left(lower(text), 40), $machines)
    group by message_id
),
-- The call with the longest history tells the turns; those before the first call's last one are examples, or earlier
-- episodes.
said as materialized (
    select l.trajectory_id, u.said_id, l.place, l.is_first, l.is_longest
    from (
        select t.trajectory_id, t.step = p.first_step as is_first, t.step = p.longest_step as is_longest,
            unnest(t.input_ids) as message_id, generate_subscripts(t.input_ids, 1) as place
        from transitions t join spans_of p
            on p.trajectory_id = t.trajectory_id and (p.first_step = t.step or p.longest_step = t.step)
    ) l join users u using (message_id)
),
turns as (
    select l.trajectory_id, l.place, l.said_id
    from said l join (select trajectory_id, max(place) as place from said where is_first group by trajectory_id) o
        on o.trajectory_id = l.trajectory_id and l.place >= o.place
    where l.is_longest
),
edges as (
    select trajectory_id, arg_min(said_id, place) as ask_id, arg_max(said_id, place) as last_id
    from turns
    group by trajectory_id
),
reactions as (
    select trajectory_id, said_id, before_id, null::double as after_s, null::varchar as next_id
    from (
        select *, lag(said_id) over (partition by trajectory_id order by place) as before_id from turns
    )
    where before_id is not null
    union all
    select e.trajectory_id, n.ask_id, m.last_id, round((e.next_ns - coalesce(e.end_ns, e.start_ns)) / 1e9, 1), e.next_id
    from episodes e join edges m using (trajectory_id) join edges n on n.trajectory_id = e.next_id
    where e.session_id is not null and e.next_ns >= coalesce(e.end_ns, e.start_ns)
        and e.next_ns - coalesce(e.end_ns, e.start_ns) <= $patience_s * 1e9
),
read as materialized (
    select r.*, u.message_id, left(u.text, 300) as head, u.text = b.text as same
    from reactions r join users u using (said_id) join users b on b.said_id = r.before_id
),
-- Words of the turn: what was matched, with the characters around it that made it a word.
heard as (
    select trajectory_id, message_id, after_s, next_id, head, unnest(list_filter([
        {'signal': 'correction', 'raw': regexp_extract(head, $correction)},
        {'signal': 'gave_up', 'raw': regexp_extract(head, $gave_up)},
        {'signal': 'escalation', 'raw': regexp_extract(head, $escalation)},
        {'signal': 'acceptance', 'raw': regexp_extract(head, $acceptance)}
    ], lambda s: s.raw <> '')) as hit
    from read
),
-- The words of a text once, however many turns it is compared with; by their hashes, which are quicker to compare.
wording as materialized (
    select said_id, list_distinct(list_transform(string_split(
            trim(translate(lower(text), '.,;:!?()[]"„“”«»…¿¡、。？！', '                      ')), ' '
        ), lambda word: hash(word))) as words
    from users
    where length(text) <= 600 and said_id in (
        select said_id from read where not same union all select before_id from read where not same
    )
),
compared as (
    select trajectory_id, message_id, after_s, next_id, n - len(list_distinct(words || words_before)) as shared, n
    from (
        select r.trajectory_id, r.message_id, r.after_s, r.next_id, w.words, b.words as words_before,
            len(w.words) + len(b.words) as n
        from read r join wording w using (said_id) join wording b on b.said_id = r.before_id
        -- Asked of both at once: what is asked of one alone, DuckDB asks before `wording` is kept, and splits it twice.
        where not r.same and least(len(w.words), len(b.words)) >= 3
            -- More cannot be shared than the shorter one has.
            and least(len(w.words), len(b.words)) >= $alike * greatest(len(w.words), len(b.words))
    )
),
-- Answers, where somebody did something with them or might have.
answers as (
    select t.trajectory_id, t.step, t.span_id, t.output_ids[-1] as message_id
    from transitions t join spans_of p on p.trajectory_id = t.trajectory_id and p.last_step = t.step
),
kept_scores as (
    select s.score_id, s.label, s.target_kind, s.target_id,
        case s.target_kind when 'step' then regexp_replace(s.target_id, '/[0-9]+$', '') else s.target_id end as trajectory_id,
        case s.target_kind when 'step' then try_cast(regexp_extract(s.target_id, '([0-9]+)$') as integer) end as step
    from scores s
    where list_contains($kept_names, lower(s.name)) and s.label is not null
        and s.target_kind in ('trajectory', 'step', 'span')
    qualify row_number() over (partition by s.target_kind, s.target_id order by s."at" desc nulls last, s.score_id) = 1
),
kept_outputs as (
    select k.score_id, k.label, t.trajectory_id, t.output_ids[-1] as message_id
    from kept_scores k join transitions t on t.trajectory_id = k.trajectory_id and t.step = k.step
    where k.target_kind = 'step'
    union all
    select k.score_id, k.label, t.trajectory_id, t.output_ids[-1]
    from kept_scores k join transitions t on t.span_id = k.target_id
    where k.target_kind = 'span'
    union all
    select k.score_id, k.label, a.trajectory_id, a.message_id
    from kept_scores k join answers a using (trajectory_id)
    where k.target_kind = 'trajectory'
),
-- Long texts by their words, for edits are counted in the square of the length.
kept as (
    select k.trajectory_id, k.score_id, k.message_id, case
            when m.text = k.label then 1.0
            when greatest(length(m.text), length(k.label)) <= 2000
                then 1 - levenshtein(m.text, k.label) / greatest(length(m.text), length(k.label), 1)
            else len(list_intersect(list_distinct(string_split(m.text, ' ')), list_distinct(string_split(k.label, ' '))))
                / greatest(len(list_distinct(string_split(m.text, ' '))), len(list_distinct(string_split(k.label, ' '))), 1)
        end as similarity
    from kept_outputs k join (
        select message_id, any_value(text) as text from messages
        where message_id in (select message_id from kept_outputs)
        group by message_id
    ) m using (message_id)
),
-- Nobody came back to an answer that asks something or to an episode that failed, though the log went on.
left_alone as (
    select e.trajectory_id, a.message_id, e.outcome = 'error' as failed
    from episodes e join answers a using (trajectory_id)
    join (select agent_name, max(start_ns) as log_ends_ns from trajectories group by agent_name) g
        on g.agent_name is not distinct from e.agent_name
    where e.session_id is not null and e.next_id is null and g.log_ends_ns - coalesce(e.end_ns, e.start_ns) >= $settled_s * 1e9
),
abandoned as (
    select l.trajectory_id, l.message_id from left_alone l
    where l.failed or l.message_id in (
        select message_id from messages
        where role = 'assistant' and (suffix(rtrim(text), '?') or suffix(rtrim(text), '？'))
    )
),
done as (
    select trace_id as trajectory_id, span_id,
        case when regexp_matches(lower(name), $rejecting) then 'rejected' else 'accepted' end as signal, name
    from spans
    where kind = 'event' and (regexp_matches(lower(name), $rejecting) or regexp_matches(lower(name), $accepting))
    union all
    select trace_id, span_id, 'handed_over', coalesce(tool_name, name)
    from spans
    where kind = 'tool' and regexp_matches(lower(coalesce(tool_name, name)), $handing_over)
),
spoken as (
    select trajectory_id, signal, message_id, span_id, score_id, next_id, after_s, found, at_char, similarity, weight
    from (
        select trajectory_id, 'retry' as signal, message_id, next_id, after_s from read where same
        union all by name
        select trajectory_id, 'rephrase' as signal, message_id, next_id, after_s, round(shared / (n - shared), 3) as similarity
        from compared where shared / (n - shared) >= $alike
        union all by name
        select trajectory_id, hit.signal as signal, message_id, next_id, after_s,
            left(regexp_replace(hit.raw, '^[^\pL\pN]+|[^\pL\pN]+$', '', 'g'), 80) as found, strpos(head, hit.raw) as at_char
        from heard
        union all by name
        select trajectory_id, 'kept' as signal, message_id, score_id, round(similarity, 3) as similarity,
            $kept_weight * (2 * similarity - 1) as weight
        from kept
        union all by name
        select trajectory_id, 'abandoned' as signal, message_id from abandoned
        union all by name
        select trajectory_id, signal, span_id, left(name, 80) as found from done
    )
),
-- Who says «thanks, but that is wrong» is not content; who asks the same again says so once.
counted as (
    select s.*, e.agent_name, e.voter, coalesce(s.weight, $weights[list_position($signals, s.signal)]) as log_odds
    from spoken s join episodes e using (trajectory_id)
    where s.signal <> 'acceptance' or (s.trajectory_id, s.message_id) not in (
        select (trajectory_id, message_id) from spoken where signal in ('correction', 'gave_up', 'escalation') and message_id is not null
    )
),
-- A signal that comes in more than half of an agent's episodes, each user counted once, tells nothing about any of them:
-- so its prompts or its trade are. Whatever somebody does on purpose tells in any number.
chances as (
    select e.agent_name, e.voter, count(*) as n, count(r.trajectory_id) as answered
    from episodes e left join (select distinct trajectory_id from reactions) r using (trajectory_id)
    group by e.agent_name, e.voter
),
voters as (
    select agent_name, count(*) as n, count_if(answered > 0) as answered from chances group by agent_name
),
given as (
    select agent_name, voter, signal, count(distinct trajectory_id) as n
    from counted
    where signal not in ('accepted', 'rejected', 'kept')
    group by agent_name, voter, signal
),
usual as (
    select g.agent_name, g.signal
    from given g
    join chances c on c.agent_name is not distinct from g.agent_name and c.voter = g.voter
    join voters v on v.agent_name is not distinct from g.agent_name
    group by g.agent_name, g.signal, v.n, v.answered
    having case when g.signal in ('abandoned', 'handed_over') then v.n >= 20 and sum(g.n / c.n) > 0.5 * v.n
        else v.answered >= 20 and sum(g.n / nullif(c.answered, 0)) > 0.5 * v.answered end
),
telling as (
    select * from counted c
    where c.log_odds <> 0 and not exists (
        select 1 from usual u where u.signal = c.signal and u.agent_name is not distinct from c.agent_name
    )
),
-- Each signal once an episode: who repeats himself is not the more right for it.
summed as (
    select trajectory_id, any_value(voter) as voter,
        -- Rounded: numbers come in any order, and their sum names the row.
        round(sum(log_odds) filter (nth = 1), 9) as log_odds,
        array_to_string(list_transform(
            list_slice(list_sort(list({'nth': nth, 'told': told})), 1, 20), lambda one: one.told
        ), ',') as signals
    from (
        select trajectory_id, voter, log_odds, to_json({
                'signal': signal, 'message_id': message_id, 'span_id': span_id, 'score_id': score_id, 'found': found,
                'at_char': at_char, 'similarity': similarity, 'after_s': after_s, 'next_trajectory_id': next_id
            })::varchar as told,
            row_number() over (
                partition by trajectory_id, signal order by abs(log_odds) desc, next_id nulls first, message_id, span_id, score_id
            ) as nth
        from telling
    )
    group by trajectory_id
),
-- As in feedback.sql: in powers of two, and only how users compare matters.
weighed as (
    select voter, case when $user_cap = 0 then 1 else least(1, least($user_cap, sqrt(n)) / n) end as influence
    from (select voter, pow(2, ceil(log2(count(*)))) as n from summed group by voter)
),
found as (
    select s.trajectory_id as target_id, 1 / (1 + exp(-s.log_odds)) as value,
        0.6 * abs(2 / (1 + exp(-s.log_odds)) - 1) * w.influence / max(w.influence) over () as confidence,
        '{"signals":[' || s.signals || '],"influence":' || round(w.influence / max(w.influence) over (), 4) || '}' as evidence
    from summed s join weighed w using (voter)
),
before as (
    select target_id, arg_max(evidence, {'at': coalesce("at", 0), 'id': score_id}) as evidence,
        arg_max_null(value, {'at': coalesce("at", 0), 'id': score_id}) as value
    from scores
    where target_kind = 'trajectory' and name = $name and version = $version
    group by target_id
),
-- What spoke and speaks no more becomes NULL again.
final as (
    select * from found
    union all by name
    select target_id, null::double as value, null::double as confidence,
        to_json({'signals': []::varchar[], 'influence': 1.0})::varchar as evidence
    from before b anti join found f using (target_id)
    where b.value is not null
)
select f.target_id, f.value, f.confidence, f.evidence
from final f left join before b using (target_id)
where b.evidence is distinct from f.evidence
order by f.target_id
