-- Which secret signed a token: without it, one whose secret is no longer accepted looked live, and kept its name.
ALTER TABLE token ADD COLUMN key TEXT;            -- `auth.key_id` of the secret; not known of older tokens
