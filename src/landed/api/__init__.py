"""The private port: what people and programs read over HTTP."""
