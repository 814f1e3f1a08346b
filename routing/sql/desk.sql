-- What the desk writes and reads. Each `put_…` takes the organisation, then one array for each column of the row,
-- in the order of the row's fields in routing/projection.py (a test holds them together).

-- The log and the keys of a small group; larger ones are copied.
-- name: put_log
WITH log AS (
    INSERT INTO event (organisation_id, seq, id, at, type, interaction, case_id, contact, advisor, data)
    SELECT $1, u.*
    FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[], $5::text[], $6::uuid[], $7::uuid[], $8::uuid[], $9::text[], $10::jsonb[]) AS u
)
INSERT INTO submission (organisation_id, key, at, first_seq, last_seq, refused)
SELECT $1, u.* FROM unnest($11::uuid[], $12::timestamptz[], $13::bigint[], $14::bigint[], $15::text[]) AS u

-- name: put_contact
INSERT INTO contact AS t (organisation_id, id, created_at, changed_at, provisional, draft, merged_into, merge_id)
SELECT $1, u.id, u.created_at, u.changed_at, u.provisional, u.draft, u.merged_into, u.merge_id
FROM unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::boolean[], $6::boolean[], $7::uuid[], $8::uuid[])
    AS u (id, created_at, changed_at, provisional, draft, merged_into, merge_id)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    created_at = excluded.created_at,
    changed_at = excluded.changed_at,
    provisional = excluded.provisional,
    draft = excluded.draft,
    merged_into = excluded.merged_into,
    merge_id = excluded.merge_id

-- name: put_address
INSERT INTO address AS t (organisation_id, id, contact, kind, created_at)
SELECT $1, u.id, u.contact, u.kind, u.created_at
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])
    AS u (id, contact, kind, created_at)

-- name: put_contact_merge
INSERT INTO contact_merge AS t (organisation_id, id, contact, into_contact, by, reason, at, undone_at, undone_by)
SELECT $1, u.id, u.contact, u.into_contact, u.by, u.reason, u.at, u.undone_at, u.undone_by
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[])
    AS u (id, contact, into_contact, by, reason, at, undone_at, undone_by)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    contact = excluded.contact,
    into_contact = excluded.into_contact,
    by = excluded.by,
    reason = excluded.reason,
    at = excluded.at,
    undone_at = excluded.undone_at,
    undone_by = excluded.undone_by

-- name: put_case_file
INSERT INTO case_file AS t (organisation_id, id, number, contact, state, provisional, follows, opened_at, changed_at, closed_at, interactions, notes, advisor, merged_into, merge_id, tags)
SELECT $1, u.id, u.number, u.contact, u.state, u.provisional, u.follows, u.opened_at, u.changed_at, u.closed_at, u.interactions, u.notes, u.advisor, u.merged_into, u.merge_id, u.tags::jsonb
FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::boolean[], $7::uuid[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[], $13::text[], $14::uuid[], $15::uuid[], $16::text[])
    AS u (id, number, contact, state, provisional, follows, opened_at, changed_at, closed_at, interactions, notes, advisor, merged_into, merge_id, tags)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    number = excluded.number,
    contact = excluded.contact,
    state = excluded.state,
    provisional = excluded.provisional,
    follows = excluded.follows,
    opened_at = excluded.opened_at,
    changed_at = excluded.changed_at,
    closed_at = excluded.closed_at,
    interactions = excluded.interactions,
    notes = excluded.notes,
    advisor = excluded.advisor,
    merged_into = excluded.merged_into,
    merge_id = excluded.merge_id,
    tags = excluded.tags

-- name: put_case_merge
INSERT INTO case_merge AS t (organisation_id, id, case_id, into_case, by, at, undone_at, undone_by)
SELECT $1, u.id, u.case_id, u.into_case, u.by, u.at, u.undone_at, u.undone_by
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[])
    AS u (id, case_id, into_case, by, at, undone_at, undone_by)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    case_id = excluded.case_id,
    into_case = excluded.into_case,
    by = excluded.by,
    at = excluded.at,
    undone_at = excluded.undone_at,
    undone_by = excluded.undone_by

-- name: put_thread
INSERT INTO thread AS t (organisation_id, id, account, channel, address, opened_at, live, last_in_at, last_out, messages, beside)
SELECT $1, u.id, u.account, u.channel, u.address, u.opened_at, u.live, u.last_in_at, u.last_out, u.messages, u.beside::jsonb
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::uuid[], $8::timestamptz[], $9::uuid[], $10::bigint[], $11::text[])
    AS u (id, account, channel, address, opened_at, live, last_in_at, last_out, messages, beside)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    account = excluded.account,
    channel = excluded.channel,
    address = excluded.address,
    opened_at = excluded.opened_at,
    live = excluded.live,
    last_in_at = excluded.last_in_at,
    last_out = excluded.last_out,
    messages = excluded.messages,
    beside = excluded.beside

