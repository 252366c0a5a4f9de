-- People, asked for in most of the ways there are.

-- name: add_person(name, email, emails, level, home, homes, salary, active, shifts, tags, scores, meta, worked, born, clock)^
-- @one
-- @param email nullable: not everybody has one
-- @param home nullable: x
-- @param shifts nullable: x
INSERT INTO hr.people (name, email, emails, level, home, homes, salary, active, shifts, tags, scores, meta, worked, born, clock)
VALUES (:name, :email, :emails, :level, :home, :homes, :salary, :active, :shifts, :tags, :scores, :meta, :worked, :born, :clock)
RETURNING *;

-- name: person(id)^
SELECT * FROM hr.people WHERE id = :id;

-- name: person_part(id)^
SELECT id, name, email, pay, home, (home).street, (home).zip AS zip_code, homes[1] AS first_home, tags[1] AS tag,
    upper(active) AS until, lower(active) AS since, active, shifts, meta->'a' AS a, meta->>'b' AS b, meta #>> '{c,d}' AS d,
    worked + interval '1 day' AS longer, extract(epoch FROM worked) AS seconds, age(created_at) AS age,
    salary / 12 AS monthly, now() - created_at AS since_created, created_at::date AS day, level::text AS level_text,
    row_number() OVER (ORDER BY id) AS n
FROM hr.people WHERE id = :id;

-- name: search(words, pattern, keys, key, contains, levels, ids)
SELECT id, name, ts_rank(to_tsvector('english', name), plainto_tsquery('english', :words)) AS rank
FROM hr.people
WHERE to_tsvector('english', name) @@ plainto_tsquery('english', :words)
    OR name ILIKE '%' || :pattern || '%' OR name ILIKE '%x%' OR meta ?| :keys OR meta ? :key OR meta @> :contains
    OR level = ANY (:levels) OR id = ANY(:ids);

-- name: team(boss)
-- The team of somebody, by a function.
SELECT * FROM hr.team(:boss);

-- name: people_of(level)
SELECT * FROM hr.people_of(:level);

-- name: bounds()^
-- @one
SELECT * FROM hr.bounds();

-- name: tag_set()
SELECT hr.tag_set() AS tag;

-- name: tag_set_from()
SELECT * FROM hr.tag_set() AS t(tag);

-- name: chain(id)
WITH RECURSIVE up(id, name, boss_id, depth, path) AS (
    SELECT p.id, p.name, p.boss_id, 0, ARRAY[p.id] FROM hr.people p WHERE p.id = :id
    UNION ALL
    SELECT p.id, p.name, p.boss_id, up.depth + 1, up.path || p.id FROM hr.people p JOIN up ON p.id = up.boss_id
)
SELECT * FROM up ORDER BY depth;

-- name: bosses()
SELECT p.id, p.name, boss.id AS boss_id, boss.name AS boss_name, boss.level AS boss_level, boss.home AS boss_home
FROM hr.people p LEFT JOIN hr.people boss ON boss.id = p.boss_id ORDER BY p.id;

-- name: by_level()
SELECT level, count(*) AS n, count(*) FILTER (WHERE bonus IS NOT NULL) AS with_bonus, sum(salary) AS salary, avg(bonus) AS bonus,
    array_agg(name ORDER BY name) AS names, jsonb_agg(meta) AS metas, string_agg(email, ',') AS emails,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY salary) AS median, mode() WITHIN GROUP (ORDER BY level) AS mode,
    bool_or(bonus IS NULL) AS any_null, max(created_at) AS newest, stddev(salary) AS spread, array_agg(bonus) AS bonuses
FROM hr.people GROUP BY level ORDER BY level;

-- name: cube()
SELECT level, boss_id, grouping(level, boss_id) AS g, count(*) AS n, sum(salary) AS total
FROM hr.people GROUP BY GROUPING SETS ((level, boss_id), (level), ());

-- name: windows()
SELECT id, lag(salary) OVER w AS before, lead(name, 1, 'none') OVER w AS after, first_value(name) OVER w AS first,
    sum(salary) OVER w AS running, rank() OVER w AS rank, ntile(2) OVER w AS tile, nth_value(name, 2) OVER w AS second
FROM hr.people WINDOW w AS (ORDER BY id);

