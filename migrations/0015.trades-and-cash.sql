-- What we traded, what it did to our cash, and what each day came to.
--
-- Why: a fill is known to the venue by its id, so a retry finds it stored; it points to the exact strategy and model version and to the
-- edge that triggered it, and never changes. A balance is versioned (SCD type 2, one chain, see 0011); why it changed is in the cash
-- ledger, whose sums must come to the balance. Paper, demo and live money have keys that cannot meet.
-- Locks: creates only; the foreign keys take a short SHARE ROW EXCLUSIVE on the tables that they name.
-- Undo: loses the record of fills and cash. The venue knows live fills, nobody knows the paper ones.
-- depends: 0014.positions

CREATE TABLE trading.trades (
    environment             trading.environment     NOT NULL,
    platform_id             text                    NOT NULL,
    fill_id                 text                    NOT NULL,
    trade_id                bigint                  NOT NULL GENERATED ALWAYS AS IDENTITY,
    order_id                text,
    market_ticker           catalog.ticker          NOT NULL,
    position_id             bigint,
    edge_id                 bigint,
    strategy_id             bigint,
    model_id                bigint,
    side                    text                    NOT NULL,
    contract_side           market_data.side        NOT NULL,
    price                   market_data.price       NOT NULL,
    quantity                market_data.contracts   NOT NULL,
    fees                    market_data.money,
    is_taker                boolean,
    edge_at_execution       numeric(18, 6),
    confidence_at_execution text,
    executed_at             timestamptz             NOT NULL,
    created_at              timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT trades_pkey PRIMARY KEY (environment, platform_id, fill_id),
    CONSTRAINT trades_environment_platform_id_trade_id_key UNIQUE (environment, platform_id, trade_id),
    CONSTRAINT trades_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    CONSTRAINT trades_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT trades_environment_position_id_market_ticker_platform_id_fkey
        FOREIGN KEY (environment, position_id, market_ticker, platform_id)
        REFERENCES trading.positions (environment, position_id, market_ticker, platform_id) ON DELETE CASCADE,
    CONSTRAINT trades_edge_id_fkey FOREIGN KEY (edge_id) REFERENCES research.edges (edge_id),
    CONSTRAINT trades_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies (strategy_id),
    CONSTRAINT trades_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models (model_id),
    CONSTRAINT trades_fill_id_check CHECK (fill_id <> ''),
    CONSTRAINT trades_side_check CHECK (side IN ('buy', 'sell')),
    CONSTRAINT trades_quantity_check CHECK (quantity > 0),
    CONSTRAINT trades_confidence_at_execution_check CHECK (confidence_at_execution IN ('high', 'medium', 'low'))
);

COMMENT ON TABLE trading.trades IS 'One fill of our own, with what led to it; rows are only added.';
COMMENT ON COLUMN trading.trades.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.trades.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.trades.fill_id IS 'The venue''s id of the fill; ours for paper. With venue and environment it tells a retry from a new fill.';
COMMENT ON COLUMN trading.trades.trade_id IS 'Number of the fill here.';
COMMENT ON COLUMN trading.trades.order_id IS 'The venue''s id of the order; an order can fill in parts.';
COMMENT ON COLUMN trading.trades.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.trades.position_id IS 'The position that it opened, grew or reduced; null when none.';
COMMENT ON COLUMN trading.trades.edge_id IS 'The exact version of the edge that triggered it; null when none did.';
COMMENT ON COLUMN trading.trades.strategy_id IS 'The exact strategy version that traded; null for a trade by hand.';
COMMENT ON COLUMN trading.trades.model_id IS 'The exact model version behind it; null when none is.';
COMMENT ON COLUMN trading.trades.side IS 'buy or sell.';
COMMENT ON COLUMN trading.trades.contract_side IS 'What was bought or sold: yes or no contracts.';
COMMENT ON COLUMN trading.trades.price IS 'Price of one contract, dollars for contract_side.';
COMMENT ON COLUMN trading.trades.quantity IS 'Contracts of the fill.';
COMMENT ON COLUMN trading.trades.fees IS 'Fee of the fill, dollars; negative for a rebate, null when unknown.';
COMMENT ON COLUMN trading.trades.is_taker IS 'Whether we took liquidity; null when unknown.';
COMMENT ON COLUMN trading.trades.edge_at_execution IS 'Expected profit of one contract at that moment, dollars.';
COMMENT ON COLUMN trading.trades.confidence_at_execution IS 'high, medium or low at that moment; null when not judged.';
COMMENT ON COLUMN trading.trades.executed_at IS 'When it filled, UTC.';
COMMENT ON COLUMN trading.trades.created_at IS 'When the row was written, UTC.';