-- name: put_interaction
INSERT INTO interaction AS t (organisation_id, id, case_id, contact, channel, direction, state, held, epoch, revision, call, dialled, trunk, attestation, address, matches, tree, tree_version, queue, priority, since, needs, avoid, language, advisor, offer, opened_at, enqueued_at, offered_at, accepted_at, held_at, held_s, talk_ended_at, wrapup_until, extended, ended_at, outcome, code, seat, thread, lent_to)
SELECT $1, u.id, u.case_id, u.contact, u.channel, u.direction, u.state, u.held, u.epoch, u.revision, u.call, u.dialled, u.trunk, u.attestation, u.address, u.matches, u.tree, u.tree_version, u.queue, u.priority, u.since, u.needs::jsonb, u.avoid::jsonb, u.language, u.advisor, u.offer, u.opened_at, u.enqueued_at, u.offered_at, u.accepted_at, u.held_at, u.held_s, u.talk_ended_at, u.wrapup_until, u.extended, u.ended_at, u.outcome, u.code, u.seat, u.thread, u.lent_to
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::bigint[], $17::text[], $18::bigint[], $19::text[], $20::bigint[], $21::timestamptz[], $22::text[], $23::text[], $24::text[], $25::text[], $26::uuid[], $27::timestamptz[], $28::timestamptz[], $29::timestamptz[], $30::timestamptz[], $31::timestamptz[], $32::float8[], $33::timestamptz[], $34::timestamptz[], $35::boolean[], $36::timestamptz[], $37::text[], $38::text[], $39::text[], $40::uuid[], $41::uuid[])
    AS u (id, case_id, contact, channel, direction, state, held, epoch, revision, call, dialled, trunk, attestation, address, matches, tree, tree_version, queue, priority, since, needs, avoid, language, advisor, offer, opened_at, enqueued_at, offered_at, accepted_at, held_at, held_s, talk_ended_at, wrapup_until, extended, ended_at, outcome, code, seat, thread, lent_to)

-- Compare-and-set: a row that somebody else has moved does not come back.
-- name: set_interaction
UPDATE interaction AS t SET
    case_id = u.case_id,
    contact = u.contact,
    channel = u.channel,
    direction = u.direction,
    state = u.state,
    held = u.held,
    epoch = u.epoch,
    revision = u.revision,
    call = u.call,
    dialled = u.dialled,
    trunk = u.trunk,
    attestation = u.attestation,
    address = u.address,
    matches = u.matches,
    tree = u.tree,
    tree_version = u.tree_version,
    queue = u.queue,
    priority = u.priority,
    since = u.since,
    needs = u.needs::jsonb,
    avoid = u.avoid::jsonb,
    language = u.language,
    advisor = u.advisor,
    offer = u.offer,
    opened_at = u.opened_at,
    enqueued_at = u.enqueued_at,
    offered_at = u.offered_at,
    accepted_at = u.accepted_at,
    held_at = u.held_at,
    held_s = u.held_s,
    talk_ended_at = u.talk_ended_at,
    wrapup_until = u.wrapup_until,
    extended = u.extended,
    ended_at = u.ended_at,
    outcome = u.outcome,
    code = u.code,
    seat = u.seat,
    thread = u.thread,
    lent_to = u.lent_to
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::text[], $15::uuid[], $16::bigint[], $17::text[], $18::bigint[], $19::text[], $20::bigint[], $21::timestamptz[], $22::text[], $23::text[], $24::text[], $25::text[], $26::uuid[], $27::timestamptz[], $28::timestamptz[], $29::timestamptz[], $30::timestamptz[], $31::timestamptz[], $32::float8[], $33::timestamptz[], $34::timestamptz[], $35::boolean[], $36::timestamptz[], $37::text[], $38::text[], $39::text[], $40::uuid[], $41::uuid[], $42::bigint[])
    AS u (id, case_id, contact, channel, direction, state, held, epoch, revision, call, dialled, trunk, attestation, address, matches, tree, tree_version, queue, priority, since, needs, avoid, language, advisor, offer, opened_at, enqueued_at, offered_at, accepted_at, held_at, held_s, talk_ended_at, wrapup_until, extended, ended_at, outcome, code, seat, thread, lent_to, was)
