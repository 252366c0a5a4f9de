-- What we see and conclude: edges, states of games, analyses.
--
-- Why: an edge and the state of a game change by the minute, and a backtest or a post-mortem asks what they were at a moment. Both are
-- versioned (SCD type 2): a row is one state over a half-open span of time, and the constraints let the versions of one key only form one
-- chain, without gap or overlap (see 0011). An analysis is a fact that cost money: rows are only added.
-- Locks: creates only; the foreign keys take a short SHARE ROW EXCLUSIVE on catalog.markets and catalog.events.
-- Undo: loses them; none of it can be asked for again.
-- depends: 0012.research-configs

CREATE TABLE research.edges (
    edge_id                     bigint                      NOT NULL GENERATED ALWAYS AS IDENTITY,
    market_ticker               catalog.ticker              NOT NULL,
    probability_matrix_id       bigint,
    strategy_id                 bigint,
    model_id                    bigint,
    source_key                  bigint[]                    NOT NULL GENERATED ALWAYS AS (
        ARRAY[COALESCE(strategy_id, 0), COALESCE(model_id, 0), COALESCE(probability_matrix_id, 0)]
    ) STORED,
    valid_from                  timestamptz                 NOT NULL,
    valid_to                    timestamptz,
    row_current_ind             boolean                     NOT NULL GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    expected_value              numeric(18, 6)              NOT NULL,
    true_win_probability        market_data.probability     NOT NULL,
    market_implied_probability  market_data.probability     NOT NULL,
    market_price                market_data.price           NOT NULL,
    confidence_level            text,
    confidence_metrics          jsonb,
    recommended_action          text,
    created_at                  timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT edges_pkey PRIMARY KEY (edge_id),
    CONSTRAINT edges_market_ticker_fkey FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT edges_probability_matrix_id_fkey
        FOREIGN KEY (probability_matrix_id) REFERENCES research.probability_matrices (probability_id),
    CONSTRAINT edges_strategy_id_fkey FOREIGN KEY (strategy_id) REFERENCES research.strategies (strategy_id),
    CONSTRAINT edges_model_id_fkey FOREIGN KEY (model_id) REFERENCES research.probability_models (model_id),
    CONSTRAINT edges_market_ticker_source_key_valid_from_key UNIQUE (market_ticker, source_key, valid_from),
    CONSTRAINT edges_valid_to_market_ticker_source_key_key UNIQUE (valid_to, market_ticker, source_key),
    CONSTRAINT edges_market_ticker_source_key_valid_to_fkey
        FOREIGN KEY (market_ticker, source_key, valid_to) REFERENCES research.edges (market_ticker, source_key, valid_from),
    CONSTRAINT edges_valid_to_check CHECK (valid_to > valid_from),
    CONSTRAINT edges_confidence_level_check CHECK (confidence_level IN ('high', 'medium', 'low')),
    CONSTRAINT edges_confidence_metrics_check CHECK (jsonb_typeof(confidence_metrics) = 'object'),
    CONSTRAINT edges_recommended_action_check CHECK (recommended_action IN ('auto_execute', 'alert', 'ignore'))
);

