"""What Locust runs. Nothing else imports it: it brings gevent, which patches the interpreter."""
