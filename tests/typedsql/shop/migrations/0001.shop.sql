-- People order things.

CREATE SCHEMA shop;

CREATE TYPE shop.status AS ENUM ('open', 'in-progress', 'in progress', '2nd try', 'done');
COMMENT ON TYPE shop.status IS 'How far an order is.';

CREATE DOMAIN shop.sku AS text CONSTRAINT sku_check CHECK (VALUE ~ '^[A-Z]{2}-\d+$');
CREATE DOMAIN shop.price AS numeric(9, 4) CONSTRAINT price_check CHECK (VALUE >= 0 AND VALUE <= 99999.5);
COMMENT ON DOMAIN shop.price IS 'Dollars "net", C:\new, never \N{nothing}.';
CREATE DOMAIN shop.side AS text CONSTRAINT side_check CHECK (VALUE IN ('buy', 'sell', 'don''t'));
-- What Python cannot say, it must leave to the server.
CREATE DOMAIN shop.outside AS integer CONSTRAINT outside_check CHECK (VALUE = 50 OR (VALUE > 10 AND VALUE < 20));
CREATE DOMAIN shop.since AS date CONSTRAINT since_check CHECK (VALUE >= '2020-01-01');
CREATE DOMAIN shop.word AS text CONSTRAINT word_check CHECK (VALUE ~ '\mword\M');
CREATE DOMAIN shop.twice AS text
    CONSTRAINT twice_a_check CHECK (VALUE ~ '^a')
    CONSTRAINT twice_b_check CHECK (VALUE ~ 'b$');
CREATE DOMAIN shop.share AS double precision CONSTRAINT share_check CHECK (VALUE > 0 AND VALUE < 1.5);
CREATE DOMAIN shop.surely AS text NOT NULL;

CREATE TABLE shop.people (
    person_id   bigint GENERATED ALWAYS AS IDENTITY,
    name        text        NOT NULL,
    nickname    text,
    born        date,
    CONSTRAINT people_pkey PRIMARY KEY (person_id)
);
COMMENT ON TABLE shop.people IS 'Who orders.';
COMMENT ON COLUMN shop.people.nickname IS 'What friends say, "quoted"';

CREATE TABLE shop.orders (
    order_id    integer         NOT NULL,
    person      text            NOT NULL,
    sku         shop.sku        NOT NULL,
    status      shop.status     NOT NULL,
    side        shop.side       NOT NULL,
    price       shop.price,
    tags        text[]          NOT NULL,
    history     shop.status[],
    placed_at   timestamptz     NOT NULL,
    extra       jsonb,
    weight      numeric(6, 2),
    CONSTRAINT orders_pkey PRIMARY KEY (order_id),
    CONSTRAINT orders_weight_check CHECK (weight > 0)
);
COMMENT ON COLUMN shop.orders.status IS 'How far the order is; null never. More of it elsewhere.';
COMMENT ON COLUMN shop.orders.placed_at IS 'When it was placed, UTC.';

CREATE TABLE shop.oddities (
    "class"     text            NOT NULL,
    "date"      date,
    schema      text,
    _hidden     integer         NOT NULL,
    "Mixed Up"  boolean,
    outside     shop.outside,
    since       shop.since,
    word        shop.word,
    twice       shop.twice,
    share       shop.share,
    surely      shop.surely,
    next_date   date,
    amounts     numeric(6, 2)[],
    CONSTRAINT oddities_pkey PRIMARY KEY ("class")
);

-- Named so that its row would be a Price, as the domain is.
CREATE TABLE shop.prices (
    sku         shop.sku        NOT NULL,
    price       shop.price      NOT NULL,
    CONSTRAINT prices_pkey PRIMARY KEY (sku)
);

CREATE VIEW shop.priced_orders AS
SELECT o.order_id, o.sku, p.price FROM shop.orders o JOIN shop.prices p ON p.sku = o.sku;

CREATE VIEW shop.maybe_priced_orders AS
SELECT o.order_id, o.sku, p.price AS list_price FROM shop.orders o LEFT JOIN shop.prices p ON p.sku = o.sku;
