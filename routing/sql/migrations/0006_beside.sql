-- Several matters side by side in one thread: of each case one interaction lives in it. Checked when a transaction
-- ends, since within one an interaction may go to the case that another has just left.

ALTER TABLE thread ADD COLUMN beside jsonb NOT NULL DEFAULT '[]';   -- what lives in it besides `live`
ALTER TABLE thread
    ALTER COLUMN beside DROP DEFAULT,
    ADD CONSTRAINT one_lives_before_others CHECK (live IS NOT NULL OR beside = '[]');

DROP INDEX one_live_interaction_of_a_thread;
ALTER TABLE interaction ADD CONSTRAINT one_live_interaction_of_a_case_in_a_thread
    EXCLUDE USING btree (organisation_id WITH =, thread WITH =, case_id WITH =)
    WHERE (thread IS NOT NULL AND ended_at IS NULL)
    DEFERRABLE INITIALLY DEFERRED;
