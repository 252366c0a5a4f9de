-- What an AI said of markets. Rows are only added.

-- name: insert_market_analyses()^
-- Adds analyses; one that is stored already, same market, time and provider, counts as unchanged.
--
-- The same market, time and provider with other content is refused (constraint market_analyses_append_only), with the stored row in the
-- error, and nothing of the input is written. An unknown market gets a stub.
-- @bulk staged_analyses like research.market_analyses without created_at
-- @one
-- @before insert_market_stubs_of_analyses
WITH newest AS (
    SELECT DISTINCT ON (market_ticker, analyzed_at, ai_provider) *
    FROM staged_analyses
    ORDER BY market_ticker, analyzed_at, ai_provider, staged_position DESC
),
written AS (
    INSERT INTO research.market_analyses AS stored (
        market_ticker, analyzed_at, ai_provider, analysis_text, cost, decision, confidence, metadata
    )
    SELECT market_ticker, analyzed_at, ai_provider, analysis_text, cost, decision, confidence, metadata
    FROM newest
    ORDER BY market_ticker, analyzed_at, ai_provider
    -- Only what differs is tried to be changed, for the trigger to refuse.
    ON CONFLICT (market_ticker, analyzed_at, ai_provider) DO UPDATE SET cost = EXCLUDED.cost
    WHERE (stored.analysis_text, stored.cost, stored.decision, stored.confidence, stored.metadata)
        IS DISTINCT FROM (EXCLUDED.analysis_text, EXCLUDED.cost, EXCLUDED.decision, EXCLUDED.confidence, EXCLUDED.metadata)
    RETURNING market_ticker
)
SELECT count(*) AS written FROM written;

-- name: insert_market_stubs_of_analyses()!
-- A stub for each market that the staged analyses name and the catalogue lacks. The venue is a guess until the market itself arrives.
-- @internal step of insert_market_analyses
INSERT INTO catalog.markets (market_ticker, platform_id, external_id, is_stub, retrieved_at, created_at, updated_at)
SELECT market_ticker, 'kalshi', market_ticker, true, min(analyzed_at), statement_timestamp(), statement_timestamp()
FROM staged_analyses
WHERE NOT EXISTS (SELECT FROM catalog.markets WHERE markets.market_ticker = staged_analyses.market_ticker)
GROUP BY market_ticker
ORDER BY market_ticker
ON CONFLICT (market_ticker) DO NOTHING;

-- name: analyses_of_market(market_ticker, analyzed_from, analyzed_to)
-- Analyses of one market made in [analyzed_from, analyzed_to), newest first.
SELECT *
FROM research.market_analyses
WHERE market_ticker = :market_ticker
    AND analyzed_at >= :analyzed_from
    AND analyzed_at < :analyzed_to
ORDER BY analyzed_at DESC, ai_provider;

-- name: latest_analysis(market_ticker)^
-- The last analysis of a market, or None when there is none.
SELECT *
FROM research.market_analyses
WHERE market_ticker = :market_ticker
ORDER BY analyzed_at DESC, ai_provider
LIMIT 1;

-- name: analyses_between(analyzed_from, analyzed_to)
-- Analyses of all markets made in [analyzed_from, analyzed_to), oldest first.
SELECT *
FROM research.market_analyses
WHERE analyzed_at >= :analyzed_from
    AND analyzed_at < :analyzed_to
ORDER BY analyzed_at, market_ticker, ai_provider;

-- name: analyses_by_decision(decision, analyzed_from, analyzed_to)
-- Analyses made in [analyzed_from, analyzed_to) that came to one decision (OPEN_YES, OPEN_NO, CLOSE, SKIP), oldest first.
SELECT *
FROM research.market_analyses
WHERE decision = :decision
    AND analyzed_at >= :analyzed_from
    AND analyzed_at < :analyzed_to
ORDER BY analyzed_at, market_ticker, ai_provider;

-- name: analysis_cost_by_provider(analyzed_from, analyzed_to)
-- What the analyses made in [analyzed_from, analyzed_to) cost at each provider, dollars, the dearest first (seed S3).
--
-- Counts analyses alone; calls that led to none are in ops.ai_costs.
SELECT ai_provider, count(*) AS analyses, sum(cost)::numeric(24, 6) AS total_cost
FROM research.market_analyses
WHERE analyzed_at >= :analyzed_from
    AND analyzed_at < :analyzed_to
GROUP BY ai_provider
ORDER BY total_cost DESC, ai_provider;
