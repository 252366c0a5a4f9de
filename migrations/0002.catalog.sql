-- The catalogue: venues, series, events and markets, one row each, as last seen.
--
-- Why: everything else points here. A row is the identity that foreign keys need; how a market's quotes changed lies in
-- market_versions (next migration) and in market_data. Answers arrive in any order, so a child whose parent has not come yet gets a
-- stub parent (is_stub) that a later answer completes. retrieved_at decides between two answers: the newer one wins, whichever
-- arrives first. Statuses, results and strike types are the exchange's words and stay open text: a new word must not stop ingestion.
-- No trigger, no column default that an upsert relies on: the schema must run unchanged on Citus.
-- Locks: creates only. Safe while an application runs.
-- Undo: loses the whole catalogue; nothing in it can be recovered except by asking the exchange again.
-- depends: 0001.schemas-and-domains

CREATE TABLE catalog.platforms (
    platform_id     text            NOT NULL,
    platform_type   text            NOT NULL,
    display_name    text            NOT NULL,
    base_url        text,
    websocket_url   text,
    api_version     text,
    auth_method     text,
    fees_structure  jsonb,
    status          text            NOT NULL,
    created_at      timestamptz     NOT NULL,
    updated_at      timestamptz     NOT NULL,
    CONSTRAINT platforms_pkey PRIMARY KEY (platform_id),
    CONSTRAINT platforms_platform_type_check CHECK (platform_type IN ('trading', 'data_source')),
    CONSTRAINT platforms_status_check CHECK (status IN ('active', 'inactive'))
);

COMMENT ON TABLE catalog.platforms IS 'A venue that trades contracts, or a source of data about them.';
COMMENT ON COLUMN catalog.platforms.platform_id IS 'Our short name of the venue: kalshi, polymarket.';
COMMENT ON COLUMN catalog.platforms.platform_type IS 'trading or data_source.';
COMMENT ON COLUMN catalog.platforms.display_name IS 'Name for people.';
COMMENT ON COLUMN catalog.platforms.base_url IS 'Root of the REST interface.';
COMMENT ON COLUMN catalog.platforms.websocket_url IS 'Root of the streaming interface.';
COMMENT ON COLUMN catalog.platforms.api_version IS 'Version of the interface that base_url speaks.';
COMMENT ON COLUMN catalog.platforms.auth_method IS 'How keyed calls are signed: rsa_pss, api_key, wallet.';
COMMENT ON COLUMN catalog.platforms.fees_structure IS 'The venue''s fee rules; for Kalshi the factor of the quadratic fee: factor x price x (1 - price) dollars a contract.';
COMMENT ON COLUMN catalog.platforms.status IS 'active or inactive: whether we collect from it.';
COMMENT ON COLUMN catalog.platforms.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.platforms.updated_at IS 'When the row last changed, UTC.';

INSERT INTO catalog.platforms (
    platform_id, platform_type, display_name, base_url, websocket_url, api_version, auth_method, fees_structure, status,
    created_at, updated_at
) VALUES (
    'kalshi', 'trading', 'Kalshi', 'https://external-api.kalshi.com/trade-api/v2', 'wss://external-api-ws.kalshi.com/trade-api/ws/v2',
    'v2', 'rsa_pss', '{"quadratic_factor": "0.07"}', 'active', statement_timestamp(), statement_timestamp()
);

CREATE TABLE catalog.series (
    series_ticker       catalog.ticker  NOT NULL,
    platform_id         text            NOT NULL,
    external_id         text            NOT NULL,
    category            text,
    subcategory         text,
    title               text,
    frequency           text,
    tags                text[],
    fee_type            text,
    fee_multiplier      numeric(12, 6),
    settlement_sources  jsonb,
    metadata            jsonb,
    raw_json            jsonb,
    is_stub             boolean         NOT NULL,
    retrieved_at        timestamptz     NOT NULL,
    created_at          timestamptz     NOT NULL,
    updated_at          timestamptz     NOT NULL,
    CONSTRAINT series_pkey PRIMARY KEY (series_ticker),
    CONSTRAINT series_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    CONSTRAINT series_title_check CHECK (is_stub OR title IS NOT NULL)
);