-- Serves trading.trades_between, trading.trade_history.
CREATE INDEX trades_executed_at_idx ON trading.trades (environment, executed_at);
-- Serves trading.trades_of_position, trading.position_pnl.
CREATE INDEX trades_position_id_idx ON trading.trades (environment, position_id);
-- Serves trading.trades_of_market.
CREATE INDEX trades_market_ticker_executed_at_idx ON trading.trades (market_ticker, executed_at);
-- Serves research.compare_strategy_versions, research.refresh_strategy_metrics, trading.trades_of_strategy.
CREATE INDEX trades_strategy_id_executed_at_idx ON trading.trades (strategy_id, executed_at);
-- Serves research.compare_model_versions.
CREATE INDEX trades_model_id_idx ON trading.trades (model_id);
-- Serves trading.trades_of_edge.
CREATE INDEX trades_edge_id_idx ON trading.trades (edge_id);

CREATE TRIGGER trades_append_only
    BEFORE UPDATE OR DELETE ON trading.trades
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER trades_append_only ON trading.trades IS 'A fill that happened stays.';
CREATE TRIGGER trades_truncate
    BEFORE TRUNCATE ON trading.trades
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER trades_truncate ON trading.trades IS 'A fill that happened stays.';

CREATE VIEW trading.trade_attribution AS
SELECT
    trades.environment,
    trades.platform_id,
    trades.trade_id,
    trades.fill_id,
    trades.executed_at,
    trades.market_ticker,
    trades.position_id,
    trades.side,
    trades.contract_side,
    trades.price,
    trades.quantity,
    trades.fees,
    trades.strategy_id,
    strategies.strategy_name,
    strategies.strategy_version,
    strategies.config AS strategy_config,
    trades.model_id,
    probability_models.model_name,
    probability_models.model_version,
    probability_models.config AS model_config,
    trades.edge_id,
    trades.edge_at_execution,
    trades.confidence_at_execution
FROM trading.trades
LEFT JOIN research.strategies ON strategies.strategy_id = trades.strategy_id
LEFT JOIN research.probability_models ON probability_models.model_id = trades.model_id;

COMMENT ON VIEW trading.trade_attribution IS 'Each fill with the exact strategy and model version that it came from.';
COMMENT ON COLUMN trading.trade_attribution.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.trade_attribution.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.trade_attribution.trade_id IS 'Number of the fill here.';
COMMENT ON COLUMN trading.trade_attribution.fill_id IS 'The venue''s id of the fill.';
COMMENT ON COLUMN trading.trade_attribution.executed_at IS 'When it filled, UTC.';
COMMENT ON COLUMN trading.trade_attribution.market_ticker IS 'The market.';
COMMENT ON COLUMN trading.trade_attribution.position_id IS 'The position; null when none.';
COMMENT ON COLUMN trading.trade_attribution.side IS 'buy or sell.';
COMMENT ON COLUMN trading.trade_attribution.contract_side IS 'yes or no contracts.';
COMMENT ON COLUMN trading.trade_attribution.price IS 'Price of one contract, dollars for contract_side.';
COMMENT ON COLUMN trading.trade_attribution.quantity IS 'Contracts of the fill.';
COMMENT ON COLUMN trading.trade_attribution.fees IS 'Fee of the fill, dollars.';
COMMENT ON COLUMN trading.trade_attribution.strategy_id IS 'The exact strategy version; null for a trade by hand.';
COMMENT ON COLUMN trading.trade_attribution.strategy_name IS 'Its name.';
COMMENT ON COLUMN trading.trade_attribution.strategy_version IS 'Its version.';
COMMENT ON COLUMN trading.trade_attribution.strategy_config IS 'Its parameters.';
COMMENT ON COLUMN trading.trade_attribution.model_id IS 'The exact model version; null when none.';
COMMENT ON COLUMN trading.trade_attribution.model_name IS 'Its name.';
COMMENT ON COLUMN trading.trade_attribution.model_version IS 'Its version.';
COMMENT ON COLUMN trading.trade_attribution.model_config IS 'Its parameters.';
COMMENT ON COLUMN trading.trade_attribution.edge_id IS 'The exact version of the edge that triggered it.';
COMMENT ON COLUMN trading.trade_attribution.edge_at_execution IS 'Expected profit of one contract at that moment, dollars.';
COMMENT ON COLUMN trading.trade_attribution.confidence_at_execution IS 'high, medium or low at that moment.';

CREATE DOMAIN trading.currency AS text
    CONSTRAINT currency_form_check CHECK (VALUE ~ '^[A-Z]{3,5}$');
COMMENT ON DOMAIN trading.currency IS 'Code of a currency, upper case: USD, USDC.';

