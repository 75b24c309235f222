-- Retention finds the jobs that ended first. A job enters at the end of its status' range, so that it costs little.
CREATE INDEX job_ended ON job (status, completed_at) WHERE completed_at IS NOT NULL;
