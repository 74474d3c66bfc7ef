"""The stage where money goes out: make a run, approve it, send it, and find out what became of it."""
