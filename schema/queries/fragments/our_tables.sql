-- our_tables: the tables of this library, NULL for one that does not exist.
to_regclass('llm_interactions'), to_regclass('token_cache_optimization'), to_regclass('query_run_summaries'),
to_regclass('price_changes'), to_regclass('price_change_rows'), to_regclass('price_change_runs'),
to_regclass('budgets'), to_regclass('alert_states'), to_regclass('price_lists'), to_regclass('rlm_cachetrack_migrations')
