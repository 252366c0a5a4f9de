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

-- name: upsert_platform(platform_id, platform_type, display_name, base_url, websocket_url, api_version, auth_method, fees_structure, status)^
-- Writes a venue as it is now, and returns it; updated_at moves only when something changed.
-- @one
-- @param base_url nullable: it may have no API
-- @param websocket_url nullable: it may stream nothing
-- @param api_version nullable: it may not say
-- @param auth_method nullable: it may need none
-- @param fees_structure nullable: unknown
INSERT INTO catalog.platforms AS stored (
    platform_id, platform_type, display_name, base_url, websocket_url, api_version, auth_method, fees_structure, status, created_at,
    updated_at
)
VALUES (
    :platform_id, :platform_type, :display_name, :base_url, :websocket_url, :api_version, :auth_method, :fees_structure, :status,
    statement_timestamp(), statement_timestamp()
)
ON CONFLICT (platform_id) DO UPDATE SET
    platform_type = EXCLUDED.platform_type,
    display_name = EXCLUDED.display_name,
    base_url = EXCLUDED.base_url,
    websocket_url = EXCLUDED.websocket_url,
    api_version = EXCLUDED.api_version,
    auth_method = EXCLUDED.auth_method,
    fees_structure = EXCLUDED.fees_structure,
    status = EXCLUDED.status,
    updated_at = CASE
        WHEN (
            stored.platform_type, stored.display_name, stored.base_url, stored.websocket_url, stored.api_version, stored.auth_method,
            stored.fees_structure, stored.status
        ) IS DISTINCT FROM (
            EXCLUDED.platform_type, EXCLUDED.display_name, EXCLUDED.base_url, EXCLUDED.websocket_url, EXCLUDED.api_version,
            EXCLUDED.auth_method, EXCLUDED.fees_structure, EXCLUDED.status
        ) THEN EXCLUDED.updated_at
        ELSE stored.updated_at
    END
RETURNING *;
