-- What the desk decides (state tables, all rebuilt from `event`), what may be erased (side tables, named *_data),
-- and what admins write (site, tree, people). Nothing here calls now(): times and ids come from the program.

CREATE TABLE organisation (
    id              uuid PRIMARY KEY,
    short           text NOT NULL UNIQUE CHECK (short <> ''),
    created_at      timestamptz NOT NULL
);

-- ---- the log -------------------------------------------------------------------------------------------------------

CREATE TABLE event (
    organisation_id uuid NOT NULL,     -- no REFERENCES: a check a row would double the cost of the log
    seq             bigint NOT NULL CHECK (seq > 0),
    id              uuid NOT NULL,
    at              timestamptz NOT NULL,
    type            text NOT NULL,
    interaction     uuid,
    case_id         uuid,
    contact         uuid,
    advisor         text,
    data            jsonb NOT NULL,
    PRIMARY KEY (organisation_id, seq)
);
CREATE INDEX event_of_interaction ON event (organisation_id, interaction, seq) WHERE interaction IS NOT NULL;
CREATE INDEX event_of_case ON event (organisation_id, case_id, seq) WHERE case_id IS NOT NULL;
CREATE INDEX event_by_time ON event (organisation_id, at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the table % is only ever appended to', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row for each submission that was committed: repeating its key changes nothing.
CREATE TABLE submission (
    organisation_id uuid NOT NULL,
    key             uuid NOT NULL,
    at              timestamptz NOT NULL,
    first_seq       bigint NOT NULL,
    last_seq        bigint NOT NULL,    -- first_seq - 1: committed without an event
    refused         text,
    PRIMARY KEY (organisation_id, key)
);

-- ---- state: written only by the projection of events -----------------------------------------------------------------

CREATE TABLE contact (
    organisation_id uuid NOT NULL REFERENCES organisation,
    id              uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    provisional     boolean NOT NULL,   -- stands for "one of several", never matched by its address
    draft           boolean NOT NULL,   -- made by an interaction, nobody has said who it is
    merged_into     uuid,
    merge_id        uuid,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, merged_into) REFERENCES contact (organisation_id, id),
    CHECK (merged_into <> id),
    CHECK ((merged_into IS NULL) = (merge_id IS NULL))
);
CREATE INDEX contact_merged ON contact (organisation_id, merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE address (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    contact         uuid NOT NULL,
    kind            text NOT NULL,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, contact) REFERENCES contact (organisation_id, id)
);
CREATE INDEX address_of_contact ON address (organisation_id, contact);

CREATE TABLE contact_merge (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    contact         uuid NOT NULL,
    into_contact    uuid NOT NULL,
    by              text NOT NULL,
    reason          text NOT NULL,
    at              timestamptz NOT NULL,
    undone_at       timestamptz,
    undone_by       text,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, contact) REFERENCES contact (organisation_id, id),
    FOREIGN KEY (organisation_id, into_contact) REFERENCES contact (organisation_id, id),
    CHECK (contact <> into_contact)
);
CREATE UNIQUE INDEX one_live_merge_of_a_contact ON contact_merge (organisation_id, contact) WHERE undone_at IS NULL;

CREATE TABLE case_file (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    number          bigint NOT NULL,
    contact         uuid NOT NULL,
    state           text NOT NULL CHECK (state IN ('open', 'waiting', 'solved', 'closed')),
    provisional     boolean NOT NULL,
    follows         uuid,
    opened_at       timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    closed_at       timestamptz,
    interactions    integer NOT NULL CHECK (interactions >= 0),
    notes           integer NOT NULL,
    advisor         text,               -- the last who spoke in it (Q5)
    PRIMARY KEY (organisation_id, id),
    UNIQUE (organisation_id, number),
    FOREIGN KEY (organisation_id, contact) REFERENCES contact (organisation_id, id),
    FOREIGN KEY (organisation_id, follows) REFERENCES case_file (organisation_id, id),
    CHECK ((closed_at IS NOT NULL) = (state IN ('solved', 'closed')))
);
CREATE INDEX case_of_contact ON case_file (organisation_id, contact, state);
CREATE INDEX case_by_change ON case_file (organisation_id, changed_at DESC, id);