COMMENT ON TABLE research.edges IS 'What a model believed of a market against its price, over [valid_from, valid_to): SCD type 2. One key is market, strategy, model and matrix.';
COMMENT ON COLUMN research.edges.edge_id IS 'Number of this version; what a trade points to, so that it is known what triggered it.';
COMMENT ON COLUMN research.edges.market_ticker IS 'The market.';
COMMENT ON COLUMN research.edges.probability_matrix_id IS 'The cell that the probability comes from; null when it comes from a model alone.';
COMMENT ON COLUMN research.edges.strategy_id IS 'The exact strategy version that looked for it; null when none did.';
COMMENT ON COLUMN research.edges.model_id IS 'The exact model version behind the probability; null when none is.';
COMMENT ON COLUMN research.edges.source_key IS 'Strategy, model and matrix in one value that is never null (0 for none), so that keys over it hold; derived from them.';
COMMENT ON COLUMN research.edges.valid_from IS 'When this state was first computed, UTC.';
COMMENT ON COLUMN research.edges.valid_to IS 'When the next state was computed, UTC, exclusive; null = current.';
COMMENT ON COLUMN research.edges.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN research.edges.expected_value IS 'Expected profit of one contract in dollars, after the costs that the strategy counts.';
COMMENT ON COLUMN research.edges.true_win_probability IS 'What we believe, 0 to 1.';
COMMENT ON COLUMN research.edges.market_implied_probability IS 'What the market believes, 0 to 1.';
COMMENT ON COLUMN research.edges.market_price IS 'Price in dollars that it was computed against.';
COMMENT ON COLUMN research.edges.confidence_level IS 'high, medium or low; null when not judged.';
COMMENT ON COLUMN research.edges.confidence_metrics IS 'What the confidence rests on: sample_size, ci_width, data_recency.';
COMMENT ON COLUMN research.edges.recommended_action IS 'auto_execute, alert or ignore; null when none.';
COMMENT ON COLUMN research.edges.created_at IS 'When the row was written, UTC.';

-- Serves the rule of one current version an edge, and research.current_edges_of_market.
CREATE UNIQUE INDEX edges_current_key ON research.edges (market_ticker, source_key) WHERE valid_to IS NULL;
-- Serves research.active_edges.
CREATE INDEX edges_expected_value_current_idx ON research.edges (expected_value) WHERE valid_to IS NULL;

CREATE VIEW research.current_edges AS
SELECT
    edges.edge_id,
    edges.market_ticker,
    edges.probability_matrix_id,
    edges.strategy_id,
    edges.model_id,
    edges.valid_from,
    edges.expected_value,
    edges.true_win_probability,
    edges.market_implied_probability,
    edges.market_price,
    (edges.true_win_probability - edges.market_price)::numeric(7, 6) AS edge,
    edges.confidence_level,
    edges.confidence_metrics,
    edges.recommended_action
FROM research.edges
WHERE edges.valid_to IS NULL;

COMMENT ON VIEW research.current_edges IS 'The current version of each edge.';
COMMENT ON COLUMN research.current_edges.edge_id IS 'Number of this version.';
COMMENT ON COLUMN research.current_edges.market_ticker IS 'The market.';
COMMENT ON COLUMN research.current_edges.probability_matrix_id IS 'The cell that the probability comes from.';
COMMENT ON COLUMN research.current_edges.strategy_id IS 'The exact strategy version that looked for it.';
COMMENT ON COLUMN research.current_edges.model_id IS 'The exact model version behind the probability.';
COMMENT ON COLUMN research.current_edges.valid_from IS 'When this state was first computed, UTC.';
COMMENT ON COLUMN research.current_edges.expected_value IS 'Expected profit of one contract in dollars.';
COMMENT ON COLUMN research.current_edges.true_win_probability IS 'What we believe, 0 to 1.';
COMMENT ON COLUMN research.current_edges.market_implied_probability IS 'What the market believes, 0 to 1.';
COMMENT ON COLUMN research.current_edges.market_price IS 'Price in dollars that it was computed against.';
COMMENT ON COLUMN research.current_edges.edge IS 'true_win_probability - market_price.';
COMMENT ON COLUMN research.current_edges.confidence_level IS 'high, medium or low; null when not judged.';
COMMENT ON COLUMN research.current_edges.confidence_metrics IS 'What the confidence rests on.';
COMMENT ON COLUMN research.current_edges.recommended_action IS 'auto_execute, alert or ignore; null when none.';