CREATE TABLE trading.account_balances (
    environment     trading.environment     NOT NULL,
    platform_id     text                    NOT NULL,
    currency        trading.currency        NOT NULL,
    valid_from      timestamptz             NOT NULL,
    valid_to        timestamptz,
    row_current_ind boolean                 NOT NULL GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    balance         market_data.money       NOT NULL,
    created_at      timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT account_balances_pkey PRIMARY KEY (environment, platform_id, currency, valid_from),
    CONSTRAINT account_balances_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    CONSTRAINT account_balances_valid_to_environment_platform_id_currency_key UNIQUE (valid_to, environment, platform_id, currency),
    CONSTRAINT account_balances_environment_platform_id_currency_valid_to_fkey
        FOREIGN KEY (environment, platform_id, currency, valid_to)
        REFERENCES trading.account_balances (environment, platform_id, currency, valid_from),
    CONSTRAINT account_balances_valid_to_check CHECK (valid_to > valid_from),
    CONSTRAINT account_balances_balance_check CHECK (balance >= 0)
);

COMMENT ON TABLE trading.account_balances IS 'Our cash at a venue over [valid_from, valid_to): SCD type 2. Why it changed is in cash_ledger.';
COMMENT ON COLUMN trading.account_balances.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.account_balances.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.account_balances.currency IS 'Currency of the balance.';
COMMENT ON COLUMN trading.account_balances.valid_from IS 'When this balance was first observed, UTC.';
COMMENT ON COLUMN trading.account_balances.valid_to IS 'When the next one was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN trading.account_balances.row_current_ind IS 'True for the current balance; derived from valid_to.';
COMMENT ON COLUMN trading.account_balances.balance IS 'Cash, never negative, in units of the currency.';
COMMENT ON COLUMN trading.account_balances.created_at IS 'When the row was written, UTC.';

-- Serves the rule of one current balance, and trading.current_balances.
CREATE UNIQUE INDEX account_balances_current_key
    ON trading.account_balances (environment, platform_id, currency) WHERE valid_to IS NULL;

CREATE TRIGGER account_balances_immutable_config
    BEFORE UPDATE OF environment, platform_id, currency, balance, created_at ON trading.account_balances
    FOR EACH ROW EXECUTE FUNCTION research.refuse_config_change('environment', 'platform_id', 'currency', 'balance', 'created_at');
COMMENT ON TRIGGER account_balances_immutable_config ON trading.account_balances IS 'A balance that was observed stays what it was; another one is a new version.';
CREATE TRIGGER account_balances_append_only
    BEFORE DELETE ON trading.account_balances
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER account_balances_append_only ON trading.account_balances IS 'A balance that was observed stays on record.';
CREATE TRIGGER account_balances_truncate
    BEFORE TRUNCATE ON trading.account_balances
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER account_balances_truncate ON trading.account_balances IS 'A balance that was observed stays on record.';

CREATE VIEW trading.current_balances AS
SELECT environment, platform_id, currency, valid_from, balance
FROM trading.account_balances
WHERE valid_to IS NULL;

COMMENT ON VIEW trading.current_balances IS 'Our cash at each venue now.';
COMMENT ON COLUMN trading.current_balances.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.current_balances.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.current_balances.currency IS 'Currency of the balance.';
COMMENT ON COLUMN trading.current_balances.valid_from IS 'When this balance was first observed, UTC.';
COMMENT ON COLUMN trading.current_balances.balance IS 'Cash, in units of the currency.';

CREATE TABLE trading.cash_ledger (
    environment     trading.environment     NOT NULL,
    platform_id     text                    NOT NULL,
    reference       text                    NOT NULL,
    currency        trading.currency        NOT NULL DEFAULT 'USD',
    reason          text                    NOT NULL,
    amount          market_data.money       NOT NULL,
    occurred_at     timestamptz             NOT NULL,
    market_ticker   catalog.ticker,
    trade_id        bigint,
    notes           text,
    created_at      timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT cash_ledger_pkey PRIMARY KEY (environment, platform_id, reference),
    CONSTRAINT cash_ledger_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    CONSTRAINT cash_ledger_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT cash_ledger_environment_platform_id_trade_id_fkey
        FOREIGN KEY (environment, platform_id, trade_id)
        REFERENCES trading.trades (environment, platform_id, trade_id) ON DELETE CASCADE,
    CONSTRAINT cash_ledger_reference_check CHECK (reference <> ''),
    CONSTRAINT cash_ledger_reason_check CHECK (reason IN ('fill', 'fee', 'settlement', 'deposit', 'withdrawal', 'correction')),
    CONSTRAINT cash_ledger_amount_check CHECK (
        amount <> 0
        AND (reason <> 'deposit' OR amount > 0)
        AND (reason <> 'withdrawal' OR amount < 0)
        AND (reason <> 'settlement' OR amount > 0)
    )
);