CREATE TABLE interaction (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    case_id         uuid NOT NULL,
    contact         uuid NOT NULL,
    channel         text NOT NULL,
    direction       text NOT NULL CHECK (direction IN ('in', 'out')),
    state           text NOT NULL CHECK (state IN ('opened', 'qualifying', 'waiting', 'offered', 'active', 'wrapup',
                                                   'ended', 'abandoned', 'interrupted')),
    held            boolean NOT NULL,
    epoch           bigint NOT NULL,
    revision        bigint NOT NULL,
    call            text,
    dialled         text NOT NULL,
    trunk           text,
    attestation     text,
    address         uuid,
    matches         integer NOT NULL,
    tree            text,
    tree_version    integer,
    queue           text,
    priority        integer,
    since           timestamptz,        -- first waiting time: the place in line
    needs           jsonb NOT NULL,
    avoid           jsonb NOT NULL,     -- advisors who refused or missed it (I15)
    language        text,
    advisor         text,               -- offered to, or owner
    offer           uuid,
    opened_at       timestamptz NOT NULL,
    enqueued_at     timestamptz,
    offered_at      timestamptz,
    accepted_at     timestamptz,
    held_at         timestamptz,
    held_s          double precision NOT NULL,
    talk_ended_at   timestamptz,
    wrapup_until    timestamptz,
    extended        boolean NOT NULL,
    ended_at        timestamptz,
    outcome         text,
    code            text,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, case_id) REFERENCES case_file (organisation_id, id),
    FOREIGN KEY (organisation_id, contact) REFERENCES contact (organisation_id, id),
    FOREIGN KEY (organisation_id, address) REFERENCES address (organisation_id, id),
    CONSTRAINT owner_while_owned CHECK (state NOT IN ('offered', 'active', 'wrapup') OR advisor IS NOT NULL),
    CONSTRAINT nobody_while_waiting CHECK (state NOT IN ('qualifying', 'waiting') OR (advisor IS NULL AND offer IS NULL)),
    CONSTRAINT offer_while_offered CHECK ((state = 'offered') = (offer IS NOT NULL)),
    CONSTRAINT place_while_waiting CHECK (state NOT IN ('waiting', 'offered') OR (queue IS NOT NULL AND since IS NOT NULL)),
    CONSTRAINT end_has_a_time CHECK ((state IN ('ended', 'abandoned', 'interrupted')) = (ended_at IS NOT NULL)),
    CONSTRAINT held_only_when_active CHECK (NOT held OR state = 'active')
) WITH (fillfactor = 60);              -- room for updates in place
CREATE UNIQUE INDEX one_interaction_of_a_call ON interaction (organisation_id, call) WHERE call IS NOT NULL;
CREATE INDEX interaction_live ON interaction (organisation_id) WHERE ended_at IS NULL;
CREATE INDEX interaction_of_case ON interaction (organisation_id, case_id, opened_at);
CREATE INDEX interaction_of_contact ON interaction (organisation_id, contact, opened_at);

CREATE TABLE offer (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    interaction     uuid NOT NULL,
    advisor         text NOT NULL,
    epoch           bigint NOT NULL,
    made_at         timestamptz NOT NULL,
    deadline        timestamptz NOT NULL,
    how             text CHECK (how IN ('accepted', 'refused', 'missed', 'expired', 'cancelled')),
    reason          text,
    ended_at        timestamptz,
    shown_ms        integer,
    shown_missed    boolean,
    PRIMARY KEY (organisation_id, id),
    FOREIGN KEY (organisation_id, interaction) REFERENCES interaction (organisation_id, id) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((how IS NULL) = (ended_at IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX one_open_offer_of_an_interaction ON offer (organisation_id, interaction) WHERE how IS NULL;
CREATE UNIQUE INDEX one_offer_an_epoch ON offer (organisation_id, interaction, epoch);
CREATE UNIQUE INDEX one_winner_an_epoch ON offer (organisation_id, interaction, epoch) WHERE how = 'accepted';

CREATE TABLE advisor_state (
    organisation_id uuid NOT NULL REFERENCES organisation,
    advisor         text NOT NULL,
    presence        text NOT NULL CHECK (presence IN ('ready', 'pause', 'offline')),
    reason          text,
    since           timestamptz NOT NULL,
    idle_since      timestamptz,        -- end of the last work on any channel (Q6)
    misses          integer NOT NULL,   -- in a row (Q16)
    PRIMARY KEY (organisation_id, advisor)
);

CREATE TABLE advisor_reach (
    organisation_id uuid NOT NULL REFERENCES organisation,
    advisor         text NOT NULL,
    channel         text NOT NULL,
    reachable       boolean NOT NULL,
    since           timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, advisor, channel)
);

CREATE TABLE path_step (
    organisation_id uuid NOT NULL,
    interaction     uuid NOT NULL,
    step            bigint NOT NULL,    -- the sequence number of its event
    tree            text NOT NULL,
    version         integer NOT NULL,
    node            text NOT NULL,
    exit            text NOT NULL,
    seconds         double precision NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, interaction, step)
);

CREATE TABLE recording (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    interaction     uuid NOT NULL,
    at              timestamptz NOT NULL,
    duration_ms     bigint NOT NULL,
    bytes           bigint NOT NULL,
    complete        boolean NOT NULL,
    PRIMARY KEY (organisation_id, id)
);
CREATE INDEX recording_of_interaction ON recording (organisation_id, interaction);

CREATE TABLE note (
    organisation_id uuid NOT NULL,
    id              uuid NOT NULL,
    case_id         uuid NOT NULL,
    interaction     uuid,
    by              text NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, id)
);
CREATE INDEX note_of_case ON note (organisation_id, case_id, at);

-- ---- side tables: personal data, which can be erased -----------------------------------------------------------------

CREATE TABLE contact_data (
    organisation_id uuid NOT NULL,
    contact         uuid NOT NULL,
    name            text NOT NULL DEFAULT '',
    sort_name       text NOT NULL DEFAULT '',   -- NFKD, case-folded
    company         text NOT NULL DEFAULT '',
    language        text,
    vip             boolean NOT NULL DEFAULT false,
    PRIMARY KEY (organisation_id, contact)
);
CREATE INDEX contact_by_name ON contact_data (organisation_id, sort_name text_pattern_ops);