CREATE TABLE research.game_states (
    event_ticker        catalog.ticker  NOT NULL,
    external_game_id    text            NOT NULL DEFAULT '',
    valid_from          timestamptz     NOT NULL,
    valid_to            timestamptz,
    row_current_ind     boolean         NOT NULL GENERATED ALWAYS AS (valid_to IS NULL) STORED,
    sport               text            NOT NULL,
    home_team           text,
    away_team           text,
    home_score          integer,
    away_score          integer,
    period              text,
    time_remaining      text,
    possession          text,
    status              text,
    sport_metadata      jsonb,
    created_at          timestamptz     NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT game_states_pkey PRIMARY KEY (event_ticker, external_game_id, valid_from),
    CONSTRAINT game_states_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker) ON DELETE CASCADE,
    CONSTRAINT game_states_valid_to_event_ticker_external_game_id_key UNIQUE (valid_to, event_ticker, external_game_id),
    CONSTRAINT game_states_event_ticker_external_game_id_valid_to_fkey
        FOREIGN KEY (event_ticker, external_game_id, valid_to)
        REFERENCES research.game_states (event_ticker, external_game_id, valid_from),
    CONSTRAINT game_states_valid_to_check CHECK (valid_to > valid_from),
    CONSTRAINT game_states_home_score_check CHECK (home_score >= 0),
    CONSTRAINT game_states_away_score_check CHECK (away_score >= 0),
    CONSTRAINT game_states_possession_check CHECK (possession IN ('home', 'away')),
    CONSTRAINT game_states_status_check CHECK (
        status IN ('scheduled', 'pregame', 'live', 'halftime', 'final', 'delayed', 'suspended', 'postponed', 'cancelled')
    ),
    CONSTRAINT game_states_sport_metadata_check CHECK (jsonb_typeof(sport_metadata) = 'object')
);

COMMENT ON TABLE research.game_states IS 'The state of the game behind an event over [valid_from, valid_to): SCD type 2.';
COMMENT ON COLUMN research.game_states.event_ticker IS 'The event that the game decides.';
COMMENT ON COLUMN research.game_states.external_game_id IS 'The data source''s id of the game; empty text where an event has one game and the source gives none.';
COMMENT ON COLUMN research.game_states.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN research.game_states.valid_to IS 'When the next state was observed, UTC, exclusive; null = current.';
COMMENT ON COLUMN research.game_states.row_current_ind IS 'True for the current version; derived from valid_to.';
COMMENT ON COLUMN research.game_states.sport IS 'nfl, nba, tennis, mlb ...';
COMMENT ON COLUMN research.game_states.home_team IS 'Team at home.';
COMMENT ON COLUMN research.game_states.away_team IS 'Team away.';
COMMENT ON COLUMN research.game_states.home_score IS 'Points of the team at home; null before the game, which is not 0.';
COMMENT ON COLUMN research.game_states.away_score IS 'Points of the team away; null before the game, which is not 0.';
COMMENT ON COLUMN research.game_states.period IS 'Period in the sport''s words: Q1, Halftime, OT, Final.';
COMMENT ON COLUMN research.game_states.time_remaining IS 'Clock of the period as the source writes it: 12:45.';
COMMENT ON COLUMN research.game_states.possession IS 'home or away; null when neither or unknown.';
COMMENT ON COLUMN research.game_states.status IS 'scheduled, pregame, live, halftime, final, delayed, suspended, postponed or cancelled.';
COMMENT ON COLUMN research.game_states.sport_metadata IS 'What only this sport has: down, distance, fouls.';
COMMENT ON COLUMN research.game_states.created_at IS 'When the row was written, UTC.';

-- Serves the rule of one current version a game, and research.current_game_states.
CREATE UNIQUE INDEX game_states_current_key ON research.game_states (event_ticker, external_game_id) WHERE valid_to IS NULL;
-- Serves research.current_game_states_of_sport.
CREATE INDEX game_states_sport_current_idx ON research.game_states (sport) WHERE valid_to IS NULL;

CREATE VIEW research.current_game_states AS
SELECT
    event_ticker, external_game_id, valid_from, sport, home_team, away_team, home_score, away_score, period, time_remaining, possession,
    status, sport_metadata
FROM research.game_states
WHERE valid_to IS NULL;