WHERE t.organisation_id = $1 AND t.id = u.id AND t.revision = u.was AND t.epoch <= u.epoch
RETURNING t.id

-- name: put_message
INSERT INTO message AS t (organisation_id, id, seq, thread, interaction, case_id, contact, account, direction, author, by, kind, external_id, at, sent_at, status, failure, code, reply_to, attached, automatic, standby, tagged, edited, unsent)
SELECT $1, u.id, u.seq, u.thread, u.interaction, u.case_id, u.contact, u.account, u.direction, u.author, u.by, u.kind, u.external_id, u.at, u.sent_at, u.status, u.failure, u.code, u.reply_to, u.attached, u.automatic, u.standby, u.tagged, u.edited, u.unsent
FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::text[], $17::text[], $18::text[], $19::uuid[], $20::bigint[], $21::boolean[], $22::boolean[], $23::boolean[], $24::boolean[], $25::boolean[])
    AS u (id, seq, thread, interaction, case_id, contact, account, direction, author, by, kind, external_id, at, sent_at, status, failure, code, reply_to, attached, automatic, standby, tagged, edited, unsent)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    seq = excluded.seq,
    thread = excluded.thread,
    interaction = excluded.interaction,
    case_id = excluded.case_id,
    contact = excluded.contact,
    account = excluded.account,
    direction = excluded.direction,
    author = excluded.author,
    by = excluded.by,
    kind = excluded.kind,
    external_id = excluded.external_id,
    at = excluded.at,
    sent_at = excluded.sent_at,
    status = excluded.status,
    failure = excluded.failure,
    code = excluded.code,
    reply_to = excluded.reply_to,
    attached = excluded.attached,
    automatic = excluded.automatic,
    standby = excluded.standby,
    tagged = excluded.tagged,
    edited = excluded.edited,
    unsent = excluded.unsent

-- name: put_attachment
INSERT INTO attachment AS t (organisation_id, id, message, case_id, kind, type, bytes, sha256, state, failed)
SELECT $1, u.id, u.message, u.case_id, u.kind, u.type, u.bytes, u.sha256, u.state, u.failed
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[])
    AS u (id, message, case_id, kind, type, bytes, sha256, state, failed)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    message = excluded.message,
    case_id = excluded.case_id,
    kind = excluded.kind,
    type = excluded.type,
    bytes = excluded.bytes,
    sha256 = excluded.sha256,
    state = excluded.state,
    failed = excluded.failed

-- name: put_help
INSERT INTO help AS t (organisation_id, id, interaction, case_id, by, of, at, answered_at, answered_by)
SELECT $1, u.id, u.interaction, u.case_id, u.by, u.of, u.at, u.answered_at, u.answered_by
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::text[])
    AS u (id, interaction, case_id, by, of, at, answered_at, answered_by)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    interaction = excluded.interaction,
    case_id = excluded.case_id,
    by = excluded.by,
    of = excluded.of,
    at = excluded.at,
    answered_at = excluded.answered_at,
    answered_by = excluded.answered_by

-- name: put_account_state
INSERT INTO account_state AS t (organisation_id, account, state, reason, since)
SELECT $1, u.account, u.state, u.reason, u.since
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
    AS u (account, state, reason, since)
ON CONFLICT (organisation_id, account) DO UPDATE SET
    state = excluded.state,
    reason = excluded.reason,
    since = excluded.since

-- name: put_offer
INSERT INTO offer AS t (organisation_id, id, interaction, advisor, epoch, made_at, deadline, how, reason, ended_at, shown_ms, shown_missed)
SELECT $1, u.id, u.interaction, u.advisor, u.epoch, u.made_at, u.deadline, u.how, u.reason, u.ended_at, u.shown_ms, u.shown_missed
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::timestamptz[], $11::bigint[], $12::boolean[])
    AS u (id, interaction, advisor, epoch, made_at, deadline, how, reason, ended_at, shown_ms, shown_missed)
ON CONFLICT (organisation_id, id) DO UPDATE SET
    interaction = excluded.interaction,
    advisor = excluded.advisor,
    epoch = excluded.epoch,
    made_at = excluded.made_at,
    deadline = excluded.deadline,
    how = excluded.how,
    reason = excluded.reason,
    ended_at = excluded.ended_at,
    shown_ms = excluded.shown_ms,
    shown_missed = excluded.shown_missed

