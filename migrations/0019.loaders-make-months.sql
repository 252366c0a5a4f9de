-- Loaders that do not own the tables can make the months they need.
--
-- Why: attaching a partition is the owner's right, so until now every loader had to be the owner, who may also delete. The function
-- that makes months runs as its owner from now on, and only roles that are told so may call it (docs/for-dbas.md, Roles). It was
-- written for that: its search_path is fixed and it quotes what it puts together.
-- Locks: none on tables. Safe while an application runs, if that runs as the owner; grant EXECUTE to other loaders at once.
-- Undo: loaders must be the owner again; nothing is lost.
-- depends: 0018.version-recorders

ALTER FUNCTION market_data.create_month_partitions(regclass, timestamptz[]) SECURITY DEFINER;
REVOKE EXECUTE ON FUNCTION market_data.create_month_partitions(regclass, timestamptz[]) FROM PUBLIC;
