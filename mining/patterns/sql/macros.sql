-- What a tool answered, without what differs from time to time: of an object its keys and what its state is called, of
-- a text its beginning with quoted text, numbers, ids, paths and addresses left out.
create or replace temp macro blurred(text) as trim(regexp_replace(
    left(text, 160),
    '"[^"]*(?:"|$)|''[^'']*''|[^\s"'',:;()\[\]{}=<>]*[0-9/\\@][^\s"'',:;()\[\]{}=<>]*',
    '<*>', 'g'
));
create or replace temp macro state_of(object) as coalesce(
    object ->> '$.error', object ->> '$.status', object ->> '$.state', object ->> '$.code', object ->> '$.message', ''
);
create or replace temp macro observation(text) as case
    when text is null then null
    when left(text, 1) = '{' and length(text) < 4000 and json_valid(text)
    then '{' || array_to_string(list_sort(json_keys(text))[:12], ', ') || '} ' || blurred(state_of(text))
    else blurred(text)
end;
-- What a call was given: its keys and their types. NULL where it was given nothing.
create or replace temp macro shape(args) as case
    when args is null then null
    when left(args, 1) in ('{', '[') then coalesce(left(replace(replace(replace(
        try(json_structure(args))::varchar, 'UBIGINT', 'NUMBER'), 'BIGINT', 'NUMBER'), 'DOUBLE', 'NUMBER'), 400), 'malformed')
    else 'text'
end;
-- The same for calls that differ in digits, case, blanks and marks only. (A regular expression takes twice as long.)
create or replace temp macro nearly(args) as translate(lower(left(args, 400)), e'0123456789 .,;:!?-_\n\t', '');
create or replace temp macro went_wrong(status, error_type) as coalesce(status = 'error' or error_type is not null, false);
-- Of a tool whose log has no status its answer tells, as the reward models read it (chat.FAILED_ANSWER).
create or replace temp macro tool_failed(status, error_type, result) as case
    when went_wrong(status, error_type) then true
    when status = 'ok' then false
    else coalesce(regexp_matches(left(ltrim(result), 60), $failed_answer), false)
end;
-- Whether a text says what a pattern finds, and does not deny it there.
create or replace temp macro claimed(text, said, denied) as
    regexp_matches(text, said) and not regexp_matches(regexp_extract(text, said), denied);
