"""Names that the parts of a block share: processes agree on them, so they stand in one place."""

from typing import Final

JOB: Final = "bench"
SEED: Final = "bench-seed"
NOTE: Final = "one of the jobs of jobctl bench; its data is about as long as that of a job of somebody's"
SEEDED: Final = 150
"""Jobs that have ended before anybody looks: three pages of the list."""

SAMPLES: Final = 25
"""Times in the measured time at which what has been spent so far is noted, its end among them."""
GO: Final = "go.json"
"""What the clients are told to do and when; made when everybody is ready."""
READY: Final = "ready"
"""Made by the load generator once all clients stand by."""
CLIENTS: Final = "clients.json"
"""What the clients counted; made when all have finished."""
OBSERVATIONS: Final = "observations.jsonl"
COMMITS: Final = "commits.jsonl"
ENVIRONMENT: Final = "JOBCTL_BENCH_BLOCK"
"""The folder of the block, for the load generator."""