COMMENT ON TABLE catalog.series IS 'A recurring kind of event, such as the daily high temperature in New York.';
COMMENT ON COLUMN catalog.series.series_ticker IS 'The venue''s key of the series.';
COMMENT ON COLUMN catalog.series.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.series.external_id IS 'The venue''s own identifier; for Kalshi the ticker. Not unique: vendors reuse and drift.';
COMMENT ON COLUMN catalog.series.category IS 'The venue''s category, open text; null in a stub.';
COMMENT ON COLUMN catalog.series.subcategory IS 'Finer category of ours or the venue''s; null when unknown.';
COMMENT ON COLUMN catalog.series.title IS 'Title for people; null only in a stub.';
COMMENT ON COLUMN catalog.series.frequency IS 'How often events occur, the venue''s free text (daily, hourly, one_off, custom ...).';
COMMENT ON COLUMN catalog.series.tags IS 'The venue''s tags, in its order; null when it sends none.';
COMMENT ON COLUMN catalog.series.fee_type IS 'The venue''s fee rule by name, open text: quadratic, quadratic_with_maker_fees, flat ...';
COMMENT ON COLUMN catalog.series.fee_multiplier IS 'Factor on the venue''s fee, 1 = the full fee.';
COMMENT ON COLUMN catalog.series.settlement_sources IS 'Who decides the outcome: array of name and url.';
COMMENT ON COLUMN catalog.series.metadata IS 'The venue''s product metadata.';
COMMENT ON COLUMN catalog.series.raw_json IS 'The payload as it arrived, every field; null in a stub.';
COMMENT ON COLUMN catalog.series.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.series.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.series.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.series.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

-- Serves catalog.stubs: few rows at any time, so the index stays small.
CREATE INDEX series_is_stub_idx ON catalog.series (series_ticker) WHERE is_stub;

CREATE TABLE catalog.events (
    event_ticker        catalog.ticker  NOT NULL,
    platform_id         text            NOT NULL,
    series_ticker       catalog.ticker,
    external_id         text            NOT NULL,
    category            text,
    subcategory         text,
    title               text,
    sub_title           text,
    description         text,
    strike_date         timestamptz,
    open_time           timestamptz,
    close_time          timestamptz,
    status              text,
    mutually_exclusive  boolean,
    result              jsonb,
    metadata            jsonb,
    raw_json            jsonb,
    is_stub             boolean         NOT NULL,
    retrieved_at        timestamptz     NOT NULL,
    created_at          timestamptz     NOT NULL,
    updated_at          timestamptz     NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (event_ticker),
    CONSTRAINT events_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    CONSTRAINT events_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker),
    -- Nothing about open_time and close_time: they come from the markets as the venue sends them, also where it errs.
    CONSTRAINT events_title_check CHECK (is_stub OR title IS NOT NULL)
);

COMMENT ON TABLE catalog.events IS 'One question with one or more markets, such as the high in New York on 19 July.';
COMMENT ON COLUMN catalog.events.event_ticker IS 'The venue''s key of the event.';
COMMENT ON COLUMN catalog.events.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.events.series_ticker IS 'The series it belongs to; null while unknown.';
COMMENT ON COLUMN catalog.events.external_id IS 'The venue''s own identifier; for Kalshi the ticker.';
COMMENT ON COLUMN catalog.events.category IS 'The venue''s category, open text; null when it sends none.';
COMMENT ON COLUMN catalog.events.subcategory IS 'Finer category; null when unknown.';
COMMENT ON COLUMN catalog.events.title IS 'The question for people; null only in a stub.';
COMMENT ON COLUMN catalog.events.sub_title IS 'Second line of the title, such as the day.';
COMMENT ON COLUMN catalog.events.description IS 'Longer text; null when the venue sends none.';
COMMENT ON COLUMN catalog.events.strike_date IS 'The moment the question is about, UTC; null when the venue names none.';
COMMENT ON COLUMN catalog.events.open_time IS 'Earliest open_time of its known markets, UTC.';
COMMENT ON COLUMN catalog.events.close_time IS 'Latest close_time of its known markets, UTC.';
COMMENT ON COLUMN catalog.events.status IS 'The venue''s word for its state; null when it sends none.';
COMMENT ON COLUMN catalog.events.mutually_exclusive IS 'True when at most one of its markets can settle yes.';
COMMENT ON COLUMN catalog.events.result IS 'Final outcome data, where a source gives any.';
COMMENT ON COLUMN catalog.events.metadata IS 'The venue''s product metadata.';
COMMENT ON COLUMN catalog.events.raw_json IS 'The payload as it arrived without its nested markets, which are rows of their own; null in a stub.';
COMMENT ON COLUMN catalog.events.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.events.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.events.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.events.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

