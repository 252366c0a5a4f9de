DROP TABLE ops.backfill_checkpoints;
DROP TABLE ops.rejected_payloads;
DROP TABLE ops.ingest_runs;
