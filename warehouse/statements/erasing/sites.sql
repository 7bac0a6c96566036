(site_id, site_version) IN (SELECT (site_id, site_version) FROM temp.erased_sites WHERE alone)
