select task_key, task_group
from tasks
where task_group is not null and task_key in (select unnest($keys))
