-- Written channels: threads, messages, attachments, merged cases, help among advisors, the outbox and what came in.

-- ---- state: written only by the projection of events -----------------------------------------------------------------

ALTER TABLE case_file
    ADD COLUMN merged_into uuid,
    ADD COLUMN merge_id uuid,
    ADD COLUMN tags jsonb NOT NULL DEFAULT '[]',
    ADD FOREIGN KEY (organisation_id, merged_into) REFERENCES case_file (organisation_id, id),
    ADD CONSTRAINT case_not_in_itself CHECK (merged_into <> id),
    ADD CONSTRAINT case_merged_by_a_merge CHECK ((merged_into IS NULL) = (merge_id IS NULL)),
    ADD CONSTRAINT tags_are_a_list CHECK (jsonb_typeof(tags) = 'array');
CREATE INDEX case_merged ON case_file (organisation_id, merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX case_by_tag ON case_file USING gin (tags jsonb_path_ops);

CREATE TABLE case_merge (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    case_id         uuid NOT NULL,
    into_case       uuid NOT NULL,
    by              text NOT NULL,
    at              timestamptz NOT NULL,
    undone_at       timestamptz,
    undone_by       text,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, case_id) REFERENCES case_file (organisation_id, id),
    FOREIGN KEY (organisation_id, into_case) REFERENCES case_file (organisation_id, id),
    CHECK (case_id <> into_case),
    CHECK ((undone_at IS NULL) = (undone_by IS NULL))
);
CREATE UNIQUE INDEX one_live_merge_of_a_case ON case_merge (organisation_id, case_id) WHERE undone_at IS NULL;

CREATE TABLE thread (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    account         text NOT NULL,
    channel         text NOT NULL,
    address         uuid NOT NULL,
    opened_at       timestamptz NOT NULL,
    live            uuid,               -- the interaction that goes on in it
    last_in_at      timestamptz,        -- the provider's time of the customer's last message
    last_out        uuid,               -- our last message
    messages        integer NOT NULL CHECK (messages >= 0),
    PRIMARY KEY (organisation_id, id),
    UNIQUE (organisation_id, account, address),
    FOREIGN KEY (organisation_id, address) REFERENCES address (organisation_id, id)
) WITH (fillfactor = 70);
CREATE INDEX thread_of_address ON thread (organisation_id, address);

ALTER TABLE interaction
    ADD COLUMN seat text,
    ADD COLUMN thread uuid,
    ADD COLUMN lent_to uuid,
    ADD FOREIGN KEY (organisation_id, thread) REFERENCES thread (organisation_id, id),
    ADD CONSTRAINT only_an_active_seat_is_lent CHECK (lent_to IS NULL OR state = 'active');
UPDATE interaction SET seat = channel;
ALTER TABLE interaction
    ALTER COLUMN seat SET NOT NULL,
    ADD CONSTRAINT seat_has_a_name CHECK (seat <> '');
CREATE UNIQUE INDEX one_live_interaction_of_a_thread ON interaction (organisation_id, thread)
    WHERE thread IS NOT NULL AND ended_at IS NULL;
CREATE INDEX interaction_of_thread ON interaction (organisation_id, thread, opened_at) WHERE thread IS NOT NULL;

