"""`sgdd play --web`: a local page and an HTTP API for one loaded model. Imported only when it is asked for."""
