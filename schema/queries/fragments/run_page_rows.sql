-- run_page_rows: the rows of a page of runs, without their order.
-- Needs:  CTE page: rows of query_run_summaries with state and key.
SELECT
    p.query_id, p.run_id, p.start_time, p.end_time, p.status, p.state,
    extract(epoch FROM p.end_time - p.start_time)::double precision * 1000 AS duration_ms,
    -- include: fragments/run_figure_columns.sql,
    p.metadata, p.tags, p.success, p.score, p.outcome_label, p.key
-- include: fragments/run_page_savings.sql
