"""Runs jobs: which handlers there are, one run of one, and the loop that claims and keeps within its slots."""