-- name: laterals()
SELECT p.id, o."order", o."class" AS kind, t.tag, n.n
FROM hr.people p
LEFT JOIN LATERAL (SELECT * FROM sales."order" o WHERE o.person_id = p.id ORDER BY o."order" LIMIT 1) o ON true
CROSS JOIN LATERAL unnest(p.tags) WITH ORDINALITY AS t(tag, n0)
CROSS JOIN generate_series(1, 2) AS n(n);

-- name: names()
SELECT name FROM hr.people UNION ALL SELECT sku FROM sales.items UNION SELECT NULL;

-- name: names_apart()
SELECT name FROM hr.people EXCEPT SELECT sku FROM sales.items;

-- name: count(level)$
SELECT count(*) FROM hr.people WHERE level = :level;

-- name: biggest()$
SELECT max(salary) FROM hr.people;

-- name: home(id)$
SELECT home FROM hr.people WHERE id = :id;

-- name: delete_person(id)^
DELETE FROM hr.people WHERE id = :id RETURNING id, name, email;

-- name: raise_bonus(by, id)^
UPDATE hr.people SET bonus = COALESCE(bonus, 0) + :by WHERE id = :id RETURNING id, bonus, pay;

-- name: raise_all(percent)!
CALL hr.raise(:percent);

-- name: lock_person(id)^
SELECT id FROM hr.people WHERE id = :id FOR UPDATE SKIP LOCKED;

-- name: keywords(self, cls, object, id, type, filter, print, sync, later, rows, params, conn_, row, result, dict, set_, sum, max)^
-- @one
SELECT :self::int AS self, :cls::int AS cls, :object::text AS object, :id::int AS id, :type::text AS type, :filter::text AS filter,
    :print::text AS print, :sync::int AS sync, :later::int AS later, :rows::int AS rows, :params::int AS params,
    :conn_::int AS conn, :row::int AS "row", :result::int AS result, :dict::int AS "dict", :set_::int AS "set", :sum::int AS sum,
    :max::int AS max, 1 AS model_fields, 2 AS "model_dump", 3 AS "validate", 4 AS construct, 5 AS "None", 6 AS "True", 7 AS "json";

-- name: typed_literals()^
-- @one
SELECT 1 AS a, 1.5 AS b, 'x' AS c, true AS d, NULL AS e, DATE '2026-01-01' AS f, INTERVAL '1 day' AS g, '{1,2}'::int[] AS h,
    ARRAY['a', NULL] AS i, ROW(1, 'x') IS NULL AS j, current_date AS k, current_user AS l, ''::bytea AS m, 1::bigint AS n, 1e3::real AS o,
    '[1,2)'::int4range AS p, '00:00'::time AS q, gen_random_uuid() AS r, current_timestamp AS s, pg_typeof(1)::text AS t;

-- name: exists_person(email)$
SELECT EXISTS (SELECT FROM hr.people WHERE email = :email);

-- name: streamed()
-- @stream
SELECT id, name, level, home FROM hr.people ORDER BY id;

-- name: set_names(ids, names)!
UPDATE hr.people p SET name = n.name FROM unnest(:ids::bigint[], :names::text[]) AS n(id, name) WHERE p.id = n.id;

-- name: people_as_json()$
SELECT jsonb_agg(to_jsonb(p)) FROM hr.people p;

-- name: whole_rows()
SELECT p.id, p AS person FROM hr.people p;

-- name: nothing_back()!
SELECT;

-- name: by_date(day, since, until, zone)
SELECT id, created_at AT TIME ZONE :zone AS local FROM hr.people
WHERE created_at::date = :day OR created_at BETWEEN :since AND :until OR active @> :day::date;

-- name: page(after_id, size)
SELECT id, name FROM hr.people WHERE id > :after_id ORDER BY id LIMIT :size OFFSET 0;

-- name: case_of(id)^
SELECT CASE WHEN salary > 10 THEN 'rich' ELSE 'poor' END AS wealth, CASE level WHEN 'lead' THEN 1 END AS lead,
    NULLIF(name, '') AS name, GREATEST(bonus, salary) AS most, salary > 5 AS rich, bonus > 5 AS bonus_rich, NOT (bonus IS NULL) AS has
FROM hr.people WHERE id = :id;
