-- Where nulls come from, and the types that nobody uses until somebody does.
-- depends: 0002.people-and-sales
CREATE SCHEMA tricky;
CREATE TABLE tricky.a (id int PRIMARY KEY, n int, t text, nn int NOT NULL DEFAULT 1, j jsonb, arr int[], ts timestamptz, b boolean, r int4range NOT NULL DEFAULT '(,)');
CREATE TABLE tricky.b (id int PRIMARY KEY, a_id int, v text NOT NULL);
CREATE TABLE tricky.child (extra text NOT NULL) INHERITS (tricky.a);
CREATE TABLE tricky.listed (k text NOT NULL, v int) PARTITION BY LIST (k);
CREATE TABLE tricky.listed_x PARTITION OF tricky.listed FOR VALUES IN ('x');
CREATE TABLE tricky.listed_rest PARTITION OF tricky.listed DEFAULT;
CREATE DOMAIN tricky.pair AS hr.home_address CHECK ((VALUE).zip <> '');
CREATE DOMAIN tricky.span AS daterange CHECK (NOT isempty(VALUE));
CREATE DOMAIN tricky.words AS text[];
CREATE DOMAIN tricky.must AS int NOT NULL;
CREATE TYPE tricky.floatrange AS RANGE (subtype = float8);
CREATE TABLE tricky.odd (
    id int PRIMARY KEY, pair tricky.pair, span tricky.span, words tricky.words, must tricky.must, fr tricky.floatrange, frs tricky.floatrange[], fm tricky.floatmultirange, levels hr.level[][],
    p point, m money, l bit varying(5), x text, tq tsquery, lsn pg_lsn, o oid, rc regclass, times timestamp[], jbs jsonb[], ranges daterange[], uuids uuid[], nets inet[], bs bytea[], doms hr.email[], n numeric, f float8,
    c "char", na name, iv interval, mac macaddr8, jp jsonpath, box box, boxes box[], pts point[]
);
CREATE VIEW tricky.u AS SELECT id, n FROM tricky.a UNION ALL SELECT id, a_id FROM tricky.b;
CREATE VIEW tricky.lj AS SELECT a.id, b.id AS b_id, b.v, a.nn FROM tricky.a LEFT JOIN tricky.b ON b.a_id = a.id;
CREATE VIEW tricky.deep AS SELECT lj.*, x.v AS v2 FROM tricky.lj JOIN tricky.b x ON x.id = lj.b_id;
CREATE RECURSIVE VIEW tricky.nums (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM nums WHERE n < 3;
CREATE FUNCTION tricky.nul() RETURNS int LANGUAGE sql AS 'SELECT NULL::int';
CREATE FUNCTION tricky.strict_nul(int) RETURNS int LANGUAGE sql STRICT AS 'SELECT NULL::int';
CREATE OPERATOR public.@+ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE AGGREGATE tricky.my_sum(int) (sfunc = int4pl, stype = int);
