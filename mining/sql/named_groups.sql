-- The task groups of the inputs `temp.asked_digests`, and those named in `temp.asked_groups`.
select task_group, pool, digest, first_seen
from task_groups
where digest in (from temp.asked_digests) or task_group in (from temp.asked_groups)
