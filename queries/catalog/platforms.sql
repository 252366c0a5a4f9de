-- Venues and data sources.

-- name: platform_by_id(platform_id)^
-- One venue, or None when we do not know it.
SELECT *
FROM catalog.platforms
WHERE platform_id = :platform_id;

-- name: all_platforms()
-- Every venue we know, by name.
-- @plan there are a handful of venues
SELECT *
FROM catalog.platforms
ORDER BY platform_id;
