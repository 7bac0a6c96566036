-- One score per trajectory: the first tier that knows anything, with the tool status as a veto over verifiers; where no
-- tier does, the label model's.
, first_tier as (
    select * from tiers
    where list_contains($precedence, tier)
    qualify row_number() over (partition by target_id order by list_position($precedence, tier)) = 1
),
found as (
    select target_id, value, confidence, propensity,
        to_json({'tier': tier, 'score_ids': score_ids, 'vetoed': vetoed})::varchar as evidence
    from first_tier
    union all by name
    select target_id, value, confidence, null::double as propensity,
        to_json({
            'tier': case when refused is null then 'label_model' end, 'score_ids': score_ids, 'vetoed': false,
            'families': families, 'refused': refused
        })::varchar as evidence
    from label_model m anti join first_tier f using (target_id)
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
where b.target_id is null or b.evidence is distinct from f.evidence or b.version is distinct from $version
    or (b.value is null) <> (f.value is null)
    -- The label model learns a little every night; what moves by less is not written again.
    or abs(b.value - f.value) > case when f.evidence like '{"tier":"label_model"%' then $tolerance else 0 end
order by f.target_id
