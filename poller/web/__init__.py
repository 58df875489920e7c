"""What the service answers over HTTP: health, metrics, API, the page."""
