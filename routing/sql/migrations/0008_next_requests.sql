-- What is to be handled next, in the order in which it came, without a walk over all that has been handled.
CREATE INDEX request_next ON request (organisation_id, id) WHERE handled_at IS NULL;
