"""Where jobs live: the ``Store`` protocol and its implementations."""
