DROP TABLE catalog.stations;
DROP TABLE catalog.markets;
DROP TABLE catalog.events;
DROP TABLE catalog.series;
DROP TABLE catalog.platforms;
