-- Statistics of slot values hold what was erased; mining makes them anew from the calls that are left.
UPDATE sites
SET slot_values = NULL
WHERE slot_values IS NOT NULL
  AND (site_id, site_version) IN (SELECT (site_id, site_version) FROM temp.erased_sites)
