"""All that is kept, in Redis; the only room that imports redis."""
