-- What the stores of routing/store.py read and write. $1 is always the organisation.

-- name: phone_secret
SELECT account, realm, ha1_md5, ha1_sha256 FROM phone_account WHERE organisation_id = $1 AND account = $2

-- name: phone_secrets
SELECT account, realm, ha1_md5, ha1_sha256 FROM phone_account WHERE organisation_id = $1

-- name: set_phone_secret
INSERT INTO phone_account (organisation_id, account, realm, ha1_md5, ha1_sha256, changed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (organisation_id, account) DO UPDATE SET
    realm = excluded.realm, ha1_md5 = excluded.ha1_md5, ha1_sha256 = excluded.ha1_sha256, changed_at = excluded.changed_at

-- name: tell_phone_secret
SELECT pg_notify($2, $1::uuid::text || ' phone')

-- name: phone_secrets_revision
SELECT count(*), max(changed_at) FROM phone_account WHERE organisation_id = $1

-- name: bindings
SELECT account, contact, params, transport, host, port, call_id, cseq, instance, user_agent, expires_at
FROM phone_binding WHERE organisation_id = $1 ORDER BY account, expires_at, contact

-- name: forget_bindings
DELETE FROM phone_binding WHERE organisation_id = $1 AND account = ANY ($2::text[])

-- name: replace_bindings
WITH given AS (
    SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::text[],
        $10::bigint[], $11::text[], $12::text[], $13::timestamptz[])
    AS t (account, contact, params, transport, host, port, call_id, cseq, instance, user_agent, expires_at)
), gone AS (
    DELETE FROM phone_binding b WHERE organisation_id = $1 AND account = ANY ($2::text[])
        AND NOT EXISTS (SELECT FROM given g WHERE g.account = b.account AND g.contact = b.contact)
)
INSERT INTO phone_binding (organisation_id, account, contact, params, transport, host, port, call_id, cseq, instance,
    user_agent, expires_at)
SELECT $1, given.* FROM given
ON CONFLICT (organisation_id, account, contact) DO UPDATE SET
    params = excluded.params, transport = excluded.transport, host = excluded.host, port = excluded.port,
    call_id = excluded.call_id, cseq = excluded.cseq, instance = excluded.instance, user_agent = excluded.user_agent,
    expires_at = excluded.expires_at

-- name: password_hash
SELECT password_hash FROM person WHERE organisation_id = $1 AND login = $2

