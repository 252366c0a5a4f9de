-- What could not be stored.

-- name: upsert_rejected_payloads()^
-- Keeps payloads that were refused; one that was refused before is counted, not stored again, and opened again if it was resolved.
-- @bulk staged_rejected_payloads like ops.rejected_payloads without seen_count, first_seen_at, resolved_at
-- @one
WITH newest AS (
    SELECT
        DISTINCT ON (payload_sha256, kind) *,
        count(*) OVER same AS seen_now,
        min(last_seen_at) OVER same AS first_seen_at
    FROM staged_rejected_payloads
    WINDOW same AS (PARTITION BY payload_sha256, kind)
    ORDER BY payload_sha256, kind, last_seen_at DESC, staged_position DESC
),
written AS (
    INSERT INTO ops.rejected_payloads AS stored (
        payload_sha256, kind, payload, context, errors, source, run_id, seen_count, first_seen_at, last_seen_at
    )
    SELECT payload_sha256, kind, payload, context, errors, source, run_id, seen_now, first_seen_at, last_seen_at
    FROM newest
    ORDER BY payload_sha256, kind
    ON CONFLICT (payload_sha256, kind) DO UPDATE SET
        errors = EXCLUDED.errors,
        source = EXCLUDED.source,
        run_id = EXCLUDED.run_id,
        seen_count = stored.seen_count + EXCLUDED.seen_count,
        first_seen_at = least(stored.first_seen_at, EXCLUDED.first_seen_at),
        last_seen_at = greatest(stored.last_seen_at, EXCLUDED.last_seen_at),
        resolved_at = NULL
    RETURNING payload_sha256
)
SELECT count(*) AS written FROM written;

-- name: open_rejects(kind, source_part, sha256_prefix, how_many)
-- Refused payloads that are not resolved yet, the last refused first.
-- @param kind nullable: null asks for every kind
-- @param source_part nullable: null asks for every source
-- @param sha256_prefix nullable: null asks for every payload
SELECT *
FROM ops.rejected_payloads
WHERE resolved_at IS NULL
    AND (:kind::text IS NULL OR kind = :kind::text)
    AND (:source_part::text IS NULL OR strpos(source, :source_part::text) > 0)
    AND (:sha256_prefix::text IS NULL OR starts_with(payload_sha256, :sha256_prefix::text))
ORDER BY last_seen_at DESC, payload_sha256, kind
LIMIT :how_many;

-- name: count_open_rejects()
-- How many refused payloads are open, by kind.
SELECT kind, count(*) AS open_count, max(last_seen_at) AS last_seen_at
FROM ops.rejected_payloads
WHERE resolved_at IS NULL
GROUP BY kind
ORDER BY kind;

-- name: rejects_by_prefix(sha256_prefix)
-- Refused payloads whose SHA-256 begins with a prefix, open or resolved.
SELECT *
FROM ops.rejected_payloads
-- The bounds let the index find them whatever the prefix and the collation: hexadecimal digits end with f.
WHERE payload_sha256 >= :sha256_prefix
    AND payload_sha256 < :sha256_prefix || 'g'
    AND starts_with(payload_sha256, :sha256_prefix)
ORDER BY payload_sha256, kind;

-- name: resolve_rejects(payload_sha256s, kinds)!
-- Marks refused payloads, given as pairs of SHA-256 and kind, as resolved; returns how many were open.
-- @pairs payload_sha256s, kinds
WITH stored AS (
    SELECT rejected_payloads.payload_sha256, rejected_payloads.kind
    FROM unnest(:payload_sha256s::text[], :kinds::text[]) AS pairs (payload_sha256, kind)
    JOIN ops.rejected_payloads USING (payload_sha256, kind)
    WHERE rejected_payloads.resolved_at IS NULL
    ORDER BY 1, 2
    FOR UPDATE OF rejected_payloads
)
UPDATE ops.rejected_payloads
SET resolved_at = clock_timestamp()
FROM stored
WHERE rejected_payloads.payload_sha256 = stored.payload_sha256
    AND rejected_payloads.kind = stored.kind;
