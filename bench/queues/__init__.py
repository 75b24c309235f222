"""What ``python -m bench.queue`` runs: jobctl's server, the peers, and the loads on them."""
