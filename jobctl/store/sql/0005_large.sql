-- Data and results above 4 KiB stand apart (in `job` they are empty, which no JSON is): SQLite writes a row anew, whole,
-- with each change of it, and a list reads it whole.

CREATE TABLE job_data (
    job  INTEGER PRIMARY KEY,                     -- job.pk
    body BLOB NOT NULL
);
INSERT INTO job_data (job, body) SELECT pk, data FROM job WHERE length(data) > 4096;
UPDATE job SET data = x'' WHERE length(data) > 4096;

CREATE TABLE job_result (
    job  INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);
INSERT INTO job_result (job, body) SELECT pk, result FROM job WHERE length(result) > 4096;
UPDATE job SET result = x'' WHERE length(result) > 4096;
