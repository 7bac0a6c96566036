-- The catalog keeps the least and the greatest text that a column ever held; let it be that of the files there are.
UPDATE ducklake_table_column_stats
SET
    min_value = (
        SELECT min(f.min_value) FROM ducklake_file_column_stats f
        WHERE f.table_id = ducklake_table_column_stats.table_id AND f.column_id = ducklake_table_column_stats.column_id
    ),
    max_value = (
        SELECT max(f.max_value) FROM ducklake_file_column_stats f
        WHERE f.table_id = ducklake_table_column_stats.table_id AND f.column_id = ducklake_table_column_stats.column_id
    )
WHERE EXISTS (
    SELECT 1 FROM ducklake_column c
    WHERE c.table_id = ducklake_table_column_stats.table_id
      AND c.column_id = ducklake_table_column_stats.column_id
      AND lower(c.column_type) = 'varchar'
)
