-- The days on which the mined calls were made: there lies what they were sent.
select min(day) as first_day, max(day) as last_day from temp.mined_calls
