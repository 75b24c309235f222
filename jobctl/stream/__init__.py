"""The live stream: from a commit to the sockets of those who watch."""
