-- What a reward model has judged before.
select distinct target_id from scores where target_kind = 'trajectory' and name = $name
