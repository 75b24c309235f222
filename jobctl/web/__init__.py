"""The REST API: one Quart app, made by ``app.create_app`` from what ``service`` gives it."""
