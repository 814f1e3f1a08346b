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

-- name: case
SELECT * FROM case_told WHERE organisation_id = $1 AND id = $2

-- name: cases
SELECT * FROM case_told
WHERE organisation_id = $1
    AND ($2::text IS NULL OR state = $2)
    AND ($3::uuid IS NULL OR contact IN (SELECT family_of($1, ARRAY[$3::uuid])))
    AND ($4::text = '' OR strpos(lower(subject), lower($4)) > 0 OR strpos(sort_name, $5) > 0 OR number::text = $4
        OR contact IN (SELECT a.contact FROM address_data a WHERE a.organisation_id = $1 AND a.value = $6))
    AND ($7::timestamptz IS NULL OR (changed_at, id) < ($7, $8::uuid))
ORDER BY changed_at DESC, id DESC LIMIT $9

-- name: open_cases_of
SELECT * FROM case_told
WHERE organisation_id = $1 AND contact IN (SELECT family_of($1, $2::uuid[])) AND state IN ('open', 'waiting')
ORDER BY changed_at DESC, id DESC LIMIT 20

-- name: interactions_of_case
SELECT * FROM interaction_told WHERE organisation_id = $1 AND case_id = $2 ORDER BY opened_at, id

-- name: interactions_of_contacts
SELECT * FROM interaction_told
WHERE organisation_id = $1 AND contact IN (SELECT family_of($1, $2::uuid[])) AND id IS DISTINCT FROM $3
ORDER BY opened_at DESC, id DESC LIMIT $4

-- name: interactions
SELECT t.* FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, place)
JOIN interaction_told t ON t.organisation_id = $1 AND t.id = wanted.id ORDER BY wanted.place

-- name: interaction
SELECT * FROM interaction_told WHERE organisation_id = $1 AND id = $2

-- name: persons
SELECT c.id, c.provisional, c.draft, coalesce(d.name, '') AS name, coalesce(d.company, '') AS company,
    coalesce(d.vip, false) AS vip, d.language
FROM contact c LEFT JOIN contact_data d ON d.organisation_id = c.organisation_id AND d.contact = c.id
WHERE c.organisation_id = $1 AND c.id IN (SELECT person_of($1, one) FROM unnest($2::uuid[]) AS one)
ORDER BY d.sort_name, c.id

-- name: language_in
SELECT d.language FROM interaction i JOIN contact_data d
    ON d.organisation_id = i.organisation_id AND d.contact = person_of(i.organisation_id, i.contact)
WHERE i.organisation_id = $1 AND i.id = $2

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
    AND (case_id = $2 OR interaction IN (SELECT i.id FROM interaction i WHERE i.organisation_id = $1 AND i.case_id = $2))
ORDER BY seq

-- name: notes_of_case
SELECT n.id, d.text FROM note n JOIN note_data d ON d.organisation_id = n.organisation_id AND d.note = n.id
WHERE n.organisation_id = $1 AND n.case_id = $2

-- name: path
SELECT p.interaction, p.tree, p.version, p.node, p.exit, p.seconds, coalesce(d.keys, '') AS keys, p.at
FROM path_step p LEFT JOIN path_data d
    ON d.organisation_id = p.organisation_id AND d.interaction = p.interaction AND d.step = p.step
WHERE p.organisation_id = $1 AND p.interaction = ANY ($2::uuid[]) ORDER BY p.step

-- name: interaction_ids_of_case
SELECT id FROM interaction WHERE organisation_id = $1 AND case_id = $2

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