-- name: put_advisor_state
INSERT INTO advisor_state AS t (organisation_id, advisor, presence, reason, since, idle_since, misses)
SELECT $1, u.advisor, u.presence, u.reason, u.since, u.idle_since, u.misses
FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bigint[])
    AS u (advisor, presence, reason, since, idle_since, misses)
ON CONFLICT (organisation_id, advisor) DO UPDATE SET
    presence = excluded.presence,
    reason = excluded.reason,
    since = excluded.since,
    idle_since = excluded.idle_since,
    misses = excluded.misses

-- name: put_advisor_reach
INSERT INTO advisor_reach AS t (organisation_id, advisor, channel, reachable, since)
SELECT $1, u.advisor, u.channel, u.reachable, u.since
FROM unnest($2::text[], $3::text[], $4::boolean[], $5::timestamptz[])
    AS u (advisor, channel, reachable, since)
ON CONFLICT (organisation_id, advisor, channel) DO UPDATE SET
    reachable = excluded.reachable,
    since = excluded.since

-- name: put_path_step
INSERT INTO path_step AS t (organisation_id, interaction, step, tree, version, node, exit, seconds, at)
SELECT $1, u.interaction, u.step, u.tree, u.version, u.node, u.exit, u.seconds, u.at
FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::float8[], $9::timestamptz[])
    AS u (interaction, step, tree, version, node, exit, seconds, at)

-- name: put_recording
INSERT INTO recording AS t (organisation_id, id, interaction, at, duration_ms, bytes, complete)
SELECT $1, u.id, u.interaction, u.at, u.duration_ms, u.bytes, u.complete
FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::boolean[])
    AS u (id, interaction, at, duration_ms, bytes, complete)

-- name: put_note
INSERT INTO note AS t (organisation_id, id, case_id, interaction, by, at)
SELECT $1, u.id, u.case_id, u.interaction, u.by, u.at
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[])
    AS u (id, case_id, interaction, by, at)

-- ---- the side tables ---------------------------------------------------------------------------------------------

-- name: side_contact_made
INSERT INTO contact_data (organisation_id, contact) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING

-- name: side_contact_data
UPDATE contact_data AS d SET
    name = coalesce(u.name, d.name),
    sort_name = coalesce(u.sort_name, d.sort_name),
    company = coalesce(u.company, d.company),
    language = coalesce(u.language, d.language),
    vip = coalesce(u.vip, d.vip)
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[])
    AS u (contact, name, sort_name, company, language, vip)
WHERE d.organisation_id = $1 AND d.contact = u.contact

-- name: side_address_data
INSERT INTO address_data (organisation_id, address, contact, kind, value, raw)
SELECT $1, u.* FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[]) AS u

-- name: side_case_data
INSERT INTO case_data AS d (organisation_id, case_id, subject)
SELECT $1, u.* FROM unnest($2::uuid[], $3::text[]) AS u
ON CONFLICT (organisation_id, case_id) DO UPDATE SET subject = excluded.subject

-- name: side_interaction_data
INSERT INTO interaction_data (organisation_id, interaction, received, name)
SELECT $1, u.* FROM unnest($2::uuid[], $3::text[], $4::text[]) AS u

-- name: side_facts
UPDATE interaction_data AS d SET facts = d.facts || u.facts
FROM unnest($2::uuid[], $3::jsonb[]) AS u (interaction, facts)
WHERE d.organisation_id = $1 AND d.interaction = u.interaction

-- name: side_path_data
INSERT INTO path_data (organisation_id, interaction, step, keys)
SELECT $1, u.* FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS u

-- name: side_note_data
INSERT INTO note_data (organisation_id, note, text) SELECT $1, u.* FROM unnest($2::uuid[], $3::text[]) AS u

-- name: side_recording_data
INSERT INTO recording_data (organisation_id, recording, path) SELECT $1, u.* FROM unnest($2::uuid[], $3::text[]) AS u

-- name: side_contact_name
UPDATE contact_data AS d SET name = u.name, sort_name = u.sort_name
FROM unnest($2::uuid[], $3::text[], $4::text[]) AS u (contact, name, sort_name)
WHERE d.organisation_id = $1 AND d.contact = u.contact AND d.name = ''

-- name: side_message_data
INSERT INTO message_data (organisation_id, message, text, html, subject, payload, buttons, extra, folded)
SELECT $1, u.message, u.text, u.html, u.subject, u.payload, u.buttons::jsonb, u.extra, u.folded
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::text[])
    AS u (message, text, html, subject, payload, buttons, extra, folded)

