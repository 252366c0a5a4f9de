-- How large the store is, and how fresh. All of it works for a role that may only read the schema ops.

-- name: table_sizes()
-- How large each table is, partitions counted together, the largest first.
SELECT *
FROM ops.table_sizes
ORDER BY total_bytes DESC NULLS LAST, table_name;

-- name: database_size()$
-- Bytes of the whole database on disk. psql shows it readable by pg_size_pretty.
SELECT pg_database_size(current_database()) AS total_bytes;

-- name: data_freshness()
-- The latest moment that each stream of data has reached; null while it is empty.
SELECT *
FROM ops.data_freshness
ORDER BY table_name;

-- name: stale_data(reached_before)
-- Streams of data that have not reached a moment, or hold nothing; what the breaker data_stale is for.
SELECT *
FROM ops.data_freshness
WHERE latest_at < :reached_before OR latest_at IS NULL
ORDER BY table_name;
