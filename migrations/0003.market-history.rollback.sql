DROP TABLE catalog.market_lifecycle;
DROP VIEW catalog.final_settlements;
DROP TABLE catalog.settlements;
DROP VIEW catalog.current_markets;
DROP TABLE catalog.market_versions;