-- name: side_message_changed
UPDATE message_data AS d SET
    text = coalesce(u.text, d.text),
    html = coalesce(u.html, d.html),
    folded = coalesce(u.folded, d.folded),
    reaction = coalesce(u.reaction, d.reaction)
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS u (message, text, html, folded, reaction)
WHERE d.organisation_id = $1 AND d.message = u.message

-- name: side_message_detail
UPDATE message_data AS d SET detail = u.detail
FROM unnest($2::uuid[], $3::text[]) AS u (message, detail)
WHERE d.organisation_id = $1 AND d.message = u.message

-- name: side_attachment_data
INSERT INTO attachment_data (organisation_id, attachment, name, content_id, path)
SELECT $1, u.* FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) AS u

-- name: side_attachment_path
UPDATE attachment_data AS d SET path = u.path
FROM unnest($2::uuid[], $3::text[]) AS u (attachment, path)
WHERE d.organisation_id = $1 AND d.attachment = u.attachment

-- name: side_help_data
INSERT INTO help_data (organisation_id, help, text) SELECT $1, u.* FROM unnest($2::uuid[], $3::text[]) AS u

-- name: side_help_answer
UPDATE help_data AS d SET answer = u.answer
FROM unnest($2::uuid[], $3::text[]) AS u (help, answer)
WHERE d.organisation_id = $1 AND d.help = u.help

-- name: side_walk
INSERT INTO walk (organisation_id, interaction, tree, version, state, consumed)
SELECT $1, u.* FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::jsonb[], $6::bigint[]) AS u
ON CONFLICT (organisation_id, interaction) DO UPDATE SET
    tree = excluded.tree,
    version = excluded.version,
    state = excluded.state,
    consumed = excluded.consumed

-- name: side_outbox
INSERT INTO outbox (organisation_id, message, seq, thread, interaction, account, author, outgoing, not_before)
SELECT $1, u.*
FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::jsonb[], $9::timestamptz[])
    AS u

-- ---- what the desk reads before it decides -------------------------------------------------------------------------

-- name: last_seq
SELECT coalesce(max(seq), 0) FROM event WHERE organisation_id = $1

-- name: event_at
SELECT id FROM event WHERE organisation_id = $1 AND seq = $2

-- name: last_case
SELECT coalesce(max(number), 0) FROM case_file WHERE organisation_id = $1

-- name: submissions
SELECT key, at, first_seq, last_seq, refused FROM submission WHERE organisation_id = $1 AND key = ANY ($2::uuid[])

-- name: events_between
SELECT seq, id, at, type, interaction, case_id, contact, advisor, data FROM event
WHERE organisation_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq

-- name: live_interactions
SELECT * FROM interaction WHERE organisation_id = $1 AND ended_at IS NULL

-- name: interactions_by_id
SELECT * FROM interaction WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: interactions_by_call
SELECT * FROM interaction WHERE organisation_id = $1 AND call = ANY ($2::text[])

-- name: offers_by_id
SELECT * FROM offer WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- With the cases that they are merged into.
-- name: cases_by_id
WITH RECURSIVE up AS (
    SELECT * FROM case_file WHERE organisation_id = $1 AND id = ANY ($2::uuid[])
    UNION
    SELECT c.* FROM case_file c JOIN up ON c.organisation_id = $1 AND c.id = up.merged_into
)
SELECT * FROM up

-- name: merges_by_id
SELECT * FROM contact_merge WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: address_owners
SELECT kind, value, contact, address FROM address_data
WHERE organisation_id = $1 AND (kind, value) IN (SELECT * FROM unnest($2::text[], $3::text[]))

-- All who are one with the given contacts: up to the roots, then down.
-- name: contact_families
WITH RECURSIVE up AS (
    SELECT * FROM contact WHERE organisation_id = $1 AND id = ANY ($2::uuid[])
    UNION
    SELECT c.* FROM contact c JOIN up ON c.organisation_id = $1 AND c.id = up.merged_into
), family AS (
    SELECT * FROM up
    UNION
    SELECT c.* FROM contact c JOIN family f ON c.organisation_id = $1 AND c.merged_into = f.id
)
SELECT f.*, coalesce(d.vip, false) AS vip
FROM family f LEFT JOIN contact_data d ON d.organisation_id = $1 AND d.contact = f.id

