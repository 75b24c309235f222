"""Parts of ``python -m bench.fanout``: the crowd that watches, and the servers that it watches, a process each."""
