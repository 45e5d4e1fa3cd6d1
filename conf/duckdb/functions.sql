-- What Athena's SQL has and DuckDB has not, or has with another meaning, so that
-- the same queries run in both. None of it touches rows.
SET TimeZone = 'UTC';
-- Of a map the value, of a list the element, from its end where negative.
CREATE OR REPLACE MACRO element_at(c, k) AS c[k];
CREATE OR REPLACE MACRO array_join(list, separator) AS array_to_string(list, separator);
CREATE OR REPLACE MACRO regexp_like(s, pattern) AS regexp_matches(s, pattern);
-- Whole units between two times, not boundaries that were crossed.
CREATE OR REPLACE MACRO date_diff(unit, a, b) AS date_sub(unit, a, b);
-- NULL for what is no JSON, not an error.
CREATE OR REPLACE MACRO json_extract_scalar(j, path) AS json_extract_path_text(TRY_CAST(j AS json), path);
CREATE OR REPLACE MACRO json_extract(j, path) AS json_extract_path(TRY_CAST(j AS json), path);
CREATE OR REPLACE MACRO json_format(j) AS CAST(j AS varchar);
