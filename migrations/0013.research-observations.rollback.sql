DROP TABLE research.market_analyses;
DROP VIEW research.current_game_states;
DROP TABLE research.game_states;
DROP VIEW research.current_edges;
DROP TABLE research.edges;
