-- What an episode was made with: one row per episode, trait and value.
with calls as (
    select distinct e.u, e.agent_no, t.model, t.provider,
        case when t.prompt_version is not null then concat_ws(' ', t.prompt_name, t.prompt_version) end as prompt,
        case when t.site_version is not null then t.site_id || ' ' || t.site_version end as site_version
    from transitions t
    join mined_episodes e using (trajectory_id)
    where t.untrainable_reason is distinct from 'judge'
),
documents as (
    select distinct e.u, e.agent_no, unnest(
        list_concat(
            json_extract_string(s.tool_result, '$[*].id'),
            json_extract_string(s.tool_result, '$[*].document_id')
        )[:50]
    ) as document
    from spans s
    join mined_episodes e on e.trajectory_id = s.trace_id
    where s.kind = 'retriever' and left(s.tool_result, 1) = '[' and json_valid(s.tool_result)
),
told as (
    select u, agent_no, 'model' as trait, model as value from calls
    union all select u, agent_no, 'provider', provider from calls
    union all select u, agent_no, 'prompt', prompt from calls
    union all select u, agent_no, 'site_version', site_version from calls
    union all select u, agent_no, 'document', document from documents
    union all select u, agent_no, 'service', service from mined_episodes
    union all select u, agent_no, 'agent_version', agent_version from mined_episodes
),
named as (
    select agent_no, trait, value, row_number() over (order by agent_no, trait, value) - 1 as trait_no
    from (select distinct agent_no, trait, value from told where value is not null)
)
select distinct n.trait_no, t.u, n.agent_no, n.trait, n.value
from told t
join named n on n.agent_no = t.agent_no and n.trait = t.trait and n.value = t.value
