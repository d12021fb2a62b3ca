"""Messages between peers: encoding, authentication, HTTP."""