-- Serves catalog.events_of_series.
CREATE INDEX events_series_ticker_close_time_idx ON catalog.events (series_ticker, close_time);

-- Serves catalog.stubs: few rows at any time, so the index stays small.
CREATE INDEX events_is_stub_idx ON catalog.events (event_ticker) WHERE is_stub;

CREATE TABLE catalog.markets (
    market_ticker               catalog.ticker  NOT NULL,
    platform_id                 text            NOT NULL,
    event_ticker                catalog.ticker,
    series_ticker               catalog.ticker,
    external_id                 text            NOT NULL,
    market_type                 text,
    title                       text,
    subtitle                    text,
    yes_sub_title               text,
    no_sub_title                text,
    category                    text,
    subcategory                 text,
    strike_type                 text,
    floor_strike                numeric(38, 18),
    cap_strike                  numeric(38, 18),
    functional_strike           text,
    custom_strike               jsonb,
    open_time                   timestamptz,
    close_time                  timestamptz,
    expiration_time             timestamptz,
    expected_expiration_time    timestamptz,
    status                      text,
    result                      text,
    settlement_value            market_data.price,
    settlement_ts               timestamptz,
    price_ranges                jsonb,
    last_price                  market_data.price,
    volume                      market_data.contracts,
    open_interest               market_data.contracts,
    metadata                    jsonb,
    raw_json                    jsonb,
    is_stub                     boolean         NOT NULL,
    retrieved_at                timestamptz     NOT NULL,
    created_at                  timestamptz     NOT NULL,
    updated_at                  timestamptz     NOT NULL,
    CONSTRAINT markets_pkey PRIMARY KEY (market_ticker),
    CONSTRAINT markets_platform_id_fkey FOREIGN KEY (platform_id) REFERENCES catalog.platforms (platform_id),
    CONSTRAINT markets_event_ticker_fkey FOREIGN KEY (event_ticker) REFERENCES catalog.events (event_ticker),
    CONSTRAINT markets_series_ticker_fkey FOREIGN KEY (series_ticker) REFERENCES catalog.series (series_ticker),
    CONSTRAINT markets_title_check CHECK (is_stub OR (title IS NOT NULL AND event_ticker IS NOT NULL AND status IS NOT NULL))
);

COMMENT ON TABLE catalog.markets IS 'One contract that pays up to one dollar, such as: New York''s high on 19 July is 80 degrees or above.';
COMMENT ON COLUMN catalog.markets.market_ticker IS 'The venue''s key of the market.';
COMMENT ON COLUMN catalog.markets.platform_id IS 'The venue.';
COMMENT ON COLUMN catalog.markets.event_ticker IS 'The event it belongs to; null only in a stub.';
COMMENT ON COLUMN catalog.markets.series_ticker IS 'Copy of the event''s series, for joins without the event; null while unknown.';
COMMENT ON COLUMN catalog.markets.external_id IS 'The venue''s own identifier; for Kalshi the ticker.';
COMMENT ON COLUMN catalog.markets.market_type IS 'The venue''s word: binary, scalar.';
COMMENT ON COLUMN catalog.markets.title IS 'The question for people, may be empty for combos; null only in a stub.';
COMMENT ON COLUMN catalog.markets.subtitle IS 'Second line of the title.';
COMMENT ON COLUMN catalog.markets.yes_sub_title IS 'What YES means.';
COMMENT ON COLUMN catalog.markets.no_sub_title IS 'What NO means.';
COMMENT ON COLUMN catalog.markets.category IS 'Copy of the event''s category; null while unknown.';
COMMENT ON COLUMN catalog.markets.subcategory IS 'Finer category; null when unknown.';
COMMENT ON COLUMN catalog.markets.strike_type IS 'How strikes are compared, the venue''s word: greater, between, less, functional, custom, structured ...';
COMMENT ON COLUMN catalog.markets.floor_strike IS 'Lower strike, in the unit of the question (degrees, dollars ...); null when there is none.';
COMMENT ON COLUMN catalog.markets.cap_strike IS 'Upper strike, in the unit of the question; null when there is none.';
COMMENT ON COLUMN catalog.markets.functional_strike IS 'Strike given as an expression.';
COMMENT ON COLUMN catalog.markets.custom_strike IS 'Strike given as an object (a team, a candidate, the legs of a combo).';
COMMENT ON COLUMN catalog.markets.open_time IS 'Trading starts, UTC.';
COMMENT ON COLUMN catalog.markets.close_time IS 'Trading ends, UTC; the venue may move it.';
COMMENT ON COLUMN catalog.markets.expiration_time IS 'Latest moment of expiration, UTC.';
COMMENT ON COLUMN catalog.markets.expected_expiration_time IS 'When the venue expects to know the outcome, UTC.';
COMMENT ON COLUMN catalog.markets.status IS 'The venue''s word: initialized, inactive, active, closed, determined, disputed, amended, finalized ...; null only in a stub.';
COMMENT ON COLUMN catalog.markets.result IS 'The venue''s word: yes, no, scalar ...; null while undetermined.';
COMMENT ON COLUMN catalog.markets.settlement_value IS 'What one YES contract pays, in dollars; null while unsettled.';
COMMENT ON COLUMN catalog.markets.settlement_ts IS 'When it was settled, UTC.';
COMMENT ON COLUMN catalog.markets.price_ranges IS 'Valid limit prices: array of start, end and step in dollars. The truth about ticks; names of structures change.';
COMMENT ON COLUMN catalog.markets.last_price IS 'Last trade as of retrieved_at, dollars for YES; 0 before the first trade.';
COMMENT ON COLUMN catalog.markets.volume IS 'Contracts traded so far as of retrieved_at.';
COMMENT ON COLUMN catalog.markets.open_interest IS 'Contracts outstanding as of retrieved_at.';
COMMENT ON COLUMN catalog.markets.metadata IS 'Further facts that have no column and are not the venue''s payload.';
COMMENT ON COLUMN catalog.markets.raw_json IS 'The payload as it arrived, every field; null in a stub.';
COMMENT ON COLUMN catalog.markets.is_stub IS 'True while only the ticker is known, because a child arrived first.';
COMMENT ON COLUMN catalog.markets.retrieved_at IS 'When the venue gave this state, UTC; the newest observation wins.';
COMMENT ON COLUMN catalog.markets.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.markets.updated_at IS 'When the content last changed, UTC; a poll that confirms it leaves this alone.';

