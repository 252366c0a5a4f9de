-- Numbered cases: what is said not to be null is not, whatever the tables hold. Every one runs, over empty tables and full ones.

-- name: q01()
SELECT a.id, a.n, b.id AS b_id, b.v, a.nn + b.id AS s, COALESCE(b.v, 'x') AS c FROM tricky.a a LEFT JOIN tricky.b b ON b.a_id = a.id;
-- name: q02()
SELECT a.id, b.v FROM tricky.a a LEFT JOIN tricky.b b ON b.a_id = a.id WHERE b.v > '';
-- name: q03()
SELECT id, n FROM tricky.a a FULL JOIN tricky.b b USING (id);
-- name: q04()
SELECT id, v FROM tricky.a a RIGHT JOIN tricky.b b USING (id);
-- name: q05()
SELECT * FROM tricky.u;
-- name: q06()
SELECT * FROM tricky.lj;
-- name: q07()
SELECT * FROM tricky.deep;
-- name: q08()
SELECT * FROM tricky.nums;
-- name: q09()
SELECT (SELECT v FROM tricky.b WHERE b.a_id = a.id LIMIT 1) AS v, (SELECT count(*) FROM tricky.b WHERE b.a_id = a.id) AS n, ARRAY(SELECT v FROM tricky.b) AS vs, EXISTS (SELECT FROM tricky.b) AS e, a.id IN (SELECT a_id FROM tricky.b) AS i, a.id = ANY (ARRAY[1, NULL]) AS any_, a.nn NOT IN (SELECT a_id FROM tricky.b) AS ni FROM tricky.a a;
-- name: q10()
SELECT count(*) AS n, max(a.id) AS m, sum(nn) AS s, array_agg(b.id) AS ids, bool_and(true) AS b, min('x') AS x FROM tricky.b, tricky.a;
-- name: q11()
SELECT nn, max(id) AS m, max(n) AS mn, count(n) AS c, sum(1) AS one, tricky.my_sum(n) AS my, array_agg(n) AS ns, json_object_agg(id, n) AS o, avg(nn) AS avg, stddev(nn) AS sd, var_pop(nn) AS vp, corr(nn, id) AS corr, string_agg(t, ',') AS st, max(nn) FILTER (WHERE n > 100) AS f FROM tricky.a GROUP BY nn;
-- name: q12()
SELECT nn, b, count(*) AS c, grouping(nn) AS g, nn + 1 AS p, max(id) AS m FROM tricky.a GROUP BY ROLLUP (nn, b);
-- name: q13()
SELECT nn, id, count(*) AS n FROM tricky.a GROUP BY CUBE (nn, id) HAVING count(*) > 0;
-- name: q14()
SELECT tricky.nul() AS a, tricky.strict_nul(1) AS b, 1 @+ 2 AS c, nullif(1, 1) AS d, greatest(1, NULL) AS e, upper('x') AS f, substring('abc' FROM 'z') AS g, regexp_match('a', 'b') AS h, to_char(now(), 'YYYY') AS i, split_part('a', ',', 2) AS j, array_length('{}'::int[], 1) AS k, cardinality('{}'::int[]) AS l, jsonb_array_length('[]') AS m, '{"a":1}'::jsonb->'b' AS n, array_position(ARRAY[1], 2) AS o, (ARRAY[1])[5] AS p, upper('(,)'::int4range) AS q, extract(epoch FROM now()) AS r, date_part('day', 'infinity'::date) AS s, width_bucket(1.0, 0, 5, 2) AS t, position('a' IN 'b') AS u, current_schema AS v, session_user AS w, inet_client_addr() AS x, age('infinity'::timestamptz) AS y, lower(NULL) AS z;
-- name: q15()
SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS v(x, y);
-- name: q16()
VALUES (1, NULL), (2, 'b');
-- name: q17()
TABLE tricky.b;
-- name: q18()
SELECT x.* FROM jsonb_to_recordset('[{"a":1},{"b":"x"}]') AS x(a int, b text);
-- name: q19()
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a'])) AS t(n, w);
-- name: q20()
SELECT n, w FROM unnest(ARRAY[1, NULL], ARRAY['a', 'b', 'c']) AS t(n, w);
-- name: q21()
SELECT DISTINCT ON (nn) nn, n, t FROM tricky.a ORDER BY nn, n;
-- name: q22()
WITH gone AS (DELETE FROM tricky.listed RETURNING *), put AS (INSERT INTO tricky.listed SELECT k, v FROM gone RETURNING k, v) SELECT p.k, p.v, g.k AS gk FROM put p LEFT JOIN gone g ON g.k = p.k;
-- name: q23()
UPDATE tricky.a SET t = b.v FROM tricky.b b WHERE b.a_id = a.id RETURNING a.id, a.t, b.v, a.n;
-- name: q24()
INSERT INTO tricky.b (id, v) SELECT id + 1000, 'x' FROM tricky.a ON CONFLICT (id) DO NOTHING RETURNING id, a_id, v, xmax = 0 AS fresh;
-- name: q25()
DELETE FROM tricky.b USING tricky.a a WHERE b.id = a.id + 1000 RETURNING b.id, a.n, a.nn;
-- name: q26()
MERGE INTO tricky.b USING tricky.a ON b.id = a.id + 500 WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY TARGET AND a.id > 0 THEN INSERT (id, v) VALUES (a.id + 500, 'm') RETURNING merge_action() AS act, b.id, b.v, a.nn, a.id AS a_id;
-- name: q27()
MERGE INTO tricky.b USING tricky.a ON b.id = a.id + 500 WHEN NOT MATCHED BY SOURCE AND b.id > 500 THEN DELETE RETURNING b.id, a.nn, a.id AS a_id;
-- name: q28()
SELECT id, lag(id) OVER (ORDER BY id) AS p, lag(id, 1, 0) OVER (ORDER BY id) AS p0, first_value(nn) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) AS fv, sum(nn) OVER (ORDER BY id ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING) AS sm, count(n) OVER () AS c, max(nn) OVER (PARTITION BY b) AS mx, rank() OVER (ORDER BY nn) AS r, ntile(3) OVER (ORDER BY nn) AS nt, last_value(id) OVER () AS lv FROM tricky.a;
-- name: q29()
SELECT a.id, l.v, l.n FROM tricky.a a LEFT JOIN LATERAL (SELECT v, 1 AS n FROM tricky.b WHERE b.a_id = a.id) l ON true;
-- name: q30()
SELECT a.id, c.n FROM tricky.a a CROSS JOIN LATERAL (SELECT count(*) AS n FROM tricky.b WHERE b.a_id = a.id) c;
-- name: q31()
SELECT a.id, s.v FROM tricky.a a LEFT JOIN (tricky.b x JOIN tricky.b s ON s.id = x.id) ON x.a_id = a.id;
-- name: q32()
SELECT id, n FROM tricky.a WHERE n IS NOT NULL UNION SELECT id, NULL FROM tricky.b;
-- name: q33()
SELECT id FROM tricky.a INTERSECT SELECT a_id FROM tricky.b;
-- name: q34()
SELECT a_id FROM tricky.b EXCEPT SELECT id FROM tricky.a;
-- name: q35()
SELECT CASE WHEN n > 0 THEN nn END AS x, CASE WHEN n > 0 THEN 1 ELSE 2 END AS y, CASE n WHEN 1 THEN 'a' ELSE t END AS z, n IS NULL AS w, n > 0 AND nn > 0 AS v, n IS DISTINCT FROM 1 AS u, NOT b AS s, b IS NOT TRUE AS r, (n > 0) IS UNKNOWN AS q FROM tricky.a;
-- name: q36()
SELECT r, lower(r) AS lo, upper(r) AS up, isempty(r) AS e, r * '[1,2)'::int4range AS i, lower_inc(r) AS li FROM tricky.a;
-- name: q37()
SELECT j, j->>'a' AS a, j || '{}' AS c, jsonb_build_object('x', n) AS o, to_jsonb(n) AS t, jsonb_typeof(j) AS ty, j @> '{}' AS k, j ? 'a' AS q FROM tricky.a;
-- name: q38()
SELECT key, value FROM tricky.a, jsonb_each_text('{"a": null, "b": "x"}');
-- name: q39()
SELECT * FROM tricky.child;
-- name: q40()
SELECT tableoid::regclass AS tab, ctid::text AS place, xmin::text AS x FROM tricky.a;
-- name: q41()
SELECT a.id, a.n FROM tricky.a a JOIN tricky.b b ON a.n = b.id;
-- name: q42()
SELECT n, t FROM tricky.a WHERE n = 1 AND t LIKE '%' OR n = 2;
-- name: q43()
SELECT n, t FROM tricky.a WHERE (n, t) = (1, 'x');
-- name: q44()
SELECT n FROM tricky.a WHERE n NOT IN (5, 6);
-- name: q45()
SELECT n FROM tricky.a WHERE NOT (n IS NULL);
-- name: q46()
SELECT n FROM tricky.a WHERE n = ANY ('{1,2}'::int[]);
-- name: q47()
SELECT n FROM tricky.a WHERE COALESCE(n, 0) = 0;
-- name: q48()
SELECT n FROM tricky.a WHERE n IS NOT DISTINCT FROM NULL;
-- name: q49()
SELECT n, b FROM tricky.a WHERE b;
-- name: q50()
SELECT n, b FROM tricky.a WHERE b IS NOT TRUE;
-- name: q51()
SELECT v.id, v.b_id FROM tricky.lj v WHERE v.b_id = 1;
-- name: q52()
WITH RECURSIVE t(id, parent, depth) AS (SELECT id, NULL::int, 0 FROM tricky.a UNION ALL SELECT b.id, t.id, depth + 1 FROM tricky.b JOIN t ON t.id = b.a_id WHERE depth < 3) SELECT * FROM t;
-- name: q53()
WITH RECURSIVE t AS (SELECT 1 AS n, 'a'::text AS w UNION ALL SELECT n + 1, NULL FROM t WHERE n < 3) CYCLE n SET looped USING path SELECT n, w, looped FROM t;
-- name: q54()
SELECT x, y FROM (SELECT id AS x FROM tricky.a) q FULL JOIN (SELECT a_id AS y FROM tricky.b) w ON x = y;
-- name: q55()
SELECT id FROM (SELECT id, nn FROM tricky.a LIMIT 5) q NATURAL JOIN (SELECT id, v FROM tricky.b) w;
-- name: q56()
SELECT sum(n) OVER () AS s, sum(nn) OVER () AS sn, avg(nn) OVER (ORDER BY id) AS av FROM tricky.a;
-- name: q57()
SELECT string_to_array('a', ',') AS a, string_to_array(NULL, ',') AS b, array_append(NULL::int[], 1) AS c, array_cat('{1}', NULL::int[]) AS d, concat(NULL, 'a') AS e, concat_ws(',', NULL) AS f, format('%s', NULL) AS g, num_nulls(NULL) AS h, array_to_string(ARRAY['a'], ',') AS i, make_date(2020, 1, 1) AS j, date_trunc('day', now()) AS k, now() - interval '1 day' AS l, 'a' || NULL AS m, 1 / 2.0 AS n, 'x' ~ 'y' AS o, 5 % 2 AS p, random() AS q, md5('x') AS r, length('x') AS s, nextval('hr.people_id_seq') AS t, row_to_json(ROW(1)) AS u, json_build_array(1) AS v, ROW(1, NULL) IS NOT NULL AS w, pg_backend_pid() AS x, version() AS y;
-- name: q58()
SELECT JSON_VALUE('{"a":1}'::jsonb, '$.b') AS a, JSON_QUERY('{"a":1}'::jsonb, '$.a') AS b, JSON_EXISTS('{"a":1}'::jsonb, '$.a') AS c, JSON_OBJECT('a': 1) AS d, '1' IS JSON AS e, JSON_ARRAYAGG(id) AS f, JSON_SERIALIZE('{}' RETURNING text) AS g FROM tricky.a;
-- name: q59()
SELECT jt.* FROM JSON_TABLE('[{"a":1},{}]'::jsonb, '$[*]' COLUMNS (n FOR ORDINALITY, a int PATH '$.a')) AS jt;
-- name: q61()
SELECT a.id FROM tricky.a a TABLESAMPLE BERNOULLI (100) WHERE a.id IS NOT NULL;
-- name: q62()
SELECT * FROM tricky.odd;
-- name: q63()
SELECT id, (pair).street, (pair).zip FROM tricky.odd;
-- name: q64()
SELECT a.id, a.n FROM tricky.a a WHERE EXISTS (SELECT FROM tricky.b b WHERE b.a_id = a.n);
-- name: q65()
SELECT b.a_id FROM tricky.b b LEFT JOIN tricky.a a ON a.id = b.a_id AND b.a_id > 0;
-- name: q66()
SELECT a.n FROM tricky.a a LEFT JOIN tricky.b b ON a.n = b.id;
-- name: q67()
SELECT b.v, a.id FROM tricky.a a LEFT JOIN tricky.b b ON true WHERE COALESCE(b.v, '') = '' OR b.id = 1;
-- name: q68()
SELECT (a).id, (a).n FROM (SELECT a FROM tricky.a) q;
-- name: q69()
SELECT min(b.id) AS m, a.id FROM tricky.a a LEFT JOIN tricky.b b ON b.a_id = a.id GROUP BY a.id;
-- name: q70()
SELECT count(b.id) AS c, max(a.nn) AS m, array_agg(b.v) AS vs FROM tricky.a a LEFT JOIN tricky.b b ON b.a_id = a.id GROUP BY b.a_id;
-- name: q71(n)
-- @param n nullable: x
SELECT :n::int AS n, COALESCE(:n, 1) AS c, id FROM tricky.a WHERE :n::int IS NULL OR n = :n;
-- name: q72(n, m)
SELECT n FROM tricky.a ORDER BY id LIMIT :n OFFSET :m;
-- name: q73(n)
SELECT id FROM tricky.a FETCH FIRST :n ROWS ONLY;
-- name: q74(days)
SELECT now() + interval '1 day' * :days AS t, now() - make_interval(days => :days::int) AS u;
-- name: q75(a, b)
SELECT id FROM tricky.a WHERE id IN (:a, :b) AND id BETWEEN :a AND :b;
-- name: q76(words, uuids)
SELECT unnest(:words::text[]) AS w, cardinality(:uuids::uuid[]) AS n;
-- name: q77(docs)
SELECT * FROM unnest(:docs::jsonb[]) AS d(doc);
-- name: q78(times, span, level)
SELECT :times::timestamp[] AS times, :span::tricky.span AS span, :level::hr.level AS level;
-- name: q79(pair, fr, p)
-- @param pair nullable: x
INSERT INTO tricky.odd (id, must, pair, fr, p) VALUES (77, 1, :pair, :fr, :p) ON CONFLICT (id) DO UPDATE SET pair = EXCLUDED.pair RETURNING pair, fr, p;
-- name: q80()
SHOW server_version;
-- name: put_odd()^
-- @bulk staged_odd like tricky.odd
-- @one
WITH w AS (INSERT INTO tricky.odd SELECT id, pair, span, words, must, fr, frs, fm, levels, p, m, l, x, tq, lsn, o, rc, times, jbs, ranges, uuids, nets, bs, doms, n, f, c, na, iv, mac, jp, box, boxes, pts FROM staged_odd ON CONFLICT (id) DO NOTHING RETURNING 1) SELECT count(*) AS written FROM w;
