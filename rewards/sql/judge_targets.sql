-- What a judge's version has not judged, those that people judged first (they calibrate it), then in drawn order; with
-- what the same rubric and model said of it before, which only its calibration has changed since.
with mine as (
    select target_id, version, confidence, evidence, "at", score_id from scores
    where target_kind = 'trajectory' and name = $name
),
before as (
    select target_id, evidence, confidence from mine
    where (try_cast(evidence as json) ->> '$.base') = $base
    qualify row_number() over (partition by target_id order by "at" desc nulls last, score_id) = 1
),
people as (
    select distinct target_id from scores where target_kind = 'trajectory' and source = 'human' and value is not null
),
own as (
    select distinct trajectory_id from transitions where untrainable_reason is distinct from 'judge'
)
select r.trajectory_id, coalesce(r.user_key, r.session_id, r.task_group, r.trajectory_id) as owner,
    b.evidence as before, b.confidence
from trajectories r
semi join own on own.trajectory_id = r.trajectory_id
left join before b on b.target_id = r.trajectory_id
left join people p on p.target_id = r.trajectory_id
where ($agent is null or r.agent_name glob $agent)
    and r.trajectory_id not in (select target_id from mine where version = $version)
order by p.target_id is null, md5($salt || r.trajectory_id), r.trajectory_id