-- Serves catalog.markets_of_series.
CREATE INDEX markets_series_ticker_event_ticker_idx ON catalog.markets (series_ticker, event_ticker);

-- Serves catalog.markets_of_event (a strike ladder in order), catalog.summarise_events_of_markets, catalog.inherit_from_events.
CREATE INDEX markets_event_ticker_strike_type_floor_strike_cap_strike_idx
    ON catalog.markets (event_ticker, strike_type, floor_strike, cap_strike);

-- Serves catalog.markets_by_status: all of one status in order of close, page by page.
CREATE INDEX markets_status_close_time_idx ON catalog.markets (status, close_time, market_ticker);

-- Serves catalog.stubs: few rows at any time, so the index stays small.
CREATE INDEX markets_is_stub_idx ON catalog.markets (market_ticker) WHERE is_stub;

CREATE TABLE catalog.stations (
    station_id      text            NOT NULL,
    name            text            NOT NULL,
    latitude        numeric(9, 6)   NOT NULL,
    longitude       numeric(9, 6)   NOT NULL,
    elevation       numeric(7, 2),
    timezone        text            NOT NULL,
    series_tickers  text[]          NOT NULL,
    created_at      timestamptz     NOT NULL,
    updated_at      timestamptz     NOT NULL,
    CONSTRAINT stations_pkey PRIMARY KEY (station_id),
    CONSTRAINT stations_latitude_check CHECK (latitude BETWEEN -90 AND 90),
    CONSTRAINT stations_longitude_check CHECK (longitude BETWEEN -180 AND 180)
);

COMMENT ON TABLE catalog.stations IS 'A weather station whose reading settles one or more series.';
COMMENT ON COLUMN catalog.stations.station_id IS 'ICAO or network code, such as KNYC.';
COMMENT ON COLUMN catalog.stations.name IS 'Name for people.';
COMMENT ON COLUMN catalog.stations.latitude IS 'Degrees north.';
COMMENT ON COLUMN catalog.stations.longitude IS 'Degrees east.';
COMMENT ON COLUMN catalog.stations.elevation IS 'Metres above sea level; null when unknown.';
COMMENT ON COLUMN catalog.stations.timezone IS 'IANA name of the zone whose calendar day the reading belongs to.';
COMMENT ON COLUMN catalog.stations.series_tickers IS 'The series that settle on this station.';
COMMENT ON COLUMN catalog.stations.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN catalog.stations.updated_at IS 'When the row last changed, UTC.';
