-- What came in and what is to go out (routing.store.Requests and Outbox). $1 is always the organisation.

-- name: add_requests
INSERT INTO request (organisation_id, id, account, at, headers, body, again_at)
SELECT $1, t.id, t.account, t.at, t.headers::jsonb, t.body, t.at
FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::text[], $6::bytea[]) AS t (id, account, at, headers, body)
ON CONFLICT (organisation_id, id) DO NOTHING

-- name: unhandled_requests
SELECT id, account, at, headers, body FROM (
    SELECT id, account, at, headers, body, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before_it
    FROM request
    WHERE organisation_id = $1 AND handled_at IS NULL AND again_at <= $2 AND NOT account = ANY ($4::text[])
        AND NOT id = ANY ($5::uuid[])
    ORDER BY id LIMIT $3
) r WHERE before_it < $6::bigint ORDER BY id

-- name: next_request
SELECT min(again_at) FROM request
WHERE organisation_id = $1 AND handled_at IS NULL AND NOT account = ANY ($2::text[]) AND NOT id = ANY ($3::uuid[])

-- name: handled_requests
UPDATE request r SET handled_at = $2, tries = r.tries + 1, result = t.result::jsonb
FROM unnest($3::uuid[], $4::text[]) AS t (id, result)
WHERE r.organisation_id = $1 AND r.id = t.id

-- name: request_later
UPDATE request SET again_at = $3, tries = tries + 1, result = $4, handled_at = NULL
WHERE organisation_id = $1 AND id = $2

-- name: request
SELECT id, account, at, headers, body, handled_at, tries, result FROM request WHERE organisation_id = $1 AND id = $2

-- name: latest_requests
SELECT id, account, at, headers, body, handled_at, tries, result FROM request
WHERE organisation_id = $1 AND ($2::text IS NULL OR account = $2)
ORDER BY at DESC, id DESC LIMIT $3

-- name: forget_requests
WITH gone AS (
    DELETE FROM request WHERE organisation_id = $1 AND handled_at < $2 RETURNING 1
)
SELECT count(*) FROM gone

-- name: take
WITH first AS (
    SELECT o.message, o.author = 'bot' AND i.state = 'active' AS late
    FROM outbox o
    JOIN interaction i ON i.organisation_id = o.organisation_id AND i.id = o.interaction
    WHERE o.organisation_id = $1 AND o.state = 'queued' AND o.not_before <= $2 AND NOT o.account = ANY ($6::text[])
        AND NOT EXISTS (
            SELECT FROM outbox e
            WHERE e.organisation_id = $1 AND e.thread = o.thread AND e.seq < o.seq AND e.state IN ('queued', 'taken')
        )
    ORDER BY o.seq LIMIT $5
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE outbox o SET
    state = CASE WHEN f.late THEN 'dropped' ELSE 'taken' END,
    why = CASE WHEN f.late THEN 'human_speaks' ELSE o.why END,
    ended_at = CASE WHEN f.late THEN $2::timestamptz END,
    worker = CASE WHEN f.late THEN NULL ELSE $3::uuid END,
    lease_until = CASE WHEN f.late THEN NULL ELSE $4::timestamptz END,
    tries = o.tries + CASE WHEN f.late THEN 0 ELSE 1 END
FROM first f
WHERE o.organisation_id = $1 AND o.message = f.message
RETURNING o.message, o.thread, o.interaction, o.account, o.author, o.tries, o.why, o.outgoing, o.seq, f.late

-- name: gone
SELECT message, external_id FROM message_part
WHERE organisation_id = $1 AND message = ANY ($2::uuid[]) ORDER BY message, part

-- name: went
INSERT INTO message_part (organisation_id, message, part, parts, chars, files, account, external_id, at)
SELECT $1, m.id, $3::integer, $4::integer, $5::integer, $6::integer, m.account, $7::text, $8::timestamptz
FROM message m WHERE m.organisation_id = $1 AND m.id = $2
ON CONFLICT DO NOTHING

-- The id of the last part, once all have gone.
-- name: gone_whole
SELECT max(external_id) FILTER (WHERE part = parts) FROM message_part
WHERE organisation_id = $1 AND message = $2 HAVING count(*) = max(parts)

-- name: mark_parts
UPDATE message_part SET status = $4
WHERE organisation_id = $1 AND account = $2 AND external_id = ANY ($3::text[])
    AND (status = 'sent' OR status = 'delivered' AND $4 = 'read')

-- name: least_of_parts
SELECT message, max(external_id) FILTER (WHERE part = parts) AS last,
    CASE WHEN bool_and(status = 'read') THEN 'read' WHEN bool_and(status <> 'sent') THEN 'delivered' ELSE 'sent' END AS least
FROM message_part
WHERE organisation_id = $1 AND message = ANY (ARRAY(
    SELECT message FROM message_part WHERE organisation_id = $1 AND account = $2 AND external_id = ANY ($3::text[])
))
GROUP BY message HAVING count(*) = max(parts)

-- name: renew
UPDATE outbox SET lease_until = $3 WHERE organisation_id = $1 AND worker = $2 AND state = 'taken'

-- name: named
UPDATE outbox SET external_id = $3 WHERE organisation_id = $1 AND message = $2 AND state = 'taken'

-- name: sent
UPDATE outbox SET state = 'sent', external_id = $3, ended_at = $4, told = false, worker = NULL, lease_until = NULL
WHERE organisation_id = $1 AND message = $2 AND state IN ('queued', 'taken', 'perhaps')

-- name: echoed
UPDATE outbox SET state = 'sent', external_id = $3, ended_at = $4, told = false
WHERE organisation_id = $1 AND message = $2 AND state IN ('queued', 'perhaps')

-- name: again
UPDATE outbox SET state = 'queued', not_before = $3, why = $4, worker = NULL, lease_until = NULL,
    tries = tries - CASE WHEN $5 THEN 0 ELSE 1 END
WHERE organisation_id = $1 AND message = $2 AND state = 'taken'

-- name: given_up
UPDATE outbox SET state = CASE WHEN $5 THEN 'perhaps' ELSE 'failed' END, ended_at = $3, why = $4, told = false,
    worker = NULL, lease_until = NULL
WHERE organisation_id = $1 AND message = $2 AND state = 'taken'

-- name: lost
UPDATE outbox SET state = 'perhaps', ended_at = $2, why = 'whoever sent it ended before its answer', told = false,
    worker = NULL, lease_until = NULL
WHERE organisation_id = $1 AND state = 'taken' AND lease_until < $2
RETURNING message

-- name: untold
SELECT message, state, external_id, why FROM outbox
WHERE organisation_id = $1 AND NOT told AND state IN ('sent', 'perhaps', 'failed', 'dropped')
ORDER BY seq LIMIT $2

-- name: told
UPDATE outbox o SET told = true
FROM unnest($2::uuid[], $3::text[]) AS t (message, state)
WHERE o.organisation_id = $1 AND o.message = t.message AND o.state = t.state

-- name: next_due
SELECT min(o.not_before) FROM outbox o
WHERE o.organisation_id = $1 AND o.state = 'queued' AND NOT o.account = ANY ($2::text[])
    AND NOT EXISTS (
        SELECT FROM outbox e
        WHERE e.organisation_id = $1 AND e.thread = o.thread AND e.seq < o.seq AND e.state IN ('queued', 'taken')
    )

-- name: lengths
SELECT account, count(*) FROM outbox WHERE organisation_id = $1 AND state IN ('queued', 'taken') GROUP BY account
