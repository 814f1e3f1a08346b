-- The inbox: one row for each case that is not merged into another, kept by triggers like an index on the state tables.
-- Nothing decides on it, and it can be made anew at any time (refresh_inbox, refresh_inbox_words).

CREATE TABLE inbox (
    organisation_id uuid NOT NULL,
    case_id         uuid NOT NULL,
    state           text NOT NULL,      -- of the case
    tags            jsonb NOT NULL,
    channels        text[] NOT NULL,
    interaction     uuid,               -- the live one, else the last
    queue           text,               -- its
    advisor         text,               -- its; of a live call only once it has ended
    last_at         timestamptz NOT NULL,
    last_message    uuid,
    unanswered_since timestamptz,       -- the first message after the last human word; in a tree, after any word of ours
    PRIMARY KEY (organisation_id, case_id)
) WITH (fillfactor = 80);
CREATE INDEX inbox_by_word ON inbox (organisation_id, last_at DESC, case_id DESC);
CREATE INDEX inbox_unanswered ON inbox (organisation_id, unanswered_since) WHERE unanswered_since IS NOT NULL;
CREATE INDEX inbox_by_tag ON inbox USING gin (tags);

-- Every word that was written in a case: personal data, erased with its messages.
CREATE TABLE inbox_data (
    organisation_id uuid NOT NULL,
    case_id         uuid NOT NULL,
    words           tsvector NOT NULL,
    PRIMARY KEY (organisation_id, case_id)
);
CREATE INDEX inbox_by_words ON inbox_data USING gin (words);

DROP INDEX message_by_words;            -- a search is for a case, which may hold its words in several messages
CREATE AGGREGATE all_words (tsvector) (SFUNC = tsvector_concat, STYPE = tsvector, INITCOND = '');

CREATE INDEX contact_by_words ON contact_data USING gin (to_tsvector('simple', sort_name));
CREATE INDEX address_by_start ON address_data (organisation_id, value text_pattern_ops);

