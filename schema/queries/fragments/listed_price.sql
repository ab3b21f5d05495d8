-- listed_price: condition that selects calls whose prices come from a list or the provider, not by hand. Prices and
--               costs without a source count as given by hand, because legacy tables have no column for the source.
-- Needs:  rows of llm_interactions.
(
    price_source = 'provider' OR price_source LIKE 'yaml:%%' OR price_source LIKE 'genai-prices:%%'
    OR price_source LIKE 'supplement:%%'
    OR (price_source IS NULL AND num_nonnulls(prompt_token_price, completion_token_price, total_cost) = 0)
)
