-- People and what they sell: most of what a schema can have, under the worst names it can have it by.
-- depends: 0001.all
CREATE SCHEMA hr;
CREATE SCHEMA sales;
CREATE SCHEMA "Größe";
CREATE TYPE hr.level AS ENUM ('junior', 'senior', 'lead');
CREATE DOMAIN hr.email AS text CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE DOMAIN hr.percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN hr.year AS smallint CHECK (VALUE > 1900 AND VALUE <= 2100);
CREATE TYPE hr.home_address AS (street text, zip varchar(10), since date);
CREATE TABLE hr.people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(80) NOT NULL,
    email hr.email UNIQUE,
    emails hr.email[] NOT NULL DEFAULT '{}',
    level hr.level NOT NULL DEFAULT 'junior',
    levels hr.level[],
    boss_id bigint REFERENCES hr.people,
    home hr.home_address,
    homes hr.home_address[] NOT NULL DEFAULT '{}',
    salary numeric(12,2) NOT NULL DEFAULT 0,
    bonus numeric(12,2),
    pay numeric(13,2) GENERATED ALWAYS AS (salary + COALESCE(bonus, 0)) STORED,
    active daterange NOT NULL DEFAULT '[2020-01-01,)',
    shifts tstzmultirange,
    tags text[] NOT NULL DEFAULT '{}',
    scores double precision[] NOT NULL DEFAULT '{}',
    meta jsonb NOT NULL DEFAULT '{}',
    worked interval NOT NULL DEFAULT '0',
    document tsvector,
    born hr.year,
    share hr.percent,
    created_at timestamptz NOT NULL DEFAULT now(),
    clock time,
    uid uuid NOT NULL DEFAULT gen_random_uuid()
);
COMMENT ON TABLE hr.people IS 'People.';
COMMENT ON COLUMN hr.people.salary IS 'Salary in euros a year.';
CREATE TABLE sales."order" (
    "order" integer PRIMARY KEY,
    "class" text NOT NULL,
    "from" date,
    "select" boolean NOT NULL DEFAULT true,
    model_config text,
    copy integer,
    json jsonb,
    schema text NOT NULL DEFAULT 's',
    dict text,
    "größe" numeric(6,2),
    person_id bigint REFERENCES hr.people,
    "Camel Case" text,
    at timestamp
);
CREATE TABLE sales.items (
    "order" integer NOT NULL REFERENCES sales."order",
    line smallint NOT NULL,
    sku text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    price numeric(10,2) NOT NULL,
    PRIMARY KEY ("order", line)
);
CREATE TABLE sales.stock (sku text PRIMARY KEY, on_hand integer NOT NULL, reserved integer);
CREATE TABLE "Größe"."Maß" (id serial PRIMARY KEY, "länge" real NOT NULL);
CREATE TABLE sales.events (at timestamptz NOT NULL, kind text NOT NULL, body jsonb) PARTITION BY RANGE (at);
CREATE TABLE sales.events_2026 PARTITION OF sales.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW sales.order_people AS
    SELECT o."order", o."class", p.name, p.email, count(i.line) AS lines, sum(i.price * i.quantity) AS total
    FROM sales."order" o LEFT JOIN hr.people p ON p.id = o.person_id LEFT JOIN sales.items i ON i."order" = o."order"
    GROUP BY o."order", p.id;
CREATE VIEW sales.strict_items AS SELECT i.*, o."class" FROM sales.items i JOIN sales."order" o USING ("order");
CREATE MATERIALIZED VIEW sales.totals AS SELECT sku, sum(quantity) AS sold FROM sales.items GROUP BY sku;
CREATE FUNCTION hr.team(boss bigint) RETURNS TABLE (id bigint, name text, depth integer) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE t AS (SELECT p.id, p.name::text, 0 AS depth FROM hr.people p WHERE p.id = boss
        UNION ALL SELECT p.id, p.name, t.depth + 1 FROM hr.people p JOIN t ON p.boss_id = t.id) SELECT * FROM t $$;
CREATE FUNCTION hr.people_of(l hr.level) RETURNS SETOF hr.people LANGUAGE sql STABLE AS $$ SELECT * FROM hr.people WHERE level = l $$;
CREATE FUNCTION hr.bounds(OUT low numeric, OUT high numeric) LANGUAGE sql STABLE AS $$ SELECT min(salary), max(salary) FROM hr.people $$;
CREATE FUNCTION hr.tag_set() RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT DISTINCT unnest(tags) FROM hr.people $$;
CREATE FUNCTION hr.full_address(a hr.home_address) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT a.street || ' ' || a.zip $$;
CREATE PROCEDURE hr.raise(percent numeric) LANGUAGE sql AS $$ UPDATE hr.people SET salary = salary * (1 + percent / 100) $$;
