"""The stream's wire protocol, without I/O: messages, the two ends' state, close codes."""