CREATE TABLE message (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    seq             bigint NOT NULL,    -- of its event
    thread          uuid NOT NULL,
    interaction     uuid NOT NULL,
    case_id         uuid NOT NULL,      -- the interaction's
    contact         uuid NOT NULL,      -- the interaction's
    account         text NOT NULL,
    direction       text NOT NULL CHECK (direction IN ('in', 'out')),
    author          text NOT NULL CHECK (author IN ('customer', 'advisor', 'bot', 'system', 'elsewhere')),
    by              text NOT NULL,
    kind            text NOT NULL,
    external_id     text CHECK (external_id <> ''),
    at              timestamptz NOT NULL,
    sent_at         timestamptz,        -- the provider's time
    status          text NOT NULL CHECK (status IN ('received', 'queued', 'sending', 'perhaps', 'sent', 'delivered', 'read',
                                                    'failed', 'dropped')),
    failure         text,
    code            text NOT NULL,
    reply_to        uuid,
    attached        integer NOT NULL CHECK (attached >= 0),
    automatic       boolean NOT NULL,
    standby         boolean NOT NULL,
    tagged          boolean NOT NULL,
    edited          boolean NOT NULL,
    unsent          boolean NOT NULL,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, thread) REFERENCES thread (organisation_id, id),
    FOREIGN KEY (organisation_id, interaction) REFERENCES interaction (organisation_id, id),
    FOREIGN KEY (organisation_id, case_id) REFERENCES case_file (organisation_id, id),
    CONSTRAINT customers_come_in CHECK ((direction = 'in') = (author = 'customer')),
    CONSTRAINT what_comes_in_is_received CHECK ((direction = 'in') = (status = 'received'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX one_message_of_an_external_id ON message (organisation_id, account, external_id)
    WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX one_message_an_event ON message (organisation_id, seq);
CREATE INDEX message_of_case ON message (organisation_id, case_id, seq);
CREATE INDEX message_of_interaction ON message (organisation_id, interaction, seq);
CREATE INDEX message_of_thread ON message (organisation_id, thread, seq);

CREATE TABLE attachment (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    message         uuid NOT NULL,
    case_id         uuid NOT NULL,      -- the message's
    kind            text NOT NULL,
    type            text NOT NULL,
    bytes           bigint NOT NULL CHECK (bytes >= 0),
    sha256          text NOT NULL,
    state           text NOT NULL CHECK (state IN ('fetching', 'stored', 'failed', 'quarantined')),
    failed          text NOT NULL,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, message) REFERENCES message (organisation_id, id),
    CHECK ((failed <> '') = (state IN ('failed', 'quarantined')))
);
CREATE INDEX attachment_of_message ON attachment (organisation_id, message);
CREATE INDEX attachment_of_case ON attachment (organisation_id, case_id);

CREATE TABLE help (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    interaction     uuid NOT NULL,
    case_id         uuid NOT NULL,
    by              text NOT NULL,
    of              text,               -- None: any colleague
    at              timestamptz NOT NULL,
    answered_at     timestamptz,
    answered_by     text,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, interaction) REFERENCES interaction (organisation_id, id),
    FOREIGN KEY (organisation_id, case_id) REFERENCES case_file (organisation_id, id),
    CHECK ((answered_at IS NULL) = (answered_by IS NULL))
);
CREATE INDEX help_open ON help (organisation_id, at) WHERE answered_at IS NULL;
CREATE INDEX help_of_case ON help (organisation_id, case_id, at);
CREATE UNIQUE INDEX one_answer_of_a_help ON event (organisation_id, (data ->> 'help')) WHERE type = 'help.answered';

CREATE TABLE account_state (
    organisation_id uuid NOT NULL REFERENCES organisation,
    account         text NOT NULL,
    state           text NOT NULL CHECK (state IN ('up', 'throttled', 'down')),
    reason          text NOT NULL,
    since           timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, account)
);

-- ---- side tables: personal data, which can be erased -----------------------------------------------------------------

CREATE TABLE message_data (
    organisation_id uuid NOT NULL,
    message         uuid NOT NULL,
    text            text NOT NULL DEFAULT '',
    html            text NOT NULL DEFAULT '',
    subject         text NOT NULL DEFAULT '',
    payload         text NOT NULL DEFAULT '',
    buttons         jsonb NOT NULL DEFAULT '[]',
    extra           jsonb NOT NULL DEFAULT '{}',
    detail          text NOT NULL DEFAULT '',   -- the provider's words about a failure
    reaction        text NOT NULL DEFAULT '',
    folded          text NOT NULL DEFAULT '',   -- subject and text, decomposed, without marks, case-folded
    found_by        tsvector GENERATED ALWAYS AS (to_tsvector('simple', left(folded, 20000))) STORED,
    PRIMARY KEY (organisation_id, message)
);
CREATE INDEX message_by_words ON message_data USING gin (found_by);

CREATE TABLE attachment_data (
    organisation_id uuid NOT NULL,
    attachment      uuid NOT NULL,
    name            text NOT NULL DEFAULT '',
    content_id      text NOT NULL DEFAULT '',
    path            text NOT NULL DEFAULT '',   -- below the data directory
    PRIMARY KEY (organisation_id, attachment)
);

CREATE TABLE help_data (
    organisation_id uuid NOT NULL,
    help            uuid NOT NULL,
    text            text NOT NULL DEFAULT '',
    answer          text NOT NULL DEFAULT '',
    PRIMARY KEY (organisation_id, help)
);

CREATE TABLE walk (
    organisation_id uuid NOT NULL,
    interaction     uuid NOT NULL,
    tree            text NOT NULL,
    version         integer NOT NULL,
    state           jsonb NOT NULL,     -- the interpreter as it stands
    consumed        bigint NOT NULL,    -- sequence number of the last event it has heard
    PRIMARY KEY (organisation_id, interaction)
) WITH (fillfactor = 70);

-- ---- what is on its way: not projected, not in the log ---------------------------------------------------------------

