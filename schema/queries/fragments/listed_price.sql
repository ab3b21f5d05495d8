-- listed_price: condition that selects calls whose prices come from a list or the provider, not by hand.
-- Needs:  rows of llm_interactions.
(price_source IS NULL OR price_source = 'provider' OR price_source LIKE 'yaml:%%' OR price_source LIKE 'genai-prices:%%')
