json_extract_string(completion, '$.text') IN (SELECT output FROM temp.erased_outputs)
