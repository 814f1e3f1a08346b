-- What admins write keeps the order they wrote it in: jsonb sorts the keys, json keeps the text.

ALTER TABLE site ALTER COLUMN document TYPE json;
ALTER TABLE tree ALTER COLUMN document TYPE json;
