-- 0006 budgets: what may be spent, so that `budget check` can fail a build before the invoice does.
-- Why:   a budget belongs to the data it is about, not to one machine.
-- Lock:  none on existing data.
--
-- period: day, week (from Monday) or month, in UTC. model: NULL for all models.

CREATE TABLE budgets (
    name       TEXT             PRIMARY KEY,
    amount_usd DOUBLE PRECISION NOT NULL CHECK (amount_usd > 0),
    period     TEXT             NOT NULL CHECK (period IN ('day', 'week', 'month')),
    model      TEXT,
    changed_at TIMESTAMPTZ      NOT NULL DEFAULT now()
);
