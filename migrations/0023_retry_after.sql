-- The Retry-After of a response, in seconds, as the agent sent it: the story of a job shows why its retry came late.
ALTER TABLE fires ADD COLUMN retry_after_s int4;
