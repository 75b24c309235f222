"""The clients of a block: HTTP/1.1 by h11 and the stream by wsproto, straight on sockets.

Every byte, connection and time is ours: no request is repeated, nothing is compressed, no connection is pooled unseen.
The code blocks; in the load generator gevent makes that cooperative. Nothing here imports trio or locust.
"""