-- Put in by the desk together with the message's event; moved only by the sender.
CREATE TABLE outbox (
    organisation_id uuid NOT NULL,
    message         uuid NOT NULL,
    seq             bigint NOT NULL,    -- of the message's event: the order in its thread
    thread          uuid NOT NULL,
    interaction     uuid NOT NULL,
    account         text NOT NULL,
    author          text NOT NULL CHECK (author IN ('advisor', 'bot', 'system')),
    outgoing        jsonb NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'taken', 'sent', 'perhaps', 'failed', 'dropped')),
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    not_before      timestamptz NOT NULL,
    worker          uuid,
    lease_until     timestamptz,
    external_id     text,
    why             text NOT NULL DEFAULT '',
    told            boolean NOT NULL DEFAULT false,
    ended_at        timestamptz,
    PRIMARY KEY (organisation_id, message),
    FOREIGN KEY (organisation_id, message) REFERENCES message (organisation_id, id),
    CONSTRAINT taken_by_a_worker CHECK ((state = 'taken') = (lease_until IS NOT NULL AND worker IS NOT NULL))
) WITH (fillfactor = 60);
CREATE INDEX outbox_unfinished ON outbox (organisation_id, thread, seq) WHERE state IN ('queued', 'taken');
CREATE UNIQUE INDEX one_on_its_way_in_a_thread ON outbox (organisation_id, thread) WHERE state = 'taken';
CREATE INDEX outbox_untold ON outbox (organisation_id, seq)
    WHERE NOT told AND state IN ('sent', 'perhaps', 'failed', 'dropped');

-- Bodies of providers' requests (and raw mails), kept to be handled again.
CREATE TABLE request (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    account         text NOT NULL,
    at              timestamptz NOT NULL,
    headers         jsonb NOT NULL,
    body            bytea NOT NULL,
    again_at        timestamptz NOT NULL,
    handled_at      timestamptz,
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    result          jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (organisation_id, id)
);
CREATE INDEX request_unhandled ON request (organisation_id, again_at, id) WHERE handled_at IS NULL;
CREATE INDEX request_handled ON request (organisation_id, handled_at) WHERE handled_at IS NOT NULL;
CREATE INDEX request_by_time ON request (organisation_id, at DESC, id DESC);

CREATE TABLE channel_secret (
    organisation_id uuid NOT NULL REFERENCES organisation,
    account         text NOT NULL,
    name            text NOT NULL,
    value           text NOT NULL,
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, account, name)
);

-- ---- cases seen through their merges -----------------------------------------------------------------------------------

-- The case that a merged one is part of now; itself when it is merged into none.
CREATE FUNCTION surviving_case(organisation uuid, one uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT c.id, c.merged_into FROM case_file c WHERE c.organisation_id = organisation AND c.id = one
        UNION
        SELECT c.id, c.merged_into FROM case_file c JOIN up ON c.organisation_id = organisation AND c.id = up.merged_into
    )
    SELECT up.id FROM up WHERE up.merged_into IS NULL
$$;

-- A case and all that are merged into it.
CREATE FUNCTION cases_in(organisation uuid, one uuid) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE down AS (
        SELECT one AS id
        UNION
        SELECT c.id FROM case_file c JOIN down ON c.organisation_id = organisation AND c.merged_into = down.id
    )
    SELECT down.id FROM down
$$;

DROP VIEW interaction_told;
CREATE VIEW interaction_told AS
SELECT i.*, person_of(i.organisation_id, i.contact) AS person, c.number AS case_number, coalesce(d.name, '') AS contact_name,
    coalesce(a.value, n.received, '') AS address_value, coalesce(n.received, '') AS received,
    coalesce(n.name, '') AS caller_name, coalesce(n.facts, '{}'::jsonb) AS facts, a.kind AS address_kind,
    ARRAY(SELECT r.id FROM recording r
          WHERE r.organisation_id = i.organisation_id AND r.interaction = i.id ORDER BY r.at, r.id) AS recordings
FROM interaction i
JOIN case_file c ON c.organisation_id = i.organisation_id AND c.id = i.case_id
LEFT JOIN contact_data d ON d.organisation_id = i.organisation_id AND d.contact = person_of(i.organisation_id, i.contact)
LEFT JOIN address_data a ON a.organisation_id = i.organisation_id AND a.address = i.address
LEFT JOIN interaction_data n ON n.organisation_id = i.organisation_id AND n.interaction = i.id;

DROP VIEW case_told;
CREATE VIEW case_told AS
SELECT c.*, person_of(c.organisation_id, c.contact) AS person, coalesce(d.name, '') AS contact_name, d.sort_name,
    coalesce(s.subject, '') AS subject,
    ARRAY(SELECT DISTINCT i.channel FROM interaction i
          WHERE i.organisation_id = c.organisation_id AND i.case_id = c.id ORDER BY 1) AS channels
FROM case_file c
LEFT JOIN contact_data d ON d.organisation_id = c.organisation_id AND d.contact = person_of(c.organisation_id, c.contact)
LEFT JOIN case_data s ON s.organisation_id = c.organisation_id AND s.case_id = c.id;
