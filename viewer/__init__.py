"""The viewer: a scene in the browser, served by viser. Start with `server.open_server`."""