CREATE TABLE address_data (
    organisation_id uuid NOT NULL,
    address         uuid NOT NULL,
    contact         uuid NOT NULL,
    kind            text NOT NULL,
    value           text NOT NULL,      -- normalised: E.164 for phones
    raw             text NOT NULL,
    PRIMARY KEY (organisation_id, address),
    UNIQUE (organisation_id, contact, kind, value)
);
CREATE INDEX address_by_value ON address_data (organisation_id, kind, value);

CREATE TABLE case_data (
    organisation_id uuid NOT NULL,
    case_id         uuid NOT NULL,
    subject         text NOT NULL DEFAULT '',
    PRIMARY KEY (organisation_id, case_id)
);

CREATE TABLE interaction_data (
    organisation_id uuid NOT NULL,
    interaction     uuid NOT NULL,
    received        text NOT NULL DEFAULT '',   -- the address as it came
    name            text NOT NULL DEFAULT '',   -- what the caller's side said
    facts           jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (organisation_id, interaction)
);

CREATE TABLE path_data (
    organisation_id uuid NOT NULL,
    interaction     uuid NOT NULL,
    step            bigint NOT NULL,
    keys            text NOT NULL,
    PRIMARY KEY (organisation_id, interaction, step)
);

CREATE TABLE note_data (
    organisation_id uuid NOT NULL,
    note            uuid NOT NULL,
    text            text NOT NULL,
    PRIMARY KEY (organisation_id, note)
);

CREATE TABLE recording_data (
    organisation_id uuid NOT NULL,
    recording       uuid NOT NULL,
    path            text NOT NULL,
    PRIMARY KEY (organisation_id, recording)
);

-- ---- what admins write ---------------------------------------------------------------------------------------------

CREATE TABLE site (
    organisation_id uuid NOT NULL REFERENCES organisation,
    version         integer NOT NULL CHECK (version > 0),
    at              timestamptz NOT NULL,
    by              text NOT NULL,
    document        jsonb NOT NULL,
    PRIMARY KEY (organisation_id, version)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON site FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE tree (
    organisation_id uuid NOT NULL REFERENCES organisation,
    id              text NOT NULL,
    version         integer NOT NULL CHECK (version > 0),
    at              timestamptz NOT NULL,
    by              text NOT NULL,
    note            text NOT NULL DEFAULT '',
    document        jsonb NOT NULL,
    PRIMARY KEY (organisation_id, id, version)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tree FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE phone_account (
    organisation_id uuid NOT NULL REFERENCES organisation,
    account         text NOT NULL,
    realm           text NOT NULL,
    ha1_md5         text NOT NULL CHECK (ha1_md5 ~ '^[0-9a-f]{32}$'),
    ha1_sha256      text NOT NULL CHECK (ha1_sha256 ~ '^[0-9a-f]{64}$'),
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, account)
);

CREATE TABLE person (
    organisation_id uuid NOT NULL REFERENCES organisation,
    login           text NOT NULL,
    password_hash   text NOT NULL,
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, login)
);

CREATE TABLE web_session (
    organisation_id uuid NOT NULL REFERENCES organisation,
    token_hash      bytea NOT NULL,
    login           text NOT NULL,
    csrf            text NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (token_hash)
);
CREATE INDEX web_session_of_login ON web_session (organisation_id, login);

-- ---- persons: contacts seen through their merges ---------------------------------------------------------------------

CREATE FUNCTION person_of(organisation uuid, contact_id uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up AS (
        SELECT c.id, c.merged_into FROM contact c WHERE c.organisation_id = organisation AND c.id = contact_id
        UNION
        SELECT c.id, c.merged_into FROM contact c JOIN up ON c.organisation_id = organisation AND c.id = up.merged_into
    )
    SELECT up.id FROM up WHERE up.merged_into IS NULL
$$;

CREATE FUNCTION family_of(organisation uuid, contact_ids uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE family AS (
        SELECT person_of(organisation, one) AS id FROM unnest(contact_ids) AS one
        UNION
        SELECT c.id FROM contact c JOIN family f ON c.organisation_id = organisation AND c.merged_into = f.id
    )
    SELECT family.id FROM family WHERE family.id IS NOT NULL
$$;

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

CREATE VIEW case_told AS
SELECT c.*, person_of(c.organisation_id, c.contact) AS person, coalesce(d.name, '') AS contact_name, d.sort_name,
    coalesce(s.subject, '') AS subject,
    ARRAY(SELECT DISTINCT i.channel FROM interaction i
          WHERE i.organisation_id = c.organisation_id AND i.case_id = c.id ORDER BY 1) AS channels
FROM case_file c
LEFT JOIN contact_data d ON d.organisation_id = c.organisation_id AND d.contact = person_of(c.organisation_id, c.contact)
LEFT JOIN case_data s ON s.organisation_id = c.organisation_id AND s.case_id = c.id;