-- name: set_password_hash
INSERT INTO person (organisation_id, login, password_hash, changed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (organisation_id, login) DO UPDATE SET
    password_hash = excluded.password_hash, changed_at = excluded.changed_at

-- name: end_sessions_of
DELETE FROM web_session WHERE organisation_id = $1 AND login = $2

-- name: logins
SELECT login FROM person WHERE organisation_id = $1 ORDER BY login

-- name: add_session
INSERT INTO web_session (organisation_id, token_hash, login, csrf, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: end_expired_sessions
DELETE FROM web_session WHERE organisation_id = $1 AND expires_at <= $2

-- name: session
SELECT token_hash, login, csrf, created_at, expires_at FROM web_session
WHERE organisation_id = $1 AND token_hash = $2 AND expires_at > $3

-- name: end_session
DELETE FROM web_session WHERE organisation_id = $1 AND token_hash = $2

-- name: current_site
SELECT version, at, by, document FROM site WHERE organisation_id = $1 ORDER BY version DESC LIMIT 1

-- name: site_version
SELECT version, at, by, document FROM site WHERE organisation_id = $1 AND version = $2

-- name: site_number
SELECT coalesce(max(version), 0) FROM site WHERE organisation_id = $1

-- name: add_site
INSERT INTO site (organisation_id, version, at, by, document) VALUES ($1, $2, $3, $4, $5)

-- name: current_trees
SELECT DISTINCT ON (id) id, version, at, by, note, document FROM tree
WHERE organisation_id = $1 ORDER BY id, version DESC

-- name: current_tree
SELECT id, version, at, by, note, document FROM tree
WHERE organisation_id = $1 AND id = $2 ORDER BY version DESC LIMIT 1

-- name: tree_version
SELECT id, version, at, by, note, document FROM tree WHERE organisation_id = $1 AND id = $2 AND version = $3

-- name: tree_versions
SELECT id, version, at, by, note, document FROM tree WHERE organisation_id = $1 AND id = $2 ORDER BY version DESC

-- name: add_tree
INSERT INTO tree (organisation_id, id, version, at, by, note, document) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: node_counts
SELECT tree, version, node, exit, width_bucket(seconds, $4::float8[]) AS bucket, count(*)
FROM path_step WHERE organisation_id = $1 AND at >= $2 AND at < $3 GROUP BY 1, 2, 3, 4, 5

-- name: whole_cases
SELECT t.*, cardinality(among.cases) AS members, ARRAY(SELECT DISTINCT i.channel FROM interaction i
    WHERE i.organisation_id = $1 AND i.case_id = ANY (among.cases) ORDER BY 1) AS all_channels
FROM case_told t CROSS JOIN LATERAL (SELECT ARRAY(SELECT cases_in($1, t.id)) AS cases OFFSET 0) AS among
WHERE t.organisation_id = $1 AND t.id = ANY ($2::uuid[])

-- name: merges_into_cases
SELECT into_, m.id, m.case_id, c.number, m.by, m.at
FROM unnest($2::uuid[]) AS into_ CROSS JOIN LATERAL (SELECT cases_in($1, into_) AS case_id OFFSET 0) AS among
JOIN case_merge m ON m.organisation_id = $1 AND m.case_id = among.case_id AND m.undone_at IS NULL AND m.case_id <> into_
JOIN case_file c ON c.organisation_id = $1 AND c.id = m.case_id
ORDER BY m.at, m.id

-- name: cases_by_id
SELECT * FROM case_told WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: cases
SELECT * FROM case_told
WHERE organisation_id = $1 AND merged_into IS NULL
    AND ($2::text IS NULL OR state = $2)
    AND ($3::uuid IS NULL OR contact IN (SELECT family_of($1, ARRAY[$3::uuid])))
    AND ($4::text = '' OR strpos(lower(subject), lower($4)) > 0 OR strpos(sort_name, $5) > 0 OR number::text = $4
        OR contact IN (SELECT a.contact FROM address_data a WHERE a.organisation_id = $1 AND a.value = $6))
    AND ($7::timestamptz IS NULL OR (changed_at, id) < ($7, $8::uuid))
ORDER BY changed_at DESC, id DESC LIMIT $9

-- name: open_cases_of
SELECT * FROM case_told
WHERE organisation_id = $1 AND contact IN (SELECT family_of($1, $2::uuid[])) AND state IN ('open', 'waiting')
    AND merged_into IS NULL
ORDER BY changed_at DESC, id DESC LIMIT 20

-- name: interactions_of_case
SELECT * FROM interaction_told WHERE organisation_id = $1 AND case_id = ANY (ARRAY(SELECT cases_in($1, $2)))
ORDER BY opened_at, id

-- name: interactions_of_contacts
SELECT * FROM interaction_told
WHERE organisation_id = $1 AND contact IN (SELECT family_of($1, $2::uuid[])) AND id IS DISTINCT FROM $3
ORDER BY opened_at DESC, id DESC LIMIT $4

-- name: interactions
SELECT t.* FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, place)
JOIN interaction_told t ON t.organisation_id = $1 AND t.id = wanted.id ORDER BY wanted.place

-- name: persons
SELECT c.id, c.provisional, c.draft, coalesce(d.name, '') AS name, coalesce(d.company, '') AS company,
    coalesce(d.vip, false) AS vip, d.language
FROM contact c LEFT JOIN contact_data d ON d.organisation_id = c.organisation_id AND d.contact = c.id
WHERE c.organisation_id = $1 AND c.id IN (SELECT person_of($1, one) FROM unnest($2::uuid[]) AS one)
ORDER BY d.sort_name, c.id

-- name: languages_in
SELECT i.id, (
    SELECT d.language FROM contact_data d
    WHERE d.organisation_id = $1 AND d.contact = CASE WHEN c.merged_into IS NULL THEN c.id ELSE person_of($1, c.id) END
) AS language
FROM interaction i JOIN contact c ON c.organisation_id = i.organisation_id AND c.id = i.contact
WHERE i.organisation_id = $1 AND i.id = ANY ($2::uuid[])

-- name: find_contacts
SELECT d.contact FROM contact_data d JOIN contact c ON c.organisation_id = d.organisation_id AND c.id = d.contact
WHERE d.organisation_id = $1 AND NOT c.provisional
    AND (strpos(d.sort_name, $2) > 0 OR strpos(lower(d.company), $2) > 0
        OR d.contact IN (SELECT a.contact FROM address_data a WHERE a.organisation_id = $1 AND a.value = $3))
ORDER BY d.sort_name, d.contact LIMIT $4

-- name: contacts_by_address
SELECT a.contact FROM address_data a JOIN contact c ON c.organisation_id = a.organisation_id AND c.id = a.contact
WHERE a.organisation_id = $1 AND a.kind = $2 AND a.value = $3 AND NOT c.provisional ORDER BY c.created_at, c.id

-- name: family
SELECT family_of($1, ARRAY[$2::uuid]) AS id

-- name: addresses
SELECT a.id, d.kind, d.value, d.raw FROM address a
JOIN address_data d ON d.organisation_id = a.organisation_id AND d.address = a.id
WHERE a.organisation_id = $1 AND a.contact = ANY ($2::uuid[]) ORDER BY a.created_at, a.id

-- name: address
SELECT address AS id, kind, value, raw FROM address_data WHERE organisation_id = $1 AND address = $2

-- name: merges
SELECT m.id AS merge, m.contact, coalesce(d.name, '') AS name, m.into_contact AS into_, m.by, m.reason, m.at
FROM contact_merge m LEFT JOIN contact_data d ON d.organisation_id = m.organisation_id AND d.contact = m.contact
WHERE m.organisation_id = $1 AND m.contact = ANY ($2::uuid[]) AND m.undone_at IS NULL ORDER BY m.at, m.id

-- name: case_events
SELECT seq, id, at, type, interaction, case_id, contact, advisor, data FROM event
WHERE organisation_id = $1
    AND (case_id = ANY (ARRAY(SELECT cases_in($1, $2))) OR interaction = ANY (ARRAY(SELECT i.id FROM interaction i
        WHERE i.organisation_id = $1 AND i.case_id = ANY (ARRAY(SELECT cases_in($1, $2))))))
ORDER BY seq

-- name: interaction_events
SELECT seq, id, at, type, interaction, case_id, contact, advisor, data FROM event
WHERE organisation_id = $1 AND interaction = $2 AND seq > $3 ORDER BY seq

-- name: notes_of_case
SELECT n.id, d.text FROM note n JOIN note_data d ON d.organisation_id = n.organisation_id AND d.note = n.id
WHERE n.organisation_id = $1 AND n.case_id IN (SELECT cases_in($1, $2))

-- name: path
SELECT p.interaction, p.tree, p.version, p.node, p.exit, p.seconds, coalesce(d.keys, '') AS keys, p.at
FROM path_step p LEFT JOIN path_data d
    ON d.organisation_id = p.organisation_id AND d.interaction = p.interaction AND d.step = p.step
WHERE p.organisation_id = $1 AND p.interaction = ANY ($2::uuid[]) ORDER BY p.step

-- name: interaction_ids_of_case
SELECT id FROM interaction WHERE organisation_id = $1 AND case_id IN (SELECT cases_in($1, $2))

-- name: chosen
SELECT EXISTS (SELECT FROM event WHERE organisation_id = $1 AND interaction = $2 AND type = 'contact.chosen')

-- name: why
SELECT o.id AS offer, o.advisor, o.made_at, o.how, o.reason, o.epoch, o.ended_at, e.data -> 'why' AS why
FROM event e JOIN offer o ON o.organisation_id = e.organisation_id AND o.id = (e.data ->> 'offer')::uuid
WHERE e.organisation_id = $1 AND e.interaction = $2 AND e.type = 'offer.made' ORDER BY e.seq

-- name: recording
SELECT r.id, r.interaction, i.case_id, r.at, r.duration_ms, r.bytes, r.complete, d.path
FROM recording r
JOIN recording_data d ON d.organisation_id = r.organisation_id AND d.recording = r.id
JOIN interaction i ON i.organisation_id = r.organisation_id AND i.id = r.interaction
WHERE r.organisation_id = $1 AND r.id = $2

-- name: recordings_of
SELECT r.id, r.interaction, i.case_id, r.at, r.duration_ms, r.bytes, r.complete, d.path
FROM recording r
JOIN recording_data d ON d.organisation_id = r.organisation_id AND d.recording = r.id
JOIN interaction i ON i.organisation_id = r.organisation_id AND i.id = r.interaction
WHERE r.organisation_id = $1 AND r.interaction = $2 ORDER BY r.at, r.id

-- name: events_after
SELECT seq, id, at, type, interaction, case_id, contact, advisor, data FROM event
WHERE organisation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- name: last_seq
SELECT coalesce(max(seq), 0) FROM event WHERE organisation_id = $1

-- name: organisation
SELECT id FROM organisation WHERE short = $1

-- name: organisations
SELECT short, id FROM organisation ORDER BY short

-- name: messages
SELECT * FROM message_told WHERE organisation_id = $1 AND id = ANY ($2::uuid[])

-- name: messages_of_case
SELECT * FROM (
    SELECT * FROM message_told WHERE organisation_id = $1 AND case_id = ANY (ARRAY(SELECT cases_in($1, $2)))
    ORDER BY seq DESC LIMIT $3
) AS last ORDER BY seq

-- name: messages_of_interaction
SELECT * FROM message_told WHERE organisation_id = $1 AND interaction = $2 ORDER BY seq

-- name: messages_after
SELECT * FROM message_told WHERE organisation_id = $1 AND interaction = $2 AND seq > $3 AND direction = 'in' ORDER BY seq

-- name: messages_of_thread
SELECT * FROM message_told WHERE organisation_id = $1 AND thread = $2 AND seq > $3 ORDER BY seq LIMIT $4

-- name: attachments
SELECT a.id, a.message, a.case_id, a.kind, coalesce(d.name, '') AS name, a.type, a.bytes, a.state,
    coalesce(d.path, '') AS path, coalesce(d.content_id, '') AS content_id
FROM attachment a LEFT JOIN attachment_data d ON d.organisation_id = a.organisation_id AND d.attachment = a.id
WHERE a.organisation_id = $1

-- name: attachments_of
:attachments AND a.message = ANY ($2::uuid[]) ORDER BY a.id

-- name: attachment
:attachments AND a.id = $2

-- name: known_messages
SELECT m.* FROM unnest($2::text[], $3::text[]) AS w (account, external_id) CROSS JOIN LATERAL (
    SELECT id, external_id, thread, interaction, case_id, direction, status, 0 AS part, account FROM message m
    WHERE m.organisation_id = $1 AND m.account = w.account AND m.external_id = w.external_id OFFSET 0
) AS m
UNION ALL
SELECT m.id, p.external_id, m.thread, m.interaction, m.case_id, m.direction, m.status, p.part, m.account
FROM unnest($2::text[], $3::text[]) AS w (account, external_id) CROSS JOIN LATERAL (
    SELECT message, external_id, part FROM message_part p
    WHERE p.organisation_id = $1 AND p.account = w.account AND p.external_id = w.external_id OFFSET 0
) AS p
JOIN message m ON m.organisation_id = $1 AND m.id = p.message

-- A provider's mark of "read until" speaks of what had left us by then.
-- name: ours_until
SELECT m.id, coalesce(m.external_id, ''), m.thread, m.interaction, m.case_id, m.direction, m.status
FROM address_data a
JOIN thread t ON t.organisation_id = a.organisation_id AND t.address = a.address AND t.account = $2
JOIN message m ON m.organisation_id = t.organisation_id AND m.thread = t.id
WHERE a.organisation_id = $1 AND a.kind = $3 AND a.value = $4 AND m.direction = 'out'
    AND m.status IN ('sent', 'delivered') AND coalesce(m.sent_at, m.at) <= $5
ORDER BY m.seq

-- name: threads
SELECT t.id, t.account, t.channel, t.address, coalesce(d.kind, a.kind) AS kind, coalesce(d.value, '') AS value, a.contact,
    t.live, t.last_in_at, t.last_out, t.beside
FROM thread t
JOIN address a ON a.organisation_id = t.organisation_id AND a.id = t.address
LEFT JOIN address_data d ON d.organisation_id = t.organisation_id AND d.address = t.address
WHERE t.organisation_id = $1 AND t.id = ANY ($2::uuid[])

-- name: thread_with
SELECT t.id, t.account, t.channel, t.address, d.kind, d.value, a.contact, t.live, t.last_in_at, t.last_out,
    t.beside
FROM address_data d
JOIN thread t ON t.organisation_id = d.organisation_id AND t.address = d.address
JOIN address a ON a.organisation_id = d.organisation_id AND a.id = d.address
WHERE d.organisation_id = $1 AND t.account = $2 AND d.kind = $3 AND d.value = $4
ORDER BY t.live IS NULL, t.last_in_at DESC NULLS LAST LIMIT 1

-- name: threads_of_case
SELECT t.id, t.account, t.channel, t.address, coalesce(d.kind, a.kind) AS kind, coalesce(d.value, '') AS value, a.contact,
    t.live, t.last_in_at, t.last_out, t.beside
FROM thread t
JOIN address a ON a.organisation_id = t.organisation_id AND a.id = t.address
LEFT JOIN address_data d ON d.organisation_id = t.organisation_id AND d.address = t.address
WHERE t.organisation_id = $1 AND t.id IN (SELECT i.thread FROM interaction i
    WHERE i.organisation_id = $1 AND i.case_id = ANY (ARRAY(SELECT cases_in($1, $2))))
ORDER BY t.opened_at, t.id

-- name: case_of_number
SELECT surviving_case($1, id) FROM case_file WHERE organisation_id = $1 AND number = $2

-- name: cases_by_subject
SELECT DISTINCT surviving_case($1, m.case_id)
FROM address_data a
JOIN thread t ON t.organisation_id = a.organisation_id AND t.address = a.address AND t.account = $2
JOIN message m ON m.organisation_id = t.organisation_id AND m.thread = t.id AND m.direction = 'in' AND m.at >= $5
JOIN message_data d ON d.organisation_id = m.organisation_id AND d.message = m.id
WHERE a.organisation_id = $1 AND a.value = ANY ($3::text[])
    AND trim(regexp_replace(lower(d.subject), '^(\s*(re|ré|réf|tr|fw|fwd|aw|wg)\s*(\[\d+\])?\s*:)+', '')) = $4
LIMIT 2

-- name: automatic_since
SELECT count(*)
FROM address_data a
JOIN thread t ON t.organisation_id = a.organisation_id AND t.address = a.address AND t.account = $2
JOIN message m ON m.organisation_id = t.organisation_id AND m.thread = t.id
WHERE a.organisation_id = $1 AND a.value = ANY ($3::text[]) AND m.direction = 'out' AND m.automatic AND m.at >= $4

-- name: walk
SELECT interaction, tree, version, state, consumed FROM walk WHERE organisation_id = $1 AND interaction = $2

-- name: live_walks
SELECT i.id FROM interaction i
WHERE i.organisation_id = $1 AND i.ended_at IS NULL AND i.thread IS NOT NULL AND (i.state IN ('opened', 'qualifying')
    OR i.state IN ('waiting', 'offered')
        AND EXISTS (SELECT FROM walk w WHERE w.organisation_id = i.organisation_id AND w.interaction = i.id)
    OR i.state = 'active' AND EXISTS (
        SELECT FROM walk w WHERE w.organisation_id = i.organisation_id AND w.interaction = i.id AND NOT EXISTS (
            SELECT FROM path_step s
            WHERE s.organisation_id = i.organisation_id AND s.interaction = i.id AND s.step > w.consumed
                AND s.exit = 'accepted'
        )
    ))
ORDER BY i.opened_at, i.id

-- name: channel_secrets
SELECT name, value FROM channel_secret WHERE organisation_id = $1 AND account = $2

-- name: set_channel_secret
INSERT INTO channel_secret (organisation_id, account, name, value, changed_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (organisation_id, account, name) DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at

-- name: channel_secret_names
SELECT account, name FROM channel_secret WHERE organisation_id = $1

-- name: channel_accounts
SELECT e ->> 'id' AS account
FROM (SELECT document FROM site WHERE organisation_id = $1 ORDER BY version DESC LIMIT 1) AS now
CROSS JOIN LATERAL json_array_elements(now.document -> 'accounts') AS e

-- name: inbox_filters
b.organisation_id = $1
    AND ($2::text = 'mine' OR $3::text IS NULL OR b.advisor = $3)
        AND (cardinality($4::text[]) = 0 OR b.channels && $4)
        AND (cardinality($5::text[]) = 0 OR b.queue = ANY ($5))
        AND (cardinality($6::text[]) = 0 OR b.state = ANY ($6))
        AND (cardinality($7::text[]) = 0 OR b.tags ?| $7)
        AND ($8::timestamptz IS NULL OR b.unanswered_since <= $8)
        AND ($14::timestamptz IS NULL OR (b.last_at, b.case_id) < ($14, $15::uuid))

-- The rows of the cases that one of the two statements after it chooses.
-- name: inbox_told
SELECT i.case_id, c.number, coalesce(s.subject, '') AS subject, i.state, i.tags, person.id AS contact,
    coalesce(d.name, '') AS contact_name, coalesce(d.vip, false) AS vip, i.channels, i.interaction,
    shown.state AS interaction_state, shown.channel AS interaction_channel, shown.queue, shown.advisor, i.last_at,
    coalesce(w.text, '') AS last_text, coalesce(m.author, '') AS last_author, i.unanswered_since, c.opened_at,
    coalesce(a.value, '') AS address, coalesce(a.kind, '') AS address_kind,
    coalesce(shown.ended_at, CASE
        WHEN shown.state IN ('waiting', 'offered') THEN shown.enqueued_at
        WHEN shown.state = 'active' THEN shown.accepted_at
        WHEN shown.state = 'wrapup' THEN shown.talk_ended_at
    END, shown.opened_at) AS interaction_since
FROM (
:chosen
) AS chosen
JOIN inbox i ON i.organisation_id = $1 AND i.case_id = chosen.case_id
JOIN case_file c ON c.organisation_id = $1 AND c.id = i.case_id
CROSS JOIN LATERAL (SELECT person_of($1, c.contact) AS id) person
LEFT JOIN case_data s ON s.organisation_id = $1 AND s.case_id = i.case_id
LEFT JOIN contact_data d ON d.organisation_id = $1 AND d.contact = person.id
LEFT JOIN interaction shown ON shown.organisation_id = $1 AND shown.id = i.interaction
LEFT JOIN address_data a ON a.organisation_id = $1 AND a.address = shown.address
LEFT JOIN message m ON m.organisation_id = $1 AND m.id = i.last_message
LEFT JOIN message_data w ON w.organisation_id = $1 AND w.message = i.last_message
ORDER BY i.last_at DESC, i.case_id DESC

-- The newest that pass the filters, and of these $17 those with the words: enough where the words are frequent.
-- name: inbox_newest
SELECT n.case_id FROM (
    SELECT b.case_id, b.last_at FROM inbox b WHERE :inbox_filters
    ORDER BY b.last_at DESC, b.case_id DESC LIMIT $17
) n
LEFT JOIN inbox_data d ON d.organisation_id = $1 AND d.case_id = n.case_id AND $9
LEFT JOIN case_file c ON c.organisation_id = $1 AND c.id = n.case_id AND $9
LEFT JOIN contact k ON k.organisation_id = $1 AND k.id = c.contact
LEFT JOIN contact_data p ON p.organisation_id = $1
    AND p.contact = CASE WHEN k.merged_into IS NULL THEN k.id ELSE person_of($1, k.id) END
WHERE NOT $9::boolean OR d.words @@ words_wanted($10, $11)
    OR to_tsvector('simple', p.sort_name) @@ words_wanted($10, $11)
    OR n.case_id IN (SELECT cases_named($1, '', $12, $13))
ORDER BY n.last_at DESC, n.case_id DESC LIMIT $16

-- From few candidates, those that pass the filters: enough where a view is asked for, or the words are rare.
-- name: inbox_among
SELECT b.case_id FROM (SELECT DISTINCT inbox_candidates($1, $2, $3, words_wanted($10, $11), $12, $13) AS id) AS few
JOIN inbox b ON b.organisation_id = $1 AND b.case_id = few.id
LEFT JOIN inbox_data d ON d.organisation_id = $1 AND d.case_id = few.id AND $2 <> 'all' AND $9
WHERE :inbox_filters
    AND (NOT $9::boolean OR $2 = 'all' OR d.words @@ words_wanted($10, $11)
        OR b.case_id IN (SELECT cases_named($1, words_wanted($10, $11), $12, $13)))
ORDER BY b.last_at DESC, b.case_id DESC LIMIT $16

-- name: inbox_counts
WITH live AS (
    SELECT i.advisor, i.state, CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case($1, c.id) END AS root
    FROM interaction i JOIN case_file c ON c.organisation_id = $1 AND c.id = i.case_id
    WHERE i.organisation_id = $1 AND i.ended_at IS NULL
)
SELECT count(DISTINCT root) FILTER (WHERE advisor = $2 AND state <> 'offered') AS mine,
    count(DISTINCT root) FILTER (WHERE advisor IS NULL OR state = 'offered') AS unassigned,
    (SELECT count(*) FROM inbox WHERE organisation_id = $1) AS "all",
    count(DISTINCT root) FILTER (WHERE state IN ('waiting', 'offered')) AS waiting,
    (SELECT count(*) FROM cases_in_view($1, 'help', $2)) AS help
FROM live

-- name: open_helps
SELECT h.id, h.interaction, h.case_id, c.number, h.by, h.of, h.at, coalesce(d.text, ''), h.answered_at, h.answered_by,
    coalesce(d.answer, '')
FROM help h
JOIN case_file c ON c.organisation_id = h.organisation_id AND c.id = h.case_id
LEFT JOIN help_data d ON d.organisation_id = h.organisation_id AND d.help = h.id
WHERE h.organisation_id = $1 AND h.answered_at IS NULL ORDER BY h.at, h.id

-- name: helps_of_case
SELECT h.id, h.interaction, h.case_id, c.number, h.by, h.of, h.at, coalesce(d.text, ''), h.answered_at, h.answered_by,
    coalesce(d.answer, '')
FROM help h
JOIN case_file c ON c.organisation_id = h.organisation_id AND c.id = h.case_id
LEFT JOIN help_data d ON d.organisation_id = h.organisation_id AND d.help = h.id
WHERE h.organisation_id = $1 AND h.case_id IN (SELECT cases_in($1, $2)) ORDER BY h.at, h.id

-- name: proposals
WITH mine AS (SELECT family_of($1, ARRAY[$2::uuid]) AS id), alike AS (
    SELECT b.contact, CASE WHEN a.kind = 'phone' THEN 'same_phone' ELSE 'same_email' END AS why, a.value
    FROM address_data a
    JOIN address_data b ON b.organisation_id = a.organisation_id AND b.kind = a.kind AND b.value = a.value
    WHERE a.organisation_id = $1 AND a.contact IN (SELECT id FROM mine) AND a.kind IN ('phone', 'email', 'mail')
        AND a.value <> ''
    UNION
    SELECT b.contact, 'same_name', b.name
    FROM contact_data a JOIN contact_data b ON b.organisation_id = a.organisation_id AND b.sort_name = a.sort_name
    WHERE a.organisation_id = $1 AND a.contact IN (SELECT id FROM mine) AND a.sort_name <> ''
)
SELECT * FROM (
    SELECT DISTINCT person.id AS contact, coalesce(d.name, '') AS name, alike.why, alike.value
    FROM alike
    JOIN contact c ON c.organisation_id = $1 AND c.id = alike.contact AND NOT c.provisional
    CROSS JOIN LATERAL (SELECT person_of($1, alike.contact) AS id) person
    LEFT JOIN contact_data d ON d.organisation_id = $1 AND d.contact = person.id
    WHERE alike.contact NOT IN (SELECT id FROM mine)
) AS found
ORDER BY why = 'same_name', why, name, contact LIMIT 20

-- name: account_states
SELECT account, state, reason, since FROM account_state WHERE organisation_id = $1 ORDER BY account

-- Those that lived in the interval; what their threads held before, and what became of their cases after it.
-- name: figure_interactions
WITH core AS (
    SELECT id, thread, case_id FROM interaction
    WHERE organisation_id = $1 AND opened_at < $3 AND (ended_at IS NULL OR ended_at >= $2)
)
SELECT id FROM core
UNION
SELECT i.id FROM core JOIN interaction i ON i.organisation_id = $1 AND i.thread = core.thread
WHERE i.ended_at >= $4 AND i.ended_at < $2
UNION
SELECT i.id FROM core JOIN interaction i ON i.organisation_id = $1 AND i.case_id = core.case_id
WHERE i.opened_at >= $3 AND i.opened_at < $5

-- With what was done to their cases as a whole, also after these were merged: told as of the case they are in.
-- name: figure_events
SELECT seq, id, at, type, interaction, case_id, contact, advisor, data FROM event
WHERE organisation_id = $1 AND interaction = ANY ($2::uuid[]) AND type = ANY ($3::text[])
UNION ALL
SELECT e.seq, e.id, e.at, e.type, e.interaction, w.id AS case_id, e.contact, e.advisor, e.data
FROM (
    SELECT c.id, CASE WHEN c.merged_into IS NULL THEN c.id ELSE surviving_case($1, c.id) END AS root FROM case_file c
    WHERE c.organisation_id = $1 AND c.id IN (
        SELECT i.case_id FROM interaction i WHERE i.organisation_id = $1 AND i.id = ANY ($2::uuid[]))
) AS w
JOIN event e ON e.organisation_id = $1 AND e.case_id IN (w.id, w.root) AND e.interaction IS NULL
    AND (e.type = 'note.added' OR e.type = 'case.changed' AND e.data ->> 'tags' IS NOT NULL)
ORDER BY seq

-- name: figure_lines
SELECT m.id, m.thread, m.interaction, m.case_id, t.channel, m.author, m.by, m.at, m.sent_at, m.status, m.automatic, m.standby
FROM message m JOIN thread t ON t.organisation_id = m.organisation_id AND t.id = m.thread
WHERE m.organisation_id = $1 AND m.interaction = ANY ($2::uuid[]) ORDER BY m.seq
