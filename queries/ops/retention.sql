-- How long data stays where, and which months are due to leave.
--
-- Time series leave by whole months, and never row by row: DETACH PARTITION takes a moment, DELETE of a hundred million rows leaves a table
-- that is as large as before. So "delete quotes older than 90 days" is a policy of 90 days and dropping the partitions that
-- partitions_by_age calls expired. Ledgers (analyses, positions, trades) are not moved to archive tables: they are small, what is
-- attributed to them must still be found, and the purge of a whole platform goes down the tree (0010). They leave through an export.

-- name: retention_policies()
-- How long rows of each table stay hot, warm and at all, and where they go.
-- @plan one policy a table: a few dozen rows
SELECT *
FROM ops.retention_policies
ORDER BY table_name;

-- name: set_retention_policy(table_name, hot_for, warm_for, keep_for, archive_target, reason)^
-- Sets how long rows of a table stay where; replaces the policy that it had.
-- @one
-- @param hot_for nullable: None keeps them in their table for ever
-- @param warm_for nullable: None is the same as hot_for
-- @param keep_for nullable: None never deletes them
-- @param archive_target nullable: None goes with a hot_for of None
INSERT INTO ops.retention_policies AS stored (table_name, hot_for, warm_for, keep_for, archive_target, reason)
VALUES (:table_name, :hot_for, :warm_for, :keep_for, :archive_target, :reason)
ON CONFLICT (table_name) DO UPDATE SET
    hot_for = EXCLUDED.hot_for,
    warm_for = EXCLUDED.warm_for,
    keep_for = EXCLUDED.keep_for,
    archive_target = EXCLUDED.archive_target,
    reason = EXCLUDED.reason,
    updated_at = EXCLUDED.updated_at
RETURNING *;

-- name: retention_windows(moment)
-- The moment before which rows of each table are no longer hot, no longer warm, and no longer kept; null = never.
-- @plan one policy a table: a few dozen rows
SELECT
    table_name,
    (:moment::timestamptz AT TIME ZONE 'UTC' - hot_for) AT TIME ZONE 'UTC' AS hot_since,
    (:moment::timestamptz AT TIME ZONE 'UTC' - COALESCE(warm_for, hot_for)) AT TIME ZONE 'UTC' AS warm_since,
    (:moment::timestamptz AT TIME ZONE 'UTC' - keep_for) AT TIME ZONE 'UTC' AS kept_since,
    archive_target
FROM ops.retention_policies
ORDER BY table_name;

-- name: partitions_of(table_name)
-- The monthly partitions of one table (with its schema), oldest first.
SELECT *
FROM ops.partitions
WHERE table_name = :table_name
ORDER BY range_from, partition_name;

-- name: partitions_by_age(moment)
-- Every monthly partition with its range, its size, and where it belongs at a moment: hot, warm, cold or expired; oldest first.
--
-- A month is past a limit when its last moment is. hot stays; warm may be compressed or detached but should still answer SQL; cold goes
-- to archive_target and leaves; expired may be dropped everywhere. Without a policy it is hot for ever. Nothing is moved here: export it,
-- check the export, then ALTER TABLE table_name DETACH PARTITION partition_name CONCURRENTLY, and DROP TABLE.
-- @plan one policy a table: a few dozen rows
WITH limits AS (
    SELECT
        table_name,
        (:moment::timestamptz AT TIME ZONE 'UTC' - hot_for) AT TIME ZONE 'UTC' AS hot_since,
        (:moment::timestamptz AT TIME ZONE 'UTC' - COALESCE(warm_for, hot_for)) AT TIME ZONE 'UTC' AS warm_since,
        (:moment::timestamptz AT TIME ZONE 'UTC' - keep_for) AT TIME ZONE 'UTC' AS kept_since,
        archive_target
    FROM ops.retention_policies
)
SELECT
    partitions.table_name,
    partitions.partition_name,
    partitions.range_from,
    partitions.range_to,
    partitions.estimated_rows,
    partitions.total_bytes,
    CASE
        WHEN partitions.range_to <= limits.kept_since THEN 'expired'
        WHEN partitions.range_to <= limits.warm_since THEN 'cold'
        WHEN partitions.range_to <= limits.hot_since THEN 'warm'
        ELSE 'hot'
    END AS stage,
    limits.archive_target
FROM ops.partitions
LEFT JOIN limits ON limits.table_name = partitions.table_name
ORDER BY partitions.table_name, partitions.range_from, partitions.partition_name;