COMMENT ON VIEW research.current_game_states IS 'The current state of each game.';
COMMENT ON COLUMN research.current_game_states.event_ticker IS 'The event that the game decides.';
COMMENT ON COLUMN research.current_game_states.external_game_id IS 'The data source''s id of the game.';
COMMENT ON COLUMN research.current_game_states.valid_from IS 'When this state was first observed, UTC.';
COMMENT ON COLUMN research.current_game_states.sport IS 'nfl, nba, tennis, mlb ...';
COMMENT ON COLUMN research.current_game_states.home_team IS 'Team at home.';
COMMENT ON COLUMN research.current_game_states.away_team IS 'Team away.';
COMMENT ON COLUMN research.current_game_states.home_score IS 'Points of the team at home.';
COMMENT ON COLUMN research.current_game_states.away_score IS 'Points of the team away.';
COMMENT ON COLUMN research.current_game_states.period IS 'Period in the sport''s words.';
COMMENT ON COLUMN research.current_game_states.time_remaining IS 'Clock of the period.';
COMMENT ON COLUMN research.current_game_states.possession IS 'home or away; null when neither or unknown.';
COMMENT ON COLUMN research.current_game_states.status IS 'scheduled, pregame, live, halftime, final ...';
COMMENT ON COLUMN research.current_game_states.sport_metadata IS 'What only this sport has.';

CREATE TABLE research.market_analyses (
    market_ticker   catalog.ticker              NOT NULL,
    analyzed_at     timestamptz                 NOT NULL,
    ai_provider     text                        NOT NULL,
    analysis_text   text,
    cost            market_data.money           NOT NULL,
    decision        text,
    confidence      market_data.probability,
    metadata        jsonb,
    created_at      timestamptz                 NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT market_analyses_pkey PRIMARY KEY (market_ticker, analyzed_at, ai_provider),
    CONSTRAINT market_analyses_market_ticker_fkey
        FOREIGN KEY (market_ticker) REFERENCES catalog.markets (market_ticker) ON DELETE CASCADE,
    CONSTRAINT market_analyses_ai_provider_check CHECK (ai_provider <> ''),
    CONSTRAINT market_analyses_cost_check CHECK (cost >= 0),
    CONSTRAINT market_analyses_decision_check CHECK (decision IN ('OPEN_YES', 'OPEN_NO', 'CLOSE', 'SKIP')),
    CONSTRAINT market_analyses_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
);

COMMENT ON TABLE research.market_analyses IS 'What an AI said of a market, what it cost and what was decided; rows are only added.';
COMMENT ON COLUMN research.market_analyses.market_ticker IS 'The market.';
COMMENT ON COLUMN research.market_analyses.analyzed_at IS 'When it was made, UTC.';
COMMENT ON COLUMN research.market_analyses.ai_provider IS 'Who was asked: xai, openai, anthropic ...';
COMMENT ON COLUMN research.market_analyses.analysis_text IS 'The answer, whole.';
COMMENT ON COLUMN research.market_analyses.cost IS 'What the call cost, dollars.';
COMMENT ON COLUMN research.market_analyses.decision IS 'OPEN_YES, OPEN_NO, CLOSE or SKIP; null when none was made.';
COMMENT ON COLUMN research.market_analyses.confidence IS 'How sure it is, 0 to 1.';
COMMENT ON COLUMN research.market_analyses.metadata IS 'Model, tokens and what else the call reports.';
COMMENT ON COLUMN research.market_analyses.created_at IS 'When the row was written, UTC.';

-- Serves research.analyses_between, research.analysis_cost_by_provider.
CREATE INDEX market_analyses_analyzed_at_idx ON research.market_analyses (analyzed_at);
-- Serves research.analyses_by_decision.
CREATE INDEX market_analyses_decision_analyzed_at_idx ON research.market_analyses (decision, analyzed_at);

CREATE TRIGGER market_analyses_append_only
    BEFORE UPDATE OR DELETE ON research.market_analyses
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER market_analyses_append_only ON research.market_analyses IS 'What was said stays said.';
CREATE TRIGGER market_analyses_truncate
    BEFORE TRUNCATE ON research.market_analyses
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_ledger_change();
COMMENT ON TRIGGER market_analyses_truncate ON research.market_analyses IS 'What was said stays said.';
