-- A long message of ours goes in several parts, and each has an id of its own at the provider.

-- What has gone of the messages that need several. Like the outbox: not projected, not in the log.
CREATE TABLE message_part (
    organisation_id uuid NOT NULL,
    message         uuid NOT NULL,
    part            integer NOT NULL CHECK (part >= 1),
    parts           integer NOT NULL,
    account         text NOT NULL,
    external_id     text NOT NULL CHECK (external_id <> ''),
    chars           integer NOT NULL CHECK (chars >= 0),    -- of the message's text, gone with it and those before it
    files           integer NOT NULL CHECK (files >= 0),    -- of its files
    at              timestamptz NOT NULL,
    status          text NOT NULL DEFAULT 'sent' CHECK (status IN ('sent', 'delivered', 'read')),
    PRIMARY KEY (organisation_id, message, part),
    FOREIGN KEY (organisation_id, message) REFERENCES message (organisation_id, id),
    CONSTRAINT one_of_several CHECK (parts >= 2 AND part <= parts)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX one_part_of_an_external_id ON message_part (organisation_id, account, external_id);

-- Of a message that did not go whole, the last part that did.
CREATE OR REPLACE VIEW message_told AS
SELECT m.*, t.channel, coalesce(d.text, '') AS text, coalesce(d.html, '') AS html, coalesce(d.subject, '') AS subject,
    coalesce(d.buttons, '[]'::jsonb) AS buttons, coalesce(d.extra, '{}'::jsonb) AS extra, coalesce(d.detail, '') AS detail,
    coalesce(d.reaction, '') AS reaction, coalesce(d.payload, '') AS payload,
    coalesce(p.part, 0) AS part, coalesce(p.parts, 0) AS parts, coalesce(p.chars, 0) AS gone_chars,
    coalesce(p.files, 0) AS gone_files
FROM message m
JOIN thread t ON t.organisation_id = m.organisation_id AND t.id = m.thread
LEFT JOIN message_data d ON d.organisation_id = m.organisation_id AND d.message = m.id
LEFT JOIN LATERAL (
    SELECT part, parts, chars, files FROM message_part
    WHERE organisation_id = m.organisation_id AND message = m.id AND m.status IN ('failed', 'perhaps')
    ORDER BY part DESC LIMIT 1
) p ON true;
