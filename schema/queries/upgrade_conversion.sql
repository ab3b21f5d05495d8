-- upgrade_conversion: Return the statement that converts a column to the type that this library needs.
-- Parameters: "table", "column" TEXT; found TEXT: its type as format_type returns it; wanted TEXT: name of the type needed.
-- Result:     one row: statement TEXT. No row if the conversion depends on the contents of the column.
SELECT
    format(
        'ALTER TABLE %%I ALTER COLUMN %%I TYPE %%s USING %%s',
        %(table)s::text, %(column)s::text, c.type, format(c.expression, %(column)s::text)
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
) AS c (wanted, found, type, expression)
WHERE c.wanted = %(wanted)s::text AND c.found = %(found)s::text;
