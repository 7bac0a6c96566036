-- One score per trajectory: the first tier that knows anything, with the tool status as a veto over verifiers.
with own as (
    -- A row of the feedback model names its evidence; a log may have scores of that name, too.
    select *, name = 'feedback' and coalesce(evidence, '') like '{"score_ids":%' as is_feedback
    from scores
    where target_kind = 'trajectory' and name <> $name
),
latest as (
    select * from own
    qualify row_number() over (
        partition by target_id, name, source, is_feedback order by "at" desc nulls last, score_id
    ) = 1
),
weighted as (
    select *,
        case
            when is_feedback and source in ('human', 'user') then 'human'
            when source = 'env' and (is_feedback or list_contains($env_names, name)) then 'env'
            when source in ('code', 'model', 'llm') and name not in ('feedback', $veto) then 'verifier'
        end as tier,
        case when list_contains($weighted, name) then $weights[list_position($weighted, name)] else 1.0 end as weight
    from latest
    where value between 0 and 1
),
-- The environment's own row and feedback's copy of it are one piece of evidence.
once as (
    select * from weighted
    where tier is not null and weight > 0
    qualify tier <> 'env' or row_number() over (
        partition by target_id, tier order by is_feedback, "at" desc nulls last, score_id
    ) = 1
),
tiers as (
    select target_id, tier, sum(value * weight) / sum(weight) as value,
        avg(coalesce(confidence, case tier when 'verifier' then 0.9 else 1.0 end)) * (1 - (max(value) - min(value)) / 2) as confidence,
        min(propensity) as propensity, list_sort(list(score_id)) as score_ids
    from once
    group by target_id, tier
),
first_tier as (
    select * from tiers
    qualify row_number() over (partition by target_id order by list_position($precedence, tier)) = 1
),
vetoes as (
    select target_id, score_id from latest where name = $veto and value = 0
),
found as (
    select t.target_id,
        case when t.tier = 'verifier' and v.score_id is not null then 0.0 else t.value end as value,
        t.confidence, t.propensity,
        to_json({
            'tier': t.tier,
            'score_ids': case
                when t.tier = 'verifier' and v.score_id is not null then list_append(t.score_ids, v.score_id)
                else t.score_ids
            end,
            'vetoed': t.tier = 'verifier' and v.score_id is not null
        })::varchar as evidence
    from first_tier t left join vetoes v using (target_id)
    where list_contains($precedence, t.tier)
),
before as (
    select target_id, arg_max(evidence, (coalesce("at", 0), score_id)) as evidence,
        arg_max_null(value, (coalesce("at", 0), score_id)) as value,
        arg_max(version, (coalesce("at", 0), score_id)) as version
    from scores
    where target_kind = 'trajectory' and name = $name
    group by target_id
),
-- What was known and is known no more (a judgement withdrawn) becomes NULL again.
final as (
    select * from found
    union all by name
    select target_id, null::double as value, null::double as confidence, null::double as propensity,
        to_json({'tier': null, 'score_ids': []::varchar[], 'vetoed': false})::varchar as evidence
    from before b anti join found f using (target_id)
    where b.value is not null
)
select f.target_id, f.value, f.confidence, f.propensity, f.evidence
from final f left join before b using (target_id)
where b.target_id is null or b.evidence is distinct from f.evidence or b.value is distinct from f.value
    or b.version is distinct from $version
order by f.target_id