-- Every case that is not over, and the last three that are, with the cases that they are merged into.
-- name: cases_of_contacts
WITH RECURSIVE up AS (
    SELECT c.* FROM unnest($2::uuid[]) AS who (contact) CROSS JOIN LATERAL (
        (SELECT * FROM case_file f
         WHERE f.organisation_id = $1 AND f.contact = who.contact AND f.state IN ('open', 'waiting'))
        UNION ALL
        (SELECT * FROM case_file f
         WHERE f.organisation_id = $1 AND f.contact = who.contact AND f.state IN ('solved', 'closed')
         ORDER BY f.closed_at DESC LIMIT 3)
    ) AS c
    UNION
    SELECT c.* FROM case_file c JOIN up ON c.organisation_id = $1 AND c.id = up.merged_into
)
SELECT * FROM up

-- name: addresses_of_contacts
SELECT * FROM address WHERE organisation_id = $1 AND contact = ANY ($2::uuid[])

-- name: merges_of_contacts
SELECT * FROM contact_merge WHERE organisation_id = $1 AND contact = ANY ($2::uuid[]) AND undone_at IS NULL

-- name: advisors
SELECT * FROM advisor_state WHERE organisation_id = $1

-- name: reaches
SELECT * FROM advisor_reach WHERE organisation_id = $1

-- name: account_states
SELECT * FROM account_state WHERE organisation_id = $1

-- name: threads_by_id
SELECT * FROM thread WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- OFFSET 0 here and below: each is looked for by its index, also while the planner believes that the table is small.
-- name: threads_by_peer
SELECT DISTINCT t.* FROM unnest($2::text[], $3::text[], $4::text[]) AS w (account, kind, value)
CROSS JOIN LATERAL (
    SELECT a.address FROM address_data a
    WHERE a.organisation_id = $1 AND a.kind = w.kind AND a.value = w.value OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT * FROM thread t WHERE t.organisation_id = $1 AND t.account = w.account AND t.address = a.address OFFSET 0
) AS t

-- name: threads_by_address
SELECT t.* FROM unnest($2::text[], $3::uuid[]) AS w (account, address)
CROSS JOIN LATERAL (
    SELECT * FROM thread t WHERE t.organisation_id = $1 AND t.account = w.account AND t.address = w.address OFFSET 0
) AS t

-- Those that live, and of each thread the one that was opened last.
-- name: interactions_of_threads
SELECT i.* FROM unnest($2::uuid[]) AS w (thread) CROSS JOIN LATERAL (
    SELECT * FROM interaction l WHERE l.organisation_id = $1 AND l.thread = w.thread
    ORDER BY l.opened_at DESC, l.id DESC LIMIT 1
) AS i
UNION
SELECT * FROM interaction WHERE organisation_id = $1 AND thread = ANY ($2::uuid[]) AND ended_at IS NULL

-- name: addresses_by_id
SELECT * FROM address WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: address_values
SELECT address, kind, value FROM address_data WHERE organisation_id = $1 AND address = ANY ($2::uuid[])

-- name: messages_by_id
SELECT * FROM message WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: messages_by_external_id
SELECT m.* FROM unnest($2::text[], $3::text[]) AS w (account, external_id)
CROSS JOIN LATERAL (
    SELECT * FROM message m
    WHERE m.organisation_id = $1 AND m.account = w.account AND m.external_id = w.external_id OFFSET 0
) AS m

-- Messages that bear the external id which one of ours, of the same account, is to have.
-- name: namesakes
SELECT m.* FROM unnest($2::uuid[], $3::text[]) AS w (message, external_id)
CROSS JOIN LATERAL (
    SELECT o.account FROM message o WHERE o.organisation_id = $1 AND o.id = w.message OFFSET 0
) AS o
CROSS JOIN LATERAL (
    SELECT * FROM message m
    WHERE m.organisation_id = $1 AND m.account = o.account AND m.external_id = w.external_id OFFSET 0
) AS m

-- name: messages_of_interactions
SELECT * FROM message WHERE organisation_id = $1 AND interaction = ANY ($2::uuid[])

-- name: attachments_by_id
SELECT * FROM attachment WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: attachments_of_interactions
SELECT a.* FROM message m JOIN attachment a ON a.organisation_id = $1 AND a.message = m.id
WHERE m.organisation_id = $1 AND m.interaction = ANY ($2::uuid[])

-- name: helps_by_id
SELECT * FROM help WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: helps_of_interactions
SELECT * FROM help WHERE organisation_id = $1 AND interaction = ANY ($2::uuid[])

-- name: case_merges_by_id
SELECT * FROM case_merge WHERE organisation_id = $1 AND id = ANY ($2::uuid[])
