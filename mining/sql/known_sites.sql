select site_id, site_version, agent_name, model, template, slots, unbound, tool_definitions_id, n_calls, first_ns,
    last_ns, flags, recovered_at
from sites
order by last_ns desc nulls last, recovered_at desc, n_calls desc, site_id, site_version
