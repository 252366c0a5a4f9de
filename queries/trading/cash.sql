-- Why cash changed, and whether it comes to the balance. Rows are only added.

-- name: insert_cash_movements()^
-- Adds movements of cash; one that is stored already, same environment, venue and reference, counts as unchanged.
--
-- The same reference with other content is refused (constraint cash_ledger_append_only), with the stored row in the error, and nothing
-- of the input is written. amount is positive for what came in. A fill may be named only within its own environment and venue.
-- @bulk staged_cash like trading.cash_ledger without created_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (environment, platform_id, reference) *
    FROM staged_cash
    ORDER BY environment, platform_id, reference, staged_position DESC
),
written AS (
    INSERT INTO trading.cash_ledger AS stored (
        environment, platform_id, reference, currency, reason, amount, occurred_at, market_ticker, trade_id, notes
    )
    SELECT environment, platform_id, reference, currency, reason, amount, occurred_at, market_ticker, trade_id, notes
    FROM newest
    ORDER BY environment, platform_id, reference
    -- Only what differs is tried to be changed, for the trigger to refuse.
    ON CONFLICT (environment, platform_id, reference) DO UPDATE SET amount = EXCLUDED.amount
    WHERE (
        stored.currency, stored.reason, stored.amount, stored.occurred_at, stored.market_ticker, stored.trade_id, stored.notes
    ) IS DISTINCT FROM (
        EXCLUDED.currency, EXCLUDED.reason, EXCLUDED.amount, EXCLUDED.occurred_at, EXCLUDED.market_ticker, EXCLUDED.trade_id,
        EXCLUDED.notes
    )
    RETURNING reference
)
SELECT count(*) AS written FROM written;

-- name: record_cash_movement(environment, platform_id, reference, currency, reason, amount, occurred_at, market_ticker, trade_id, notes)!
-- Adds one movement of cash; returns 1, or 0 when it is stored already. The same reference with other content is refused (constraint
-- cash_ledger_append_only).
--
-- reason is fill, fee, settlement, deposit, withdrawal or correction; amount is positive for what came in, in units of the currency.
-- @param market_ticker nullable: a transfer is about no market
-- @param trade_id nullable: no fill is behind it
-- @param notes nullable: there may be nothing to remark
INSERT INTO trading.cash_ledger AS stored (
    environment, platform_id, reference, currency, reason, amount, occurred_at, market_ticker, trade_id, notes
)
VALUES (
    :environment, :platform_id, :reference, :currency, :reason, :amount, :occurred_at, :market_ticker, :trade_id, :notes
)
ON CONFLICT (environment, platform_id, reference) DO UPDATE SET amount = EXCLUDED.amount
WHERE (stored.currency, stored.reason, stored.amount, stored.occurred_at, stored.market_ticker, stored.trade_id, stored.notes)
    IS DISTINCT FROM (
        EXCLUDED.currency, EXCLUDED.reason, EXCLUDED.amount, EXCLUDED.occurred_at, EXCLUDED.market_ticker, EXCLUDED.trade_id,
        EXCLUDED.notes
    );

-- name: book_fills(environment, executed_from, executed_to)!
-- Enters what the fills executed in [executed_from, executed_to) did to our cash; returns how many movements are new.
--
-- A buy costs price times contracts, a sell brings it, and a fee is a movement of its own (a rebate comes in); references are
-- `fill:FILL_ID` and `fee:FILL_ID`, so that again books nothing twice. Dollars. A fill that moves no cash has no movement.
INSERT INTO trading.cash_ledger (
    environment, platform_id, reference, currency, reason, amount, occurred_at, market_ticker, trade_id
)
SELECT
    trades.environment, trades.platform_id, movement.reason || ':' || trades.fill_id, 'USD', movement.reason, movement.amount,
    trades.executed_at, trades.market_ticker, trades.trade_id
FROM trading.trades
CROSS JOIN LATERAL (
    VALUES
        ('fill', round(trades.quantity * trades.price * CASE trades.side WHEN 'buy' THEN -1 ELSE 1 END, 6)),
        ('fee', -trades.fees)
) AS movement (reason, amount)
WHERE trades.environment = :environment
    AND trades.executed_at >= :executed_from
    AND trades.executed_at < :executed_to
    AND movement.amount <> 0
ORDER BY trades.environment, trades.platform_id, movement.reason || ':' || trades.fill_id
ON CONFLICT (environment, platform_id, reference) DO NOTHING;

-- name: cash_between(environment, platform_id, currency, occurred_from, occurred_to)
-- Movements of cash at one venue in [occurred_from, occurred_to), oldest first.
SELECT *
FROM trading.cash_ledger
WHERE environment = :environment
    AND platform_id = :platform_id
    AND currency = :currency
    AND occurred_at >= :occurred_from
    AND occurred_at < :occurred_to
ORDER BY occurred_at, reference;

-- name: cash_of_market(environment, market_ticker)
-- Movements of cash that one market caused, oldest first; together they are what the market came to in cash.
SELECT *
FROM trading.cash_ledger
WHERE market_ticker = :market_ticker AND environment = :environment
ORDER BY occurred_at, reference;

-- name: cash_of_trade(environment, platform_id, trade_id)
-- Movements of cash that one fill caused.
SELECT *
FROM trading.cash_ledger
WHERE environment = :environment AND platform_id = :platform_id AND trade_id = :trade_id
ORDER BY occurred_at, reference;

-- name: reconcile_balances(environment, moment)
-- Whether the ledger explains the balance of each venue and currency at a moment: difference 0, or the gap.
--
-- ledger is the sum of all movements up to the moment (it included), balance what was observed to be valid then, difference
-- balance - ledger: positive when cash came in that no movement explains. balance and difference are null where no balance was observed.
-- @column platform_id not null: one side of the full join has it
-- @column currency not null: one side of the full join has it
WITH movements AS (
    SELECT platform_id, currency, sum(amount) AS amount, count(*) AS movements
    FROM trading.cash_ledger
    WHERE environment = :environment AND occurred_at <= :moment
    GROUP BY platform_id, currency
),
observed AS (
    SELECT platform_id, currency, balance, valid_from
    FROM trading.account_balances
    WHERE environment = :environment
        AND valid_from <= :moment
        AND (valid_to > :moment OR valid_to IS NULL)
)
SELECT
    COALESCE(observed.platform_id, movements.platform_id) AS platform_id,
    COALESCE(observed.currency, movements.currency) AS currency,
    COALESCE(movements.movements, 0) AS movements,
    COALESCE(movements.amount, 0)::numeric(24, 6) AS ledger,
    observed.balance,
    observed.valid_from AS balance_since,
    (observed.balance - COALESCE(movements.amount, 0))::numeric(24, 6) AS difference
FROM observed
FULL JOIN movements ON movements.platform_id = observed.platform_id AND movements.currency = observed.currency
ORDER BY platform_id, currency;
