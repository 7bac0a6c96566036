task_group IN (SELECT task_group FROM temp.erased_groups)