COMMENT ON TABLE trading.cash_ledger IS 'Why cash changed: one row a movement, only added. The sum up to a moment is the balance at it.';
COMMENT ON COLUMN trading.cash_ledger.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.cash_ledger.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.cash_ledger.reference IS 'What the movement is known by: fill id with its reason, id of the transfer. Tells a retry from a new movement.';
COMMENT ON COLUMN trading.cash_ledger.currency IS 'Currency of the amount.';
COMMENT ON COLUMN trading.cash_ledger.reason IS 'fill, fee, settlement, deposit, withdrawal or correction.';
COMMENT ON COLUMN trading.cash_ledger.amount IS 'What came in (positive) or went out (negative), in units of the currency, never 0.';
COMMENT ON COLUMN trading.cash_ledger.occurred_at IS 'When it happened, UTC.';
COMMENT ON COLUMN trading.cash_ledger.market_ticker IS 'The market that it is about; null for a transfer.';
COMMENT ON COLUMN trading.cash_ledger.trade_id IS 'The fill behind it; null when none is.';
COMMENT ON COLUMN trading.cash_ledger.notes IS 'Remarks for people; a correction says here why.';
COMMENT ON COLUMN trading.cash_ledger.created_at IS 'When the row was written, UTC.';

-- Serves trading.cash_between, trading.reconcile_balances.
CREATE INDEX cash_ledger_occurred_at_idx ON trading.cash_ledger (environment, platform_id, currency, occurred_at);
-- Serves trading.cash_of_market.
CREATE INDEX cash_ledger_market_ticker_idx ON trading.cash_ledger (market_ticker);
-- Serves trading.cash_of_trade, and a purge, which asks for the movements of each fill that goes.
CREATE INDEX cash_ledger_environment_platform_id_trade_id_idx ON trading.cash_ledger (environment, platform_id, trade_id);

CREATE TRIGGER cash_ledger_append_only
    BEFORE UPDATE OR DELETE ON trading.cash_ledger
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER cash_ledger_append_only ON trading.cash_ledger IS 'Money that moved has moved.';
CREATE TRIGGER cash_ledger_truncate
    BEFORE TRUNCATE ON trading.cash_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER cash_ledger_truncate ON trading.cash_ledger IS 'Money that moved has moved.';

CREATE TABLE trading.performance_daily (
    environment     trading.environment         NOT NULL,
    platform_id     text                        NOT NULL,
    date            date                        NOT NULL,
    total_pnl       market_data.money           NOT NULL,
    num_trades      bigint                      NOT NULL,
    win_rate        market_data.probability,
    portfolio_value market_data.money           NOT NULL,
    daily_return    numeric(12, 6),
    max_drawdown    numeric(12, 6),
    created_at      timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    updated_at      timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT performance_daily_pkey PRIMARY KEY (environment, platform_id, date),
    CONSTRAINT performance_daily_platform_id_fkey
        FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id) ON DELETE CASCADE,
    CONSTRAINT performance_daily_num_trades_check CHECK (num_trades >= 0),
    CONSTRAINT performance_daily_max_drawdown_check CHECK (max_drawdown BETWEEN 0 AND 1)
);

COMMENT ON TABLE trading.performance_daily IS 'What a day came to at one venue.';
COMMENT ON COLUMN trading.performance_daily.environment IS 'Which money: live, paper or demo.';
COMMENT ON COLUMN trading.performance_daily.platform_id IS 'The venue.';
COMMENT ON COLUMN trading.performance_daily.date IS 'The day, UTC.';
COMMENT ON COLUMN trading.performance_daily.total_pnl IS 'Realized profit of the positions that ended that day, before fees, dollars.';
COMMENT ON COLUMN trading.performance_daily.num_trades IS 'Positions that were closed or settled that day.';
COMMENT ON COLUMN trading.performance_daily.win_rate IS 'Share of them that made money, 0 to 1; null when none was closed.';
COMMENT ON COLUMN trading.performance_daily.portfolio_value IS 'Cash and positions at the end of the day, dollars.';
COMMENT ON COLUMN trading.performance_daily.daily_return IS 'Return of the day, a fraction: 0.01 = 1 %; null on the first day.';
COMMENT ON COLUMN trading.performance_daily.max_drawdown IS 'Deepest fall from a peak of portfolio_value so far, a fraction 0 to 1.';
COMMENT ON COLUMN trading.performance_daily.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN trading.performance_daily.updated_at IS 'When it last changed, UTC.';
