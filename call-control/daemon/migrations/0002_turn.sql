-- When a user's TURN credentials were last taken back: his sessions of before end on every TURN server that may have them.
ALTER TABLE "user" ADD COLUMN turn_revoked_ms BIGINT;
