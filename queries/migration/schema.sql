-- What a database consists of, read from PostgreSQL's own catalogs: of any database, ours or not, and on any server from 15 on.
-- Names and definitions come as SQL that another session can execute, whatever its settings.

-- name: plain_session()!
-- Until the end of the transaction, names are written with their schema and values without this session's habits. Answers 1.
SELECT
    set_config('search_path', 'pg_catalog', true),
    set_config('DateStyle', 'ISO, MDY', true),
    set_config('IntervalStyle', 'postgres', true),
    set_config('TimeZone', 'UTC', true),
    set_config('bytea_output', 'hex', true),
    set_config('extra_float_digits', '1', true),
    set_config('quote_all_identifiers', 'off', true),
    set_config('standard_conforming_strings', 'on', true);

-- name: schema_objects()
-- Every object of a database outside PostgreSQL's own schemas, with its comment and its grants; run plain_session() before.
--
-- kind says what it is, name who it is, part_of the relation, type or object that it belongs to (empty if none), place its order in
-- there, definition the SQL of it: of a column, a constraint, a table's options the clause, of a grant the privileges, else the whole
-- statement. Left out are what belongs to an extension, what a partition has from its parent, and the tables in which migrations are
-- recorded. Owners are no part of it: they differ from one installation to the next.
-- @column name not null: identities of existing objects
-- @column part_of not null: empty where there is none
-- @column place not null: a constant or a position
-- @column definition not null: the server describes each object that exists
WITH members AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
),
rooms AS (
    SELECT oid, nspname, nspowner, nspacl
    FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        AND ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM members)
),
sequences AS (
    SELECT
        pg_sequence.seqrelid,
        owner.refobjid AS table_oid,
        owner.refobjsubid AS column_number,
        owner.deptype IS NOT DISTINCT FROM 'i' AS is_identity,
        pg_sequence.seqtypid::regtype::text AS type,
        -- Only what differs from what CREATE SEQUENCE does by itself.
        concat_ws(
            ' ',
            'START WITH ' || CASE WHEN seqstart <> 1 THEN seqstart END,
            'INCREMENT BY ' || CASE WHEN seqincrement <> 1 THEN seqincrement END,
            'MINVALUE ' || CASE WHEN seqmin <> 1 THEN seqmin END,
            'MAXVALUE ' || CASE WHEN seqmax <> (2::numeric ^ (8 * pg_type.typlen - 1) - 1)::bigint THEN seqmax END,
            'CACHE ' || CASE WHEN seqcache <> 1 THEN seqcache END,
            CASE WHEN seqcycle THEN 'CYCLE' END
        ) AS options
    FROM pg_sequence
    JOIN pg_type ON pg_type.oid = pg_sequence.seqtypid
    LEFT JOIN pg_depend AS owner
        ON owner.classid = 'pg_class'::regclass AND owner.objid = pg_sequence.seqrelid AND owner.objsubid = 0
        AND owner.refclassid = 'pg_class'::regclass AND owner.deptype IN ('a', 'i')
),
relations AS (
    SELECT
        pg_class.oid,
        pg_class.oid::regclass::text AS name,
        relkind,
        relispartition AS is_partition,
        relrowsecurity,
        relforcerowsecurity,
        relreplident,
        relowner,
        relacl,
        CASE relkind
            WHEN 'v' THEN 'VIEW'
            WHEN 'm' THEN 'MATERIALIZED VIEW'
            WHEN 'S' THEN 'SEQUENCE'
            WHEN 'f' THEN 'FOREIGN TABLE'
            ELSE 'TABLE'
        END AS word,
        concat_ws(
            E'\n',
            CASE relpersistence WHEN 'u' THEN 'UNLOGGED' END,
            'INHERITS (' || CASE WHEN NOT relispartition THEN (
                SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = pg_class.oid
            ) END || ')',
            'PARTITION OF ' || CASE WHEN relispartition THEN (
                SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = pg_class.oid
            ) END || ' ' || pg_get_expr(relpartbound, pg_class.oid),
            'PARTITION BY ' || pg_get_partkeydef(pg_class.oid),
            'USING ' || CASE WHEN relkind = 'r' THEN (SELECT quote_ident(NULLIF(amname, 'heap')) FROM pg_am WHERE oid = relam) END,
            'WITH (' || array_to_string(reloptions, ', ') || ')'
        ) AS options,
        reloptions
    FROM pg_class
    JOIN rooms ON rooms.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        AND relpersistence <> 't'
        AND relname !~ '^(_?yoyo_|_kalshidb_)'
        AND ('pg_class'::regclass, pg_class.oid) NOT IN (SELECT classid, objid FROM members)
        AND NOT EXISTS (SELECT FROM sequences WHERE seqrelid = pg_class.oid AND is_identity)
),
types AS (
    SELECT pg_type.*, pg_type.oid::regtype::text AS name
    FROM pg_type
    JOIN rooms ON rooms.oid = typnamespace
    WHERE (
            typtype IN ('d', 'e', 'r')
            OR (typtype = 'c' AND EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
        )
        AND ('pg_type'::regclass, pg_type.oid) NOT IN (SELECT classid, objid FROM members)
),
indexes AS (
    SELECT pg_index.*, indexrelid::regclass::text AS name, relations.name AS table_name
    FROM pg_index
    JOIN relations ON relations.oid = indrelid
    WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
),
things (class, oid, part, target, kind, name, part_of, place, definition, owner, acl, acl_type) AS (
    SELECT
        'pg_extension'::regclass, pg_extension.oid, 0, NULL, 'extension', quote_ident(extname), '', 0,
        format('CREATE EXTENSION %I WITH SCHEMA %I', extname, nspname), NULL::oid, NULL::aclitem[], NULL::"char"
    FROM pg_extension
    JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname <> 'plpgsql'

    UNION ALL
    SELECT
        'pg_namespace'::regclass, oid, 0, format('SCHEMA %I', nspname), 'schema', quote_ident(nspname), '', 0,
        format('CREATE SCHEMA %I', nspname), nspowner, nspacl, 'n'
    FROM rooms
    WHERE nspname <> 'public'  -- every database has it; who may use it differs from one PostgreSQL to the next

    UNION ALL
    SELECT
        'pg_type'::regclass, oid, 0, CASE typtype WHEN 'd' THEN 'DOMAIN ' ELSE 'TYPE ' END || name,
        CASE typtype WHEN 'd' THEN 'domain' ELSE 'type' END, name, '', 0,
        CASE typtype
            WHEN 'd' THEN concat_ws(
                ' ',
                'CREATE DOMAIN', name, 'AS', format_type(typbasetype, typtypmod),
                'COLLATE ' || CASE WHEN typcollation <> (
                    SELECT base.typcollation FROM pg_type AS base WHERE base.oid = types.typbasetype
                ) THEN typcollation::regcollation::text END,
                'DEFAULT ' || typdefault,
                CASE WHEN typnotnull THEN 'NOT NULL' END
            )
            WHEN 'e' THEN format(E'CREATE TYPE %s AS ENUM (\n    %s\n)', name, (
                SELECT string_agg(quote_literal(enumlabel), E',\n    ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = types.oid
            ))
            WHEN 'r' THEN (
                SELECT format(E'CREATE TYPE %s AS RANGE (\n    %s\n)', name, concat_ws(
                    E',\n    ',
                    'SUBTYPE = ' || format_type(rngsubtype, NULL),
                    (
                        SELECT format('SUBTYPE_OPCLASS = %I.%I', nspname, opcname)
                        FROM pg_opclass JOIN pg_namespace ON pg_namespace.oid = opcnamespace
                        WHERE pg_opclass.oid = rngsubopc AND NOT opcdefault
                    ),
                    'COLLATION = ' || NULLIF(rngcollation, 0)::regcollation::text,
                    'SUBTYPE_DIFF = ' || NULLIF(rngsubdiff, 0)::regproc::text,
                    'MULTIRANGE_TYPE_NAME = ' || format_type(rngmultitypid, NULL)
                ))
                FROM pg_range WHERE rngtypid = types.oid
            )
            ELSE format(E'CREATE TYPE %s AS (\n    %s\n)', name, (
                SELECT string_agg(concat_ws(
                    ' ', quote_ident(attname), format_type(atttypid, atttypmod),
                    'COLLATE ' || CASE WHEN attcollation <> pg_type.typcollation THEN attcollation::regcollation::text END
                ), E',\n    ' ORDER BY attnum)
                FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                WHERE attrelid = types.typrelid AND attnum > 0 AND NOT attisdropped
            ))
        END,
        typowner, typacl, 'T'
    FROM types

    UNION ALL
    SELECT
        'pg_class'::regclass, relations.oid, 0, format('SEQUENCE %s', name), 'sequence', name, '', 0,
        concat_ws(' ', 'CREATE SEQUENCE', name, 'AS', sequences.type, NULLIF(sequences.options, '')), relowner, relacl, 's'
    FROM relations
    JOIN sequences ON sequences.seqrelid = relations.oid

    UNION ALL
    SELECT
        'pg_class'::regclass, seqrelid, 0, NULL, 'setting', format('owner of sequence %s', relations.name),
        table_oid::regclass::text, 1,
        format('ALTER SEQUENCE %s OWNED BY %s.%I', relations.name, table_oid::regclass, attname), NULL, NULL, NULL
    FROM sequences
    JOIN relations ON relations.oid = seqrelid
    JOIN pg_attribute ON attrelid = table_oid AND attnum = column_number

    UNION ALL
    SELECT
        'pg_class'::regclass, oid, 0, format('%s %s', word, name),
        CASE WHEN is_partition THEN 'partition' ELSE 'table' END, name, '', 0, options, relowner, relacl, 'r'
    FROM relations
    WHERE relkind IN ('r', 'p')

    UNION ALL
    SELECT
        'pg_class'::regclass, oid, 0, format('%s %s', word, name), lower(word), name, '', 0,
        format(
            E'CREATE %s %s%s AS\n%s%s', word, name, ' WITH (' || array_to_string(reloptions, ', ') || ')',
            rtrim(pg_get_viewdef(oid, true), ';'), CASE relkind WHEN 'm' THEN E'\nWITH NO DATA' END
        ),
        relowner, relacl, 'r'
    FROM relations
    WHERE relkind IN ('v', 'm')

    UNION ALL
    SELECT
        'pg_class'::regclass, relations.oid, attnum, format('COLUMN %s.%I', name, attname),
        CASE WHEN relkind IN ('r', 'p') AND NOT is_partition AND attislocal THEN 'column' ELSE '' END,
        format('%s.%I', name, attname), name, attnum,
        concat_ws(
            ' ',
            format_type(atttypid, atttypmod),
            'COMPRESSION ' || CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
            'COLLATE ' || CASE WHEN attcollation <> pg_type.typcollation THEN attcollation::regcollation::text END,
            CASE attgenerated
                WHEN 's' THEN format('GENERATED ALWAYS AS (%s) STORED', pg_get_expr(adbin, adrelid, true))
                WHEN 'v' THEN format('GENERATED ALWAYS AS (%s) VIRTUAL', pg_get_expr(adbin, adrelid, true))
            END,
            'GENERATED ' || CASE attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END || ' AS IDENTITY',
            '(' || CASE WHEN attidentity <> '' THEN NULLIF(sequences.options, '') END || ')',
            'DEFAULT ' || CASE WHEN attgenerated = '' THEN pg_get_expr(adbin, adrelid) END,
            CASE WHEN attnotnull THEN 'NOT NULL' END
        ),
        relowner, attacl, 'c'
    FROM relations
    JOIN pg_attribute ON attrelid = relations.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN sequences ON sequences.is_identity AND sequences.table_oid = attrelid AND sequences.column_number = attnum
    WHERE relkind <> 'S'

    UNION ALL
    SELECT
        'pg_class'::regclass, relations.oid, attnum, NULL, 'setting', format('%s of column %s.%I', setting.name, relations.name, attname),
        relations.name, 2, format('ALTER TABLE %s ALTER COLUMN %I SET %s', relations.name, attname, setting.clause), NULL, NULL, NULL
    FROM relations
    JOIN pg_attribute ON attrelid = relations.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type ON pg_type.oid = atttypid
    CROSS JOIN LATERAL (
        VALUES
            ('storage', CASE WHEN attstorage <> typstorage THEN 'STORAGE ' || CASE attstorage
                WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
            ('statistics', CASE WHEN attstattarget >= 0 THEN 'STATISTICS ' || attstattarget END),
            ('options', CASE WHEN attoptions IS NOT NULL THEN format('(%s)', array_to_string(attoptions, ', ')) END)
    ) AS setting (name, clause)
    WHERE relkind IN ('r', 'p') AND NOT is_partition AND setting.clause IS NOT NULL

    UNION ALL
    SELECT
        'pg_class'::regclass, oid, 0, NULL, 'setting', format('%s row level security of %s', lower(word.word), name), name, 3,
        format('ALTER TABLE %s %s ROW LEVEL SECURITY', name, word.word), NULL, NULL, NULL
    FROM relations
    CROSS JOIN LATERAL (
        VALUES (CASE WHEN relrowsecurity THEN 'ENABLE' END), (CASE WHEN relforcerowsecurity THEN 'FORCE' END)
    ) AS word (word)
    WHERE word.word IS NOT NULL

    UNION ALL
    SELECT
        'pg_class'::regclass, oid, 0, NULL, 'setting', format('replica identity of %s', name), name, 15,
        format('ALTER TABLE %s REPLICA IDENTITY ', name) || CASE relreplident
            WHEN 'f' THEN 'FULL'
            WHEN 'n' THEN 'NOTHING'
            ELSE (
                SELECT format('USING INDEX %I', relname)
                FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
                WHERE indrelid = relations.oid AND indisreplident
            )
        END,
        NULL, NULL, NULL
    FROM relations
    WHERE relkind IN ('r', 'p') AND relreplident <> 'd'

    UNION ALL
    SELECT
        'pg_constraint'::regclass, pg_constraint.oid, 0, format('CONSTRAINT %I ON %s', conname, relations.name),
        CASE contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END, format('%s.%I', relations.name, conname), relations.name,
        2000 * position(contype IN 'puxcf'),
        format('CONSTRAINT %I %s', conname, pg_get_constraintdef(pg_constraint.oid, true)), NULL, NULL, NULL
    FROM pg_constraint
    JOIN relations ON relations.oid = conrelid
    WHERE contype IN ('p', 'u', 'x', 'c', 'f') AND conparentid = 0 AND coninhcount = 0

    UNION ALL
    SELECT
        'pg_constraint'::regclass, pg_constraint.oid, 0, format('CONSTRAINT %I ON DOMAIN %s', conname, types.name),
        'constraint', format('%s.%I', types.name, conname), types.name, 0,
        format('CONSTRAINT %I %s', conname, pg_get_constraintdef(pg_constraint.oid, true)), NULL, NULL, NULL
    FROM pg_constraint
    JOIN types ON types.oid = contypid
    WHERE contype = 'c'

    UNION ALL
    SELECT
        'pg_class'::regclass, indexrelid, 0, format('INDEX %s', name), 'index', name, table_name, 10,
        -- Of a partitioned table it says ON ONLY, as if its partitions had none.
        regexp_replace(pg_get_indexdef(indexrelid), '(^CREATE (UNIQUE )?INDEX .*? ON) ONLY ', '\1 '), NULL, NULL, NULL
    FROM indexes

    UNION ALL
    SELECT
        'pg_proc'::regclass, pg_proc.oid, 0,
        CASE prokind WHEN 'p' THEN 'PROCEDURE ' WHEN 'a' THEN 'AGGREGATE ' ELSE 'FUNCTION ' END || pg_proc.oid::regprocedure::text,
        CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'other' ELSE 'function' END,
        CASE prokind WHEN 'a' THEN 'aggregate ' ELSE '' END || pg_proc.oid::regprocedure::text, '', 0,
        CASE WHEN prokind <> 'a' THEN rtrim(pg_get_functiondef(pg_proc.oid), E'\n') ELSE '' END, proowner, proacl, 'f'
    FROM pg_proc
    JOIN rooms ON rooms.oid = pronamespace
    WHERE ('pg_proc'::regclass, pg_proc.oid) NOT IN (SELECT classid, objid FROM members)
        -- A range type brings its own constructors.
        AND NOT EXISTS (
            SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'i'
        )

    UNION ALL
    SELECT
        'pg_trigger'::regclass, pg_trigger.oid, 0, format('TRIGGER %I ON %s', tgname, relations.name), 'trigger',
        format('%s.%I', relations.name, tgname), relations.name, 20, pg_get_triggerdef(pg_trigger.oid, true), NULL, NULL, NULL
    FROM pg_trigger
    JOIN relations ON relations.oid = tgrelid
    WHERE NOT tgisinternal AND tgparentid = 0

    UNION ALL
    SELECT
        'pg_trigger'::regclass, pg_trigger.oid, 0, NULL, 'setting', format('when trigger %I of %s fires', tgname, relations.name),
        relations.name, 21,
        format('ALTER TABLE %s %s TRIGGER %I', relations.name, CASE tgenabled
            WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, tgname),
        NULL, NULL, NULL
    FROM pg_trigger
    JOIN relations ON relations.oid = tgrelid
    WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled <> 'O'

    UNION ALL
    SELECT
        'pg_rewrite'::regclass, pg_rewrite.oid, 0, format('RULE %I ON %s', rulename, relations.name), 'rule',
        format('%s.%I', relations.name, rulename), relations.name, 30, rtrim(pg_get_ruledef(pg_rewrite.oid, true), ';'),
        NULL, NULL, NULL
    FROM pg_rewrite
    JOIN relations ON relations.oid = ev_class
    WHERE rulename <> '_RETURN'

    UNION ALL
    SELECT
        'pg_policy'::regclass, pg_policy.oid, 0, format('POLICY %I ON %s', polname, relations.name), 'policy',
        format('%s.%I', relations.name, polname), relations.name, 31,
        concat_ws(
            ' ',
            format('CREATE POLICY %I ON %s', polname, relations.name),
            CASE WHEN NOT polpermissive THEN 'AS RESTRICTIVE' END,
            'FOR ' || CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
            'TO ' || (
                SELECT string_agg(named.role, ', ' ORDER BY named.role COLLATE "C")
                FROM unnest(polroles) AS role
                CROSS JOIN LATERAL (SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END) AS named (role)
            ),
            format('USING (%s)', pg_get_expr(polqual, polrelid, true)),
            'WITH CHECK (' || pg_get_expr(polwithcheck, polrelid, true) || ')'
        ),
        NULL, NULL, NULL
    FROM pg_policy
    JOIN relations ON relations.oid = polrelid

    UNION ALL
    SELECT
        'pg_statistic_ext'::regclass, pg_statistic_ext.oid, 0, format('STATISTICS %I.%I', nspname, stxname), 'statistics',
        format('%I.%I', nspname, stxname), relations.name, 11, pg_get_statisticsobjdef(pg_statistic_ext.oid), NULL, NULL, NULL
    FROM pg_statistic_ext
    JOIN rooms ON rooms.oid = stxnamespace
    JOIN relations ON relations.oid = stxrelid

    UNION ALL
    SELECT class, rare.oid, 0, NULL, 'other', described.type || ' ' || described.identity, '', 0, '', NULL, NULL, NULL
    FROM (
        SELECT 'pg_operator'::regclass AS class, oid, oprnamespace AS room FROM pg_operator
        UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace FROM pg_opclass
        UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace FROM pg_opfamily
        UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace FROM pg_collation
        UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion
        UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict
        UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace FROM pg_ts_parser
        UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace FROM pg_ts_template
        UNION ALL SELECT 'pg_class'::regclass, oid, relnamespace FROM pg_class WHERE relkind = 'f'
        UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type WHERE typtype = 'b' AND typelem = 0
        UNION ALL SELECT 'pg_cast'::regclass, oid, NULL FROM pg_cast
        UNION ALL SELECT 'pg_event_trigger'::regclass, oid, NULL FROM pg_event_trigger
        UNION ALL SELECT 'pg_publication'::regclass, oid, NULL FROM pg_publication
        UNION ALL SELECT 'pg_foreign_server'::regclass, oid, NULL FROM pg_foreign_server
        UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, NULL FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'pg_language'::regclass, oid, NULL FROM pg_language
        UNION ALL SELECT 'pg_am'::regclass, oid, NULL FROM pg_am
        UNION ALL SELECT 'pg_transform'::regclass, oid, NULL FROM pg_transform
    ) AS rare
    CROSS JOIN LATERAL pg_identify_object(rare.class, rare.oid, 0) AS described
    WHERE (room IN (SELECT oid FROM rooms) OR (room IS NULL AND rare.oid >= 16384))  -- from there on, users make the numbers
        AND (rare.class, rare.oid) NOT IN (SELECT classid, objid FROM members)
),
allowed AS (
    -- What differs from what PostgreSQL allows by itself: on functions and types, everything to everybody.
    SELECT things.class, things.oid, things.part, things.target, things.name, things.part_of, given.*
    FROM things
    CROSS JOIN LATERAL (
        SELECT 'grant' AS kind, grantee, privilege_type, is_grantable
        FROM aclexplode(things.acl) WHERE grantee <> things.owner
        EXCEPT
        SELECT 'grant', grantee, privilege_type, is_grantable
        FROM aclexplode(acldefault(things.acl_type, things.owner)) WHERE grantee <> things.owner
        UNION ALL
        (
            SELECT 'revoke', grantee, privilege_type, is_grantable
            FROM aclexplode(acldefault(things.acl_type, things.owner)) WHERE grantee <> things.owner AND things.acl IS NOT NULL
            EXCEPT
            SELECT 'revoke', grantee, privilege_type, is_grantable
            FROM aclexplode(things.acl) WHERE grantee <> things.owner
        )
    ) AS given
),
said AS (
    SELECT
        kind, COALESCE(NULLIF(part_of, ''), name) AS part_of,
        CASE WHEN part > 0 THEN 'TABLE ' || part_of ELSE regexp_replace(target, '^(MATERIALIZED )?VIEW ', 'TABLE ') END
            || CASE kind WHEN 'grant' THEN ' TO ' ELSE ' FROM ' END
            || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
            || CASE WHEN is_grantable AND kind = 'grant' THEN ' WITH GRANT OPTION' ELSE '' END AS name,
        privilege_type || CASE WHEN part > 0 THEN format(' (%s)', substr(name, length(part_of) + 2)) ELSE '' END AS privilege
    FROM allowed
    WHERE target IS NOT NULL
)
SELECT kind, name, part_of, place, definition FROM things WHERE kind <> ''
UNION ALL
SELECT
    'comment', target, CASE part_of WHEN '' THEN name ELSE part_of END, 100 + place,
    ltrim(quote_literal(description))
FROM things
JOIN pg_description ON classoid = class AND objoid = oid AND objsubid = part
WHERE target IS NOT NULL
UNION ALL
SELECT kind, name, part_of, 10000, string_agg(DISTINCT privilege COLLATE "C", ', ' ORDER BY privilege COLLATE "C")
FROM said
GROUP BY kind, name, part_of
UNION ALL
SELECT
    'default privileges',
    concat_ws(
        ' ', 'IN SCHEMA ' || NULLIF(defaclnamespace, 0)::regnamespace::text, word, 'ON', CASE defaclobjtype
            WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END,
        CASE word WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
        CASE WHEN is_grantable AND word = 'GRANT' THEN 'WITH GRANT OPTION' END
    ),
    '', 0, string_agg(privilege_type, ', ' ORDER BY privilege_type COLLATE "C")
FROM pg_default_acl
CROSS JOIN LATERAL (
    SELECT 'GRANT' AS word, grantee, privilege_type, is_grantable FROM aclexplode(defaclacl)
    WHERE defaclnamespace <> 0 OR (grantee, privilege_type) NOT IN (
        SELECT grantee, privilege_type FROM aclexplode(acldefault(lower(defaclobjtype::text)::"char", defaclrole))
    )
    UNION ALL
    SELECT 'REVOKE', grantee, privilege_type, is_grantable
    FROM aclexplode(acldefault(CASE defaclobjtype WHEN 'S' THEN 's' ELSE defaclobjtype END, defaclrole))
    WHERE defaclnamespace = 0 AND (grantee, privilege_type) NOT IN (SELECT grantee, privilege_type FROM aclexplode(defaclacl))
) AS given
GROUP BY defaclnamespace, word, defaclobjtype, grantee, is_grantable
ORDER BY 1, 2, 3, 4, 5;

-- name: schema_dependencies()
-- Which object needs which other to be there first; names are those of schema_objects(). Foreign keys are no reason: they come last.
WITH owners AS (
    -- What an object of a catalog is a part of: an index of its table, a rule of its view, a row type of its relation.
    SELECT 'pg_class'::regclass AS class, pg_class.oid, COALESCE(pg_index.indrelid::regclass, pg_class.oid::regclass)::text AS name
    FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
    WHERE relkind <> 'c'
    UNION ALL
    SELECT 'pg_class'::regclass, oid, reltype::regtype::text FROM pg_class WHERE relkind = 'c'
    UNION ALL
    SELECT
        'pg_type'::regclass, pg_type.oid,
        COALESCE(
            (SELECT NULLIF(pg_type.typrelid, 0)::regclass::text FROM pg_class WHERE pg_class.oid = pg_type.typrelid AND relkind <> 'c'),
            (SELECT rngtypid::regtype::text FROM pg_range WHERE rngmultitypid = pg_type.oid),
            CASE WHEN pg_type.typelem <> 0 THEN (
                SELECT COALESCE(pg_class.oid::regclass::text, element.oid::regtype::text)
                FROM pg_type AS element LEFT JOIN pg_class ON pg_class.oid = element.typrelid AND relkind <> 'c'
                WHERE element.oid = pg_type.typelem
            ) END,
            pg_type.oid::regtype::text
        )
    FROM pg_type
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, oid::regprocedure::text FROM pg_proc
    UNION ALL
    SELECT
        'pg_constraint'::regclass, oid,
        COALESCE(NULLIF(conrelid, 0)::regclass::text, NULLIF(contypid, 0)::regtype::text)
    FROM pg_constraint
    WHERE contype <> 'f'
    UNION ALL
    SELECT 'pg_attrdef'::regclass, oid, adrelid::regclass::text FROM pg_attrdef
    UNION ALL
    SELECT 'pg_rewrite'::regclass, oid, ev_class::regclass::text FROM pg_rewrite
    UNION ALL
    SELECT 'pg_trigger'::regclass, oid, tgrelid::regclass::text FROM pg_trigger
    UNION ALL
    SELECT 'pg_policy'::regclass, oid, polrelid::regclass::text FROM pg_policy
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, stxrelid::regclass::text FROM pg_statistic_ext
)
SELECT DISTINCT owners.name, needed.name AS needs
FROM pg_depend
JOIN owners ON owners.class = classid AND owners.oid = objid
JOIN owners AS needed ON needed.class = refclassid AND needed.oid = refobjid
WHERE owners.name <> needed.name
    AND refobjid >= 16384  -- what PostgreSQL brings along is there
    AND (
        deptype = 'n'
        OR (deptype = 'a' AND classid = 'pg_class'::regclass AND (SELECT relispartition FROM pg_class WHERE pg_class.oid = objid))
    )
ORDER BY 1, 2;

-- name: schema_faults()
-- What is there and does not do its work: indexes that no plan uses, constraints that old rows may break; run plain_session() before.
--
-- kind and name are those of schema_objects(), also for what a partition has; problem says what is wrong.
-- @column name not null: identities of existing objects
SELECT
    'index' AS kind, indexrelid::regclass::text AS name,
    CASE
        WHEN relkind = 'I' THEN 'not every partition has its part of it, so it is not valid'
        WHEN indisready THEN 'it is not valid: a CREATE or REINDEX CONCURRENTLY failed, or is at work; writes pay for it, no read uses it'
        ELSE 'it is not valid: a CREATE or DROP INDEX CONCURRENTLY failed, or is at work'
    END AS problem
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE NOT (indisvalid AND indisready AND indislive) AND nspname !~ '^pg_'
UNION ALL
SELECT
    CASE contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END,
    format('%s.%I', COALESCE(NULLIF(conrelid, 0)::regclass::text, contypid::regtype::text), conname),
    'it is NOT VALID: new rows are held to it, rows from before may break it'
FROM pg_constraint
JOIN pg_namespace ON pg_namespace.oid = connamespace
WHERE NOT convalidated AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND contype IN ('c', 'f', 'n')
ORDER BY 1, 2;
