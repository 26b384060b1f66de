"""The HTTP edge: routes, their middleware, the server and what starts it."""