-- What figures of an interval are read by.
CREATE INDEX interaction_by_opening ON interaction (organisation_id, opened_at);
CREATE INDEX interaction_by_end ON interaction (organisation_id, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX message_by_time ON message (organisation_id, at);

-- Each case is looked at by itself (LATERAL): its cost is then the same in a small and in a large table, and a plan that
-- was made while the tables were empty stays good.
CREATE FUNCTION refresh_inbox(organisation uuid, cases uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM inbox b WHERE b.organisation_id = organisation AND b.case_id = ANY (ARRAY(
        SELECT c.id FROM case_file c
        WHERE c.organisation_id = organisation AND c.id = ANY (cases) AND c.merged_into IS NOT NULL));
    INSERT INTO inbox AS b (organisation_id, case_id, state, tags, channels, interaction, queue, advisor, last_at,
        last_message, unanswered_since)
    SELECT organisation, root.id, root.state, root.tags, coalesce(heard.channels, '{}'), shown.id, shown.queue,
        shown.advisor, greatest(root.opened_at, heard.last_at, last.at), last.id, heard.unanswered_since
    FROM (
        SELECT DISTINCT CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case(organisation, c.id) END AS id
        FROM case_file c WHERE c.organisation_id = organisation AND c.id = ANY (cases)
    ) AS survivor
    CROSS JOIN LATERAL (
        SELECT c.id, c.state, c.tags, c.opened_at, CASE
            WHEN EXISTS (SELECT FROM case_file m WHERE m.organisation_id = organisation AND m.merged_into = c.id)
            THEN ARRAY(SELECT cases_in(organisation, c.id)) ELSE ARRAY[c.id] END AS members
        FROM case_file c WHERE c.organisation_id = organisation AND c.id = survivor.id OFFSET 0
    ) AS root
    CROSS JOIN LATERAL (
        SELECT array_agg(DISTINCT i.channel ORDER BY i.channel) AS channels, max(i.opened_at) AS last_at,
            min(CASE WHEN i.ended_at IS NULL AND i.thread IS NOT NULL THEN (
                SELECT m.at FROM message m
                WHERE m.organisation_id = organisation AND m.interaction = i.id AND m.direction = 'in'
                    AND NOT m.automatic AND NOT m.standby
                    AND m.seq > coalesce((
                        SELECT o.seq FROM message o
                        WHERE o.organisation_id = organisation AND o.interaction = i.id AND o.direction = 'out'
                            AND o.status NOT IN ('failed', 'dropped')
                            AND (i.state IN ('opened', 'qualifying')
                                OR o.author IN ('advisor', 'elsewhere') AND NOT o.automatic)
                        ORDER BY o.seq DESC LIMIT 1), 0)
                ORDER BY m.seq LIMIT 1)
            END) AS unanswered_since
        FROM interaction i WHERE i.organisation_id = organisation AND i.case_id = ANY (root.members)
    ) AS heard
    LEFT JOIN LATERAL (
        SELECT i.id, i.queue, i.advisor FROM interaction i
        WHERE i.organisation_id = organisation AND i.case_id = ANY (root.members)
        ORDER BY i.ended_at IS NULL DESC, i.opened_at DESC, i.id DESC LIMIT 1
    ) AS shown ON true
    LEFT JOIN LATERAL (
        SELECT m.id, m.at FROM unnest(root.members) AS member (id) CROSS JOIN LATERAL (
            SELECT m.id, m.at, m.seq FROM message m
            WHERE m.organisation_id = organisation AND m.case_id = member.id ORDER BY m.seq DESC LIMIT 1
        ) AS m
        ORDER BY m.seq DESC LIMIT 1
    ) AS last ON true
    ON CONFLICT (organisation_id, case_id) DO UPDATE SET
        state = excluded.state,
        tags = excluded.tags,
        channels = excluded.channels,
        interaction = excluded.interaction,
        queue = excluded.queue,
        advisor = excluded.advisor,
        last_at = excluded.last_at,
        last_message = excluded.last_message,
        unanswered_since = excluded.unanswered_since;
END $$;

CREATE FUNCTION refresh_inbox_words(organisation uuid, cases uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM inbox_data b USING case_file c
    WHERE b.organisation_id = organisation AND b.case_id = ANY (cases)
        AND c.organisation_id = organisation AND c.id = b.case_id AND c.merged_into IS NOT NULL;
    INSERT INTO inbox_data AS b (organisation_id, case_id, words)
    SELECT organisation, root.id, (
        SELECT all_words(strip(d.found_by)) FROM cases_in(organisation, root.id) AS of_it (id)
        JOIN message m ON m.organisation_id = organisation AND m.case_id = of_it.id
        JOIN message_data d ON d.organisation_id = organisation AND d.message = m.id)
    FROM (SELECT DISTINCT surviving_case(organisation, one) AS id FROM unnest(cases) AS one) root
    WHERE root.id IS NOT NULL
    ON CONFLICT (organisation_id, case_id) DO UPDATE SET words = excluded.words;
END $$;

CREATE FUNCTION tell_inbox_of_cases() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told record;
BEGIN
    FOR told IN
        SELECT n.organisation_id, n.merged_into IS DISTINCT FROM o.merged_into AS merged,
            array_agg(n.id) || array_remove(array_agg(o.merged_into) || array_agg(n.merged_into), NULL) AS cases
        FROM fresh n JOIN stale o ON o.organisation_id = n.organisation_id AND o.id = n.id
        WHERE o.state <> n.state OR o.tags <> n.tags OR o.merged_into IS DISTINCT FROM n.merged_into GROUP BY 1, 2
    LOOP
        PERFORM refresh_inbox(told.organisation_id, told.cases);
        IF told.merged THEN
            PERFORM refresh_inbox_words(told.organisation_id, told.cases);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_case_changed AFTER UPDATE ON case_file REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_cases();

CREATE FUNCTION tell_inbox_of_new_cases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO inbox (organisation_id, case_id, state, tags, channels, last_at)
    SELECT n.organisation_id, n.id, n.state, n.tags, '{}', n.opened_at FROM fresh n
    WHERE n.merged_into IS NULL ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_case_opened AFTER INSERT ON case_file REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_new_cases();

CREATE FUNCTION tell_inbox_of_fresh() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_inbox(n.organisation_id, array_agg(DISTINCT n.case_id)) FROM fresh n GROUP BY n.organisation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_interaction_opened AFTER INSERT ON interaction REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_fresh();
CREATE TRIGGER inbox_message_came AFTER INSERT ON message REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_fresh();

CREATE FUNCTION tell_inbox_of_interactions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_inbox(n.organisation_id, array_agg(DISTINCT moved.id))
    FROM fresh n JOIN stale o ON o.organisation_id = n.organisation_id AND o.id = n.id
    CROSS JOIN LATERAL (VALUES (n.case_id), (o.case_id)) AS moved (id)
    WHERE o.case_id <> n.case_id OR o.queue IS DISTINCT FROM n.queue OR (o.ended_at IS NULL) <> (n.ended_at IS NULL)
        OR n.thread IS NOT NULL AND (
            o.advisor IS DISTINCT FROM n.advisor
            OR (o.state IN ('opened', 'qualifying')) <> (n.state IN ('opened', 'qualifying')))
    GROUP BY n.organisation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_interaction_moved AFTER UPDATE ON interaction REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_interactions();

CREATE FUNCTION tell_inbox_of_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_inbox(NEW.organisation_id, ARRAY[OLD.case_id, NEW.case_id]);
    IF OLD.case_id <> NEW.case_id THEN
        PERFORM refresh_inbox_words(NEW.organisation_id, ARRAY[OLD.case_id, NEW.case_id]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_message_changed AFTER UPDATE ON message FOR EACH ROW
    WHEN (OLD.case_id <> NEW.case_id OR OLD.status <> NEW.status AND NEW.status IN ('failed', 'dropped'))
    EXECUTE FUNCTION tell_inbox_of_message();

CREATE FUNCTION tell_inbox_of_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO inbox_data AS b (organisation_id, case_id, words)
    SELECT n.organisation_id, its.id, all_words(strip(n.found_by))
    FROM fresh n CROSS JOIN LATERAL (
        SELECT CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case(c.organisation_id, c.id) END AS id
        FROM message m JOIN case_file c ON c.organisation_id = m.organisation_id AND c.id = m.case_id
        WHERE m.organisation_id = n.organisation_id AND m.id = n.message OFFSET 0
    ) AS its
    WHERE n.folded <> '' GROUP BY 1, 2
    ON CONFLICT (organisation_id, case_id) DO UPDATE SET words = b.words || excluded.words
        WHERE b.words || excluded.words <> b.words;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_words_written AFTER INSERT ON message_data REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tell_inbox_of_words();

CREATE FUNCTION tell_inbox_of_changed_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM refresh_inbox_words(OLD.organisation_id, ARRAY[m.case_id])
    FROM message m WHERE m.organisation_id = OLD.organisation_id AND m.id = OLD.message;
    RETURN NULL;
END $$;
CREATE TRIGGER inbox_words_changed AFTER UPDATE ON message_data FOR EACH ROW
    WHEN (OLD.folded <> NEW.folded) EXECUTE FUNCTION tell_inbox_of_changed_words();
CREATE TRIGGER inbox_words_erased AFTER DELETE ON message_data FOR EACH ROW EXECUTE FUNCTION tell_inbox_of_changed_words();

-- The cases in a view of the inbox: what is live now, and what help was asked for.
CREATE FUNCTION cases_in_view(organisation uuid, view text, who text) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case(organisation, c.id) END
    FROM interaction i JOIN case_file c ON c.organisation_id = organisation AND c.id = i.case_id
    WHERE i.organisation_id = organisation AND i.ended_at IS NULL AND CASE view
        WHEN 'mine' THEN i.advisor = who AND i.state <> 'offered'
        WHEN 'unassigned' THEN i.advisor IS NULL OR i.state = 'offered'
        WHEN 'waiting' THEN i.state IN ('waiting', 'offered')
        ELSE false END
    UNION
    SELECT CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case(organisation, c.id) END
    FROM help h JOIN case_file c ON c.organisation_id = organisation AND c.id = h.case_id
    WHERE h.organisation_id = organisation AND h.answered_at IS NULL AND view = 'help'
$$;

-- What is typed into a search, folded; of `tail`, the last word, a beginning is enough.
CREATE FUNCTION words_wanted(head text, tail text) RETURNS tsquery LANGUAGE sql IMMUTABLE AS $$
    SELECT plainto_tsquery('simple', head)
        && regexp_replace(plainto_tsquery('simple', tail)::text, '''(?= & |$)', ''':*', 'g')::tsquery
$$;

-- The cases that are meant by number, by name of the contact, or by address. A name or an address that more have than
-- the limits say is found among the newest cases first.
CREATE FUNCTION cases_named(organisation uuid, wanted tsquery, typed_number text, typed_address text) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE ROWS 100 AS $$
DECLARE
    who uuid[] := ARRAY(SELECT a.contact FROM address_data a
        WHERE a.organisation_id = organisation AND length(typed_address) >= 3
            AND a.value LIKE replace(replace(replace(typed_address, '\', '\\'), '%', '\%'), '_', '\_') || '%' LIMIT 1000);
BEGIN
    IF numnode(wanted) > 0 THEN
        who := who || ARRAY(SELECT d.contact FROM contact_data d
            WHERE d.organisation_id = organisation AND to_tsvector('simple', d.sort_name) @@ wanted LIMIT 5000);
    END IF;
    IF who <> '{}' THEN
        RETURN QUERY
            WITH RECURSIVE up AS (
                SELECT c.id, c.merged_into FROM contact c WHERE c.organisation_id = organisation AND c.id = ANY (who)
                UNION
                SELECT c.id, c.merged_into FROM up
                JOIN contact c ON c.organisation_id = organisation AND c.id = up.merged_into
            ), family AS (
                SELECT up.id FROM up
                UNION
                SELECT c.id FROM family JOIN contact c ON c.organisation_id = organisation AND c.merged_into = family.id
            )
            SELECT CASE WHEN f.merged_into IS NULL THEN f.id ELSE surviving_case(organisation, f.id) END
            FROM family JOIN case_file f ON f.organisation_id = organisation AND f.contact = family.id;
    END IF;
    IF typed_number ~ '^[0-9]{1,15}$' THEN
        RETURN QUERY SELECT surviving_case(organisation, f.id) FROM case_file f
            WHERE f.organisation_id = organisation AND f.number = typed_number::bigint;
    END IF;
END $$;

-- Few cases among which to look: those of a view, else those with the words.
CREATE FUNCTION inbox_candidates(organisation uuid, view text, who text, wanted tsquery, number text, address text)
RETURNS SETOF uuid LANGUAGE plpgsql STABLE ROWS 200 AS $$
BEGIN
    IF view <> 'all' THEN
        RETURN QUERY SELECT cases_in_view(organisation, view, who);
    ELSE
        RETURN QUERY SELECT d.case_id FROM inbox_data d
            WHERE numnode(wanted) > 0 AND d.organisation_id = organisation AND d.words @@ wanted
            UNION SELECT cases_named(organisation, wanted, number, address);
    END IF;
END $$;

CREATE VIEW message_told AS
SELECT m.*, t.channel, coalesce(d.text, '') AS text, coalesce(d.html, '') AS html, coalesce(d.subject, '') AS subject,
    coalesce(d.buttons, '[]'::jsonb) AS buttons, coalesce(d.extra, '{}'::jsonb) AS extra, coalesce(d.detail, '') AS detail,
    coalesce(d.reaction, '') AS reaction, coalesce(d.payload, '') AS payload
FROM message m
JOIN thread t ON t.organisation_id = m.organisation_id AND t.id = m.thread
LEFT JOIN message_data d ON d.organisation_id = m.organisation_id AND d.message = m.id;

-- What is there already.
SELECT refresh_inbox(organisation_id, array_agg(id)) FROM case_file GROUP BY organisation_id;
SELECT refresh_inbox_words(organisation_id, array_agg(DISTINCT case_id)) FROM message GROUP BY organisation_id;
