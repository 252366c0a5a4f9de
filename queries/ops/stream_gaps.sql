-- Where a stream of the exchange broke off.

-- name: record_stream_gap(found_at, channel, sid, run_id, reason, last_received_at, last_sequence, next_sequence)!
-- Notes a gap; one that is noted already stays as it is.
-- @param last_received_at nullable: None when nothing had arrived
-- @param last_sequence nullable: None in a channel without numbers
-- @param next_sequence nullable: None when the subscription ended
INSERT INTO ops.stream_gaps (found_at, channel, sid, run_id, reason, last_received_at, last_sequence, next_sequence)
VALUES (:found_at, :channel, :sid, :run_id, :reason, :last_received_at, :last_sequence, :next_sequence)
ON CONFLICT (found_at, channel, sid) DO NOTHING;

-- name: repair_stream_gap(found_at, channel, sid, repaired_at)!
-- Notes that a gap is over; returns 0 when that is noted already.
UPDATE ops.stream_gaps
SET repaired_at = :repaired_at
WHERE found_at = :found_at
    AND channel = :channel
    AND sid = :sid
    AND repaired_at IS NULL;

-- name: hold_order_books(series_tickers)
-- Makes this session the one that records the order books of these series, and returns those that another session records already.
--
-- The hold ends with the session. Two streams that record one book would be added up when it is rebuilt.
SELECT asked.series_ticker
FROM unnest(:series_tickers::text[]) AS asked (series_ticker)
WHERE NOT pg_try_advisory_lock(hashtextextended('kalshidb order books ' || asked.series_ticker, 0))
ORDER BY asked.series_ticker;

-- name: stream_gaps_between(start_time, end_time)
-- Gaps that were found in [start_time, end_time), oldest first.
SELECT *
FROM ops.stream_gaps
WHERE found_at >= :start_time
    AND found_at < :end_time
ORDER BY found_at, channel, sid;
