-- Where the phones are, so that a server that starts again reaches them before they register anew.

CREATE TABLE phone_binding (
    organisation_id uuid NOT NULL REFERENCES organisation,
    account         text NOT NULL,
    contact         text NOT NULL,
    params          text NOT NULL,
    transport       text NOT NULL,
    host            text NOT NULL,
    port            integer NOT NULL CHECK (port BETWEEN 0 AND 65535),
    call_id         text NOT NULL,
    cseq            bigint NOT NULL,
    instance        text NOT NULL,
    user_agent      text NOT NULL,
    expires_at      timestamptz NOT NULL,
    PRIMARY KEY (organisation_id, account, contact)
);
