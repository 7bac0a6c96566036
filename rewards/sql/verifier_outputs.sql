-- The last output of each trajectory that can be judged, with what is known about the right one.
with corrections as (
    select r.trajectory_id, arg_max(s.label, (coalesce(s."at", 0), s.score_id)) as correction,
        arg_max(s.score_id, (coalesce(s."at", 0), s.score_id)) as correction_id
    from scores s join trajectories r on (s.target_kind = 'trajectory' and s.target_id = r.trajectory_id)
        or (s.target_kind = 'session' and s.target_id = r.session_id
            and (select count(*) from trajectories o where o.session_id = r.session_id) = 1)
    where s.name = 'correction' and s.label is not null
    group by r.trajectory_id
),
open as (
    select r.trajectory_id, r.task_key, r.task_group, r.pool, k.attributes, c.correction, c.correction_id
    from trajectories r left join tasks k using (task_key) left join corrections c using (trajectory_id)
    where ($agent is null or r.agent_name glob $agent)
        and (not $needs_truth or c.correction is not null or k.attributes is not null)
        and not exists (
            select 1 from scores s
            where s.target_kind = 'trajectory' and s.target_id = r.trajectory_id and s.name = $name
                and s.version = $version
                and json_extract_string(s.evidence, '$.correction') is not distinct from c.correction_id
        )
),
known as (
    select message_id, any_value(role) as role, any_value(name) as name, any_value(parts) as parts,
        any_value(text) as text
    from messages
    where message_id in (select unnest(t.output_ids) from transitions t semi join open using (trajectory_id))
    group by message_id
),
outputs as (
    select t.trajectory_id, t.step, t.site_id, list({'role': m.role, 'name': m.name, 'parts': m.parts} order by u.place) as messages,
        string_agg(m.text, chr(10) order by u.place) as text
    from transitions t semi join open using (trajectory_id),
        lateral (select unnest(t.output_ids) as message_id, generate_subscripts(t.output_ids, 1) as place) u
    join known m on m.message_id = u.message_id
    group by t.trajectory_id, t.step, t.site_id
)
select o.*, p.step, p.site_id, p.messages
from open o join outputs p using (trajectory_id)
where $skip is null or not regexp_matches(coalesce(p.text, ''), $skip)
qualify row_number() over (partition by o.trajectory_id order by p.step desc) = 1
order by o.trajectory_id
