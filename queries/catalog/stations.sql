-- Weather stations.

-- name: upsert_stations()^
-- Writes stations; a station that occurs twice in the input is written once, the last one wins.
-- @bulk staged_stations like catalog.stations without created_at, updated_at
-- @one
WITH newest AS (
    SELECT DISTINCT ON (station_id) *
    FROM staged_stations
    ORDER BY station_id, staged_position DESC
),
written AS (
    INSERT INTO catalog.stations AS stored (
        station_id, name, latitude, longitude, elevation, timezone, series_tickers, created_at, updated_at
    )
    SELECT station_id, name, latitude, longitude, elevation, timezone, series_tickers, statement_timestamp(), statement_timestamp()
    FROM newest
    ORDER BY station_id
    ON CONFLICT (station_id) DO UPDATE SET
        name = EXCLUDED.name,
        latitude = EXCLUDED.latitude,
        longitude = EXCLUDED.longitude,
        elevation = EXCLUDED.elevation,
        timezone = EXCLUDED.timezone,
        series_tickers = EXCLUDED.series_tickers,
        updated_at = EXCLUDED.updated_at
    WHERE (stored.name, stored.latitude, stored.longitude, stored.elevation, stored.timezone, stored.series_tickers)
        IS DISTINCT FROM
        (EXCLUDED.name, EXCLUDED.latitude, EXCLUDED.longitude, EXCLUDED.elevation, EXCLUDED.timezone, EXCLUDED.series_tickers)
    RETURNING created_at = statement_timestamp() AS is_inserted
)
SELECT
    count(*) FILTER (WHERE is_inserted) AS inserted,
    count(*) FILTER (WHERE NOT is_inserted) AS updated
FROM written;

-- name: station_by_id(station_id)^
-- One station, or None when we do not know it.
SELECT *
FROM catalog.stations
WHERE station_id = :station_id;

-- name: all_stations()
-- Every station we know, by id.
-- @plan there are a few hundred stations
SELECT *
FROM catalog.stations
ORDER BY station_id;
