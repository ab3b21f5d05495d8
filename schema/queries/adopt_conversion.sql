-- adopt_conversion: the statement by which a column of another type becomes one that fits, where its values are such.
-- Parameters: "table", "column", found, wanted TEXT: its type, as format_type says it, and the name of the one that fits.
-- Result:     one row: statement TEXT; none where it cannot be said without knowing what is in the column.
SELECT
    format(
        'ALTER TABLE %%I ALTER COLUMN %%I TYPE %%s USING %%s',
        %(table)s::text, %(column)s::text, c.becomes, format(c.made_by, %(column)s::text)
    ) AS statement
FROM (
    VALUES
        ('timestamptz', 'timestamp without time zone', 'TIMESTAMPTZ', '%%I AT TIME ZONE ''UTC'''),
        ('timestamptz', 'date', 'TIMESTAMPTZ', '%%I::timestamp AT TIME ZONE ''UTC'''),
        ('timestamptz', 'text', 'TIMESTAMPTZ', '%%I::timestamptz'),
        ('timestamptz', 'character varying', 'TIMESTAMPTZ', '%%I::timestamptz'),
        ('uuid', 'text', 'UUID', '%%I::uuid'),
        ('uuid', 'character varying', 'UUID', '%%I::uuid'),
        ('uuid', 'character', 'UUID', '%%I::uuid'),
        ('int4', 'text', 'INTEGER', '%%I::integer'),
        ('int4', 'character varying', 'INTEGER', '%%I::integer'),
        ('float8', 'text', 'DOUBLE PRECISION', '%%I::double precision'),
        ('jsonb', 'text', 'JSONB', '%%I::jsonb'),
        ('bool', 'integer', 'BOOLEAN', '%%I <> 0')
) AS c (wanted, found, becomes, made_by)
WHERE c.wanted = %(wanted)s::text AND c.found = %(found)s::text;
